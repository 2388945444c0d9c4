"""Folders of models that are damaged, or that bring code of their own: one line says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import filelock
import pytest

from simenv.errors import DataFileError, InputError
from simenv.llm import make_llm, weights
from simenv.llm.local import LocalLLM

CODE = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).write_text("ran")


class MineConfig(LlamaConfig):
    model_type = "mine"


class Mine(LlamaForCausalLM):
    config_class = MineConfig
"""


def one_line(caught: pytest.ExceptionInfo[InputError]) -> str:
    (line,) = str(caught.value).splitlines()
    return line


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.mark.weights
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_cut_file_of_a_model_is_named(copied: Path, name: str) -> None:
    file = copied / name
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DataFileError) as caught:
        make_llm(f"local:{copied}")
    assert one_line(caught).startswith(f"{file}: damaged: ")
    assert "copy or download the model again" in one_line(caught)


@pytest.mark.weights
def test_a_model_that_transformers_does_not_know_is_refused_in_one_line(copied: Path) -> None:
    (copied / "config.json").write_text('{"model_type": "no such type"}', encoding="utf-8")
    with pytest.raises(DataFileError) as caught:
        LocalLLM(copied)
    assert one_line(caught).startswith(f"{copied}: not readable as a transformers model: ")


@pytest.fixture
def with_code(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that needs a Python file of its folder, which writes a file when it runs."""
    config: dict[str, Any] = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"},
    }
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (copied / "mine.py").write_text(CODE.format(marker=str(copied / "ran")), encoding="utf-8")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(copied / "modules"))
    return copied


@pytest.mark.weights
def test_code_of_a_model_is_not_run(with_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask, and take this answer
    with pytest.raises(InputError) as caught:
        make_llm(f"local:{with_code}")
    assert "needs code of its own (auto_map in config.json), which is not run" in one_line(caught)
    assert "if you trust who wrote it, set trust_remote_code" in one_line(caught)
    assert not (with_code / "ran").exists()


@pytest.mark.weights
def test_code_of_a_model_is_run_if_it_is_trusted(with_code: Path) -> None:
    llm = make_llm(f"local:{with_code}", trust_remote_code=True)
    assert isinstance(llm, LocalLLM)
    assert llm.trust_remote_code
    assert (with_code / "ran").read_text(encoding="utf-8") == "ran"


# The conversion of the embedded model's weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMENV_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "_package_file", lambda *_: tmp_path / "model.gguf")
    monkeypatch.setattr(weights, "_convert", lambda _, target: (target / "config.json").write_text("{}"))
    left = tmp_path / "smollm2-135m-instruct-bf16.unfinished-abc"
    left.mkdir()
    (left / "model.safetensors").write_text("half", encoding="utf-8")
    return tmp_path


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_what_an_interrupted_conversion_left_is_removed(cache: Path) -> None:
    assert weights.embedded_path() == cache / "smollm2-135m-instruct-bf16"
    assert folders(cache) == ["smollm2-135m-instruct-bf16"]
    (cache / "smollm2-135m-instruct-bf16.unfinished-def").mkdir()
    weights.embedded_path()  # the model is there: leftovers are removed all the same
    assert folders(cache) == ["smollm2-135m-instruct-bf16"]


def test_a_conversion_of_another_process_is_left_alone(cache: Path) -> None:
    (cache / "smollm2-135m-instruct-bf16").mkdir()
    (cache / "smollm2-135m-instruct-bf16" / "config.json").write_text("{}", encoding="utf-8")
    with filelock.FileLock(cache / "smollm2-135m-instruct-bf16.lock"):
        weights.embedded_path()
        assert len(folders(cache)) == 2
    weights.embedded_path()
    assert folders(cache) == ["smollm2-135m-instruct-bf16"]


def test_a_failed_conversion_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(source: Path, target: Path) -> None:
        (target / "config.json").write_text("{}", encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_convert", stopped)
    with pytest.raises(KeyboardInterrupt):
        weights.embedded_path()
    assert folders(cache) == []
