"""The policy and its training on a tiny random model with the embedded model's tokenizer."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mechanisms.llm_auction import lora
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.models import new_policy
from mechanisms.llm_auction.policy import AdaptedLLM, cell
from mechanisms.llm_auction.served import AdapterServer
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.train import LLMAuctionTrainer, Training
from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.errors import DataFileError, InputError, LLMRefused, LLMUnavailable
from simenv.llm import PLAIN, OneOf
from simenv.llm.local import LocalLLM
from simenv.llm.weights import embedded_path
from simenv.mechanism import run_mechanism
from simenv.testing.fake_openai import FakeOpenAI
from simenv.testing.fake_roles import FakeRoles
from tests.support.auctions import make_auction
from tests.support.paths import ROOT
from tests.support.tiny_training import QUIET, SMALL, shaken

pytestmark = pytest.mark.weights


@pytest.mark.parametrize("max_ads", [0, 1, 2])
def test_one_forward_pass_gives_the_distribution_that_decoding_samples_from(tiny: Path, max_ads: int) -> None:
    policy = shaken(tiny)
    offers = [offer(make_auction([90.0, 20.0, 55.0][:n], max_ads=max_ads)) for n in (3, 1, 2)]
    with torch.no_grad():
        tables = policy.log_probs(offers)
    for one, table in zip(offers, tables, strict=True):
        choices, n = one.choices(), len(one.bids)
        assert float(table.exp().sum()) == pytest.approx(1.0)
        assert torch.isfinite(table).sum() == len(choices)
        if not max_ads:
            continue
        answers = OneOf(options=tuple(map(one.answer, choices)))
        rows = asyncio.run(policy.logprob(one.prompt, answers.options, sampling=PLAIN, constraint=answers))
        assert [float(table[cell(choice, n)]) for choice in choices] == pytest.approx(list(map(sum, rows)), abs=1e-4)


def test_gradients_reach_every_layer_of_the_adapter_and_no_other(tiny: Path) -> None:
    policy = shaken(tiny)
    (table,) = policy.log_probs([offer(make_auction([90.0, 20.0, 55.0]))])
    table[0, 1].backward()  # type: ignore[no-untyped-call]
    # The value, output and feed-forward layers of the last block see the loss; so do keys and queries.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.trained.values())
    assert all(p.grad is None for name, p in policy._model.named_parameters() if "lora" not in name)


def test_an_adapter_is_saved_in_pefts_format_and_comes_back(tiny: Path, tmp_path: Path) -> None:
    policy, one = shaken(tiny), offer(make_auction([90.0, 20.0]))
    with torch.no_grad():
        for parameter in policy.trained.values():
            parameter.copy_(parameter.bfloat16())  # in which it is kept
    fresh = AdaptedLLM(tiny, r=2)
    lora.save(tmp_path, policy.trained, 2, 16.0, "tiny")
    back = AdaptedLLM(tiny, tmp_path)
    back._model.float()
    fresh._model.float()
    with torch.no_grad():
        expected, base, got = (llm.log_probs([one])[0].exp() for llm in (policy, fresh, back))
    assert torch.allclose(got, expected, atol=1e-5)
    assert not torch.allclose(base, expected, atol=0.1)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 16.0)
    with pytest.raises(DataFileError, match="not a LoRA adapter"):
        AdaptedLLM(tiny, tmp_path / "nowhere")
    with pytest.raises(DataFileError, match="belongs to another model"):
        AdaptedLLM(embedded_path(), tmp_path)


def test_a_training_may_start_from_an_adapter(tiny: Path, tmp_path: Path) -> None:
    saved = shaken(tiny)
    lora.save(tmp_path / "saved", saved.trained, 2, 16.0, "tiny")
    options = SMALL | {"llm": f"local:{tiny}", "start": str(tmp_path / "saved")}
    policy = new_policy(parse(Config, options))
    for name, value in saved.trained.items():
        assert torch.equal(policy.trained[name], value.bfloat16().float())
    with pytest.raises(InputError, match=r"has r 2, alpha 16.0 and blocks .*; this training has r 4, alpha 16.0"):
        new_policy(parse(Config, options | {"r": 4}))
    with pytest.raises(InputError, match=r"this training has r 2, alpha 8.0"):
        new_policy(parse(Config, options | {"alpha": 8.0}))
    with pytest.raises(DataFileError, match="not a LoRA adapter"):
        new_policy(parse(Config, options | {"start": str(tmp_path)}))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_peft_reads_the_adapter(tiny: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    policy = shaken(tiny)
    lora.save(tmp_path, policy.trained, 2, 16.0, "tiny")
    back = AdaptedLLM(tiny, tmp_path)
    back._model.float()
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16).float()  # bf16 weights, exact sums
    theirs = peft.PeftModel.from_pretrained(base, tmp_path)
    ids = torch.arange(100, 140)[None]
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, back._model(ids).logits, atol=1e-3)


def run(tiny: Path, out: Path, **options: Any) -> None:
    LLMAuctionTrainer().train({**SMALL, "llm": f"local:{tiny}", **options}, out, QUIET)


def test_a_training_that_is_cut_off_goes_on_exactly(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny, tmp_path / "whole", warm_start=2)
    # In and after the warm start, amid an epoch, after one.
    save, saved, fatal = Training._save, 0, (3, 5, 8, 11)

    def dying(self: Training) -> None:
        nonlocal saved
        save(self)
        saved += 1
        if saved in fatal:
            (self.out / "state.part").write_bytes(b"torn")
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_save", dying)
    deaths = 0
    while True:
        try:
            run(tiny, tmp_path / "cut", warm_start=2)
            break
        except KeyboardInterrupt:
            deaths += 1
    assert deaths == len(fatal)
    for name in ("adapter_model.safetensors", "curve.csv", "pctr.safetensors", "epochs/2/adapter_model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    manifest = json.loads((tmp_path / "cut" / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["seconds"]["updates"] > 0
    with pytest.raises(InputError, match="other options: seed was 0, now 1"):
        run(tiny, tmp_path / "cut", warm_start=2, seed=1)


@pytest.mark.parametrize(("loss", "reward"), [("regression", "oracle"), ("dpo", "pctr")])
def test_training_moves_the_policy(tiny: Path, tmp_path: Path, loss: str, reward: str) -> None:
    run(tiny, tmp_path / "out", loss=loss, reward=reward, delta=1.0, epochs=1)
    rows = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    first, last = (dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in (rows[1], rows[-1]))
    assert float(first["kl"]) == 0
    assert float(last["kl"]) > 0
    assert int(last["used"]) > 0
    assert (tmp_path / "out" / "curve.png").is_file()


def test_the_best_epochs_adapter_is_what_loads(tiny: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path / "out")
    best = json.loads((tmp_path / "out" / "manifest.json").read_text())["best_epoch"]
    kept = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    assert kept == (tmp_path / "out" / "epochs" / str(best) / "adapter_model.safetensors").read_bytes()
    AdaptedLLM(tiny, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["llm-acution"], "unknown trainer 'llm-acution': did you mean llm-auction?"),
        (["llm-auction", "--set", "epoch=3"], "training option epoch"),
        (["llm-auction", "--epochs", "0"], "training option epochs: Input should be greater than or equal to 1"),
        (["llm-auction", "--config", "none.toml"], "none.toml: no such file"),
        (["llm-auction", "--set", "epochs"], "expected OPTION=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", *arguments, "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_micro_batches_change_nothing_but_memory(tiny: Path, tmp_path: Path) -> None:
    for name, changes in {"whole": {"micro_batch": 8}, "parts": {"micro_batch": 1, "checkpointing": True}}.items():
        run(tiny, tmp_path / name, epochs=1, batch=3, **changes)
    whole, parts = ((tmp_path / name / "curve.csv").read_text().splitlines()[-1] for name in ("whole", "parts"))
    numbers = [[float(x) for x in row.split(",") if x] for row in (whole, parts)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=0.02)  # bf16: sums in another order


class VariedAnswers(FakeRoles):
    """FAKE: judges as its parent does, and shows another ad in each answer."""

    def one_call(self, user: str) -> str:
        listed = re.findall(r'"id": "([^"]+)", "title": "([^"]+)"', user)
        ad_id, title = listed[self.seen["one_call"] % len(listed)]
        return f"Walk to the shop. @{title}@[{ad_id}] is near."


def test_the_scale_of_the_paper_in_small(tiny: Path, tmp_path: Path) -> None:
    """`examples/train_at_scale.toml` in all but size: a server samples with the present adapter, another one judges."""
    config = tomllib.loads((ROOT / "examples" / "train_at_scale.toml").read_text())
    small = {"auctions": 4, "clicked_auctions": 6, "responses": 2, "samples": 3, "validation": 2, "epochs": 2, "r": 2}
    small |= {"llm": f"local:{tiny}", "candidates": [4], "delta": 0.0, "answer_tokens": 40, "threads": 1, "batch": 2}
    with FakeOpenAI(VariedAnswers()) as server:
        small |= {"judge_api_base": server.url, "sampler": server.url, "sampler_folder": str(tmp_path / "served")}
        LLMAuctionTrainer().train({**config, **small, "pctr_steps": 20}, tmp_path / "out", QUIET)
    assert sum(path == "/v1/load_lora_adapter" for path in server.paths) == 3  # before, and after each epoch
    ((_, folder),) = server.adapters.items()
    last = load_file(tmp_path / "out" / "epochs" / "2" / "adapter_model.safetensors")
    served = load_file(f"{folder}/adapter_model.safetensors")
    assert all(bool((served[key] == value).all()) for key, value in last.items())
    with (tmp_path / "out" / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(float(row["loss"]) > 0 for row in rows[1:])
    mechanism = make_mechanism("llm_auction", context={"llm": LocalLLM(tiny)}, adapter=tmp_path / "out", format="json")
    outcome = run_sync(run_mechanism, mechanism, make_auction([50.0, 20.0]))
    assert outcome.usage.calls == 1


def test_a_server_that_loads_no_adapters_is_an_error_with_a_hint(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=2)
    with FakeOpenAI(lambda messages: "Walk.") as server:
        server.fail_next(1, "500")
        with pytest.raises(LLMRefused, match="load_lora_adapter: status 500") as refused:
            AdapterServer(policy, server.url, r=2, alpha=4.0).llm()
    assert "--enable-lora" in str(refused.value.hint)
    for url in (server.url, "http://127.0.0.1:port/v1", "127.0.0.1/v1"):
        with pytest.raises(LLMUnavailable, match="load_lora_adapter"):
            AdapterServer(policy, url, r=2, alpha=4.0).llm()
    with pytest.raises(InputError, match="sampler: only for level answers, got level links"):
        parse(Config, {"sampler": "http://127.0.0.1:8000/v1"})
