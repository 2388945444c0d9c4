"""Damaged adapters and states of trainings: one line names the file and says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mechanisms.llm_auction import lora
from mechanisms.llm_auction.folder import read_state, save_state
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.reward_model import FILE, load
from simenv.errors import DataFileError


def one_line(caught: pytest.ExceptionInfo[DataFileError]) -> str:
    (line,) = str(caught.value).splitlines()
    return line


class Model:
    """What `lora.load` reads of a model before it reads the adapter: nothing."""


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    parameters = {
        f"base_model.model.model.layers.0.q_proj.lora_{part}.weight": torch.nn.Parameter(torch.ones(2, 2))
        for part in "AB"
    }
    lora.save(tmp_path, parameters, 2, 16.0, "tiny")
    return tmp_path


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_file_of_an_adapter_is_named(adapter: Path, name: str, share: float) -> None:
    file = adapter / name
    os.truncate(file, int(file.stat().st_size * share) - (share == 0.99))
    with pytest.raises(DataFileError) as caught:
        lora.load(Model(), adapter)
    assert one_line(caught).startswith(f"{file}: damaged: ")
    assert "copy the adapter again" in one_line(caught)


@pytest.mark.parametrize(
    "config", ["[]", "{}", '{"r": null}', '{"r": 0, "lora_alpha": 1}', '{"r": 1e999}', '{"r": 1e308, "lora_alpha": 1}']
)
def test_another_configuration_of_an_adapter_is_refused(adapter: Path, config: str) -> None:
    (adapter / "adapter_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(DataFileError, match="not a LoRA adapter: "):
        lora.load(Model(), adapter)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_cut_state_of_a_training_is_named(tmp_path: Path, share: float) -> None:
    config = Config()
    save_state(tmp_path, config, {"epoch": 1, "lora": {"a": torch.ones(50, 50)}})
    assert (read_state(tmp_path, config) or {})["epoch"] == 1
    file = tmp_path / "state.pt"
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(DataFileError) as caught:
        read_state(tmp_path, config)
    assert one_line(caught).startswith(f"{file}: damaged, or not the state of a training: ")
    assert "train into a new folder" in one_line(caught)


@pytest.mark.parametrize("content", [{}, {"config": 7}, {"config": "[]"}, [1], {"config": "{"}])
def test_a_file_of_torch_that_is_no_state_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(DataFileError, match="not the state of a training"):
        read_state(tmp_path, Config())


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 40])
def test_a_damaged_click_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        load(tmp_path, None)  # type: ignore[arg-type]  # the encoder comes after the file
    assert one_line(caught).startswith(f"{tmp_path / FILE}: not a pCTR model, or damaged: ")
