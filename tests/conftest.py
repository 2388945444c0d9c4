"""Shared fixtures. No test reaches a network beyond this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simenv.errors import MissingWeights
from simenv.llm import make_llm
from simenv.testing import ADS, PERSONAS

if TYPE_CHECKING:
    from simenv.llm.local import LocalLLM

# Neither import above loads torch: it reads these once, here and in the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores; several threads in each would fight for them


@pytest.fixture(autouse=True)
def _weights(request: pytest.FixtureRequest) -> None:
    """Tests marked `weights` fail with the command to run where the weights are not installed."""
    if request.node.get_closest_marker("weights"):
        from simenv.llm.weights import embedded_path, encoder_path

        try:
            encoder_path()
            embedded_path()
        except MissingWeights as error:
            pytest.fail(str(error))


@pytest.fixture(scope="session")
def embedded() -> LocalLLM:
    """The embedded model as it ships, loaded once; of the encoder, `default_encoder` does the same."""
    from simenv.llm.local import LocalLLM

    llm = make_llm("embedded")
    assert isinstance(llm, LocalLLM)
    return llm


@pytest.fixture(scope="session")
def on_torch() -> LocalLLM:
    """The embedded model on transformers, in float32."""
    from simenv.llm.local import LocalLLM
    from simenv.llm.weights import embedded_path

    return LocalLLM(embedded_path(), name="embedded", follows_formats=False, dtype="float32")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two small layers, with the embedded model's tokenizer: its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from simenv.llm.weights import embedded_path

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(embedded_path())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,  # far from uniform, so that an error shows
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name a small catalog and small personas without queries of their own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    personas = [persona.model_copy(update={"queries": ()}) for persona in PERSONAS]
    for name, records in (("ads", ADS), ("personas", personas)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
    return ["--catalog", str(tmp_path / "ads.jsonl"), "--personas", str(tmp_path / "personas.jsonl")]
