"""inspect_ai: logs of runs, and simenv as a task. Run by `.ci/frameworks inspect`."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv.cli import main as cli
from simenv.env.environment import NativeAdsEnv
from simenv.integrations.turns import session_sums

pytestmark = [pytest.mark.framework, pytest.mark.weights, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def ours() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from simenv.integrations import inspect_ai, inspect_log
    return inspect_ai, inspect_log


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> simenv.BenchResult:
    out = tmp_path_factory.mktemp("inspect") / "run"
    return simenv.bench(["organic", "gsp"], n=6, horizon=2, llm="scripted", out=out)


def test_the_command_writes_a_log_for_each_mechanism(
    ours: Any, result: simenv.BenchResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    out = tmp_path / "logs"
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", str(result.folder), "--format", "inspect", "--out", str(out)])
    assert ended.value.code == 0
    assert "2 logs to" in capsys.readouterr().out
    logs = {log.eval.task_args["mechanism"]: log for log in map(read_eval_log, list_eval_logs(str(out)))}
    assert list(logs) == ["organic", "gsp"] or list(logs) == ["gsp", "organic"]
    gsp = logs["gsp"]
    assert gsp.status == "success"
    assert gsp.eval.viewer.trust_content is False
    assert len(gsp.samples) == 3
    answers = [t for t in result.records if t.mechanism == "gsp"]
    sample = gsp.samples[0]
    assert [message.text for message in sample.messages] == [
        text for turn in answers[:2] for text in (turn.auction.query.text, turn.outcome.response)
    ]
    assert sample.scores["simenv"].value == pytest.approx(session_sums(answers[:2]))
    assert [event.event for event in sample.events] == ["span_begin", "info", "info", "info", "span_end"] * 2
    assert sample.metadata["persona"] == answers[0].persona_id
    revenue = result.table.set_index(["metric", "mechanism"]).loc[("revenue", "gsp")]
    told = next(score for score in gsp.results.scores if score.name == "revenue")
    numbers = {name: metric.value for name, metric in told.metrics.items()}
    assert numbers == pytest.approx({"mean": revenue["mean"], "low": revenue["low"], "high": revenue["high"]})


def test_the_same_run_gives_the_same_bytes(ours: Any, result: simenv.BenchResult, tmp_path: Path) -> None:
    _, inspect_log = ours
    files = [inspect_log.write_logs(result.folder, tmp_path / name) for name in ("one", "two")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert inspect_log.write_logs(result.folder, tmp_path / "eval", format="eval")[0].suffix == ".eval"


def test_a_task_runs_the_sessions_of_the_environment(ours: Any, tmp_path: Path) -> None:
    from inspect_ai import eval as evaluate

    inspect_ai, _ = ours
    task = inspect_ai.native_ads("gsp", sessions=2, seed=3, llm="scripted", horizon=2)
    log = evaluate(task, model="none", log_dir=str(tmp_path), display="none")[0]
    assert log.status == "success", log.error
    env = NativeAdsEnv(horizon=2)
    mechanism = simenv.make_mechanism("gsp", llm=simenv.make_llm("scripted"))
    for number, sample in enumerate(log.samples):
        env.reset(seed=3, options={"session": number})
        turns = [env.step(mechanism)[4]["transition"] for _ in range(2)]
        assert sample.scores["simenv"].value == pytest.approx(session_sums(turns), nan_ok=True)  # no quality measure
        assert [message.text for message in sample.messages][1::2] == [turn.outcome.response for turn in turns]
        facts = [event.data for event in sample.events if event.event == "info" and event.source == "simenv"]
        assert [len(turn["shown"]) for turn in facts] == [len(turn.outcome.placements) for turn in turns]
    means = next(score for score in log.results.scores if score.name == "reward").metrics
    assert means["mean"].value == pytest.approx(sum(s.scores["simenv"].value["reward"] for s in log.samples) / 2)


def test_the_evaluated_model_writes_the_texts(ours: Any, tmp_path: Path) -> None:
    from inspect_ai import eval as evaluate
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    inspect_ai, _ = ours
    said = ModelOutput.from_content("mockllm", "Bring a coat.")
    said.usage = ModelUsage(input_tokens=30, output_tokens=4, total_tokens=34)  # else a tokenizer is fetched
    model = get_model("mockllm/model", custom_outputs=[said] * 20)
    task = inspect_ai.native_ads("prompted", sessions=1, horizon=2, quality="embedded")
    log = evaluate(task, model=model, log_dir=str(tmp_path), display="none")[0]
    assert log.status == "success", log.error
    sample = log.samples[0]
    assert [message.text for message in sample.messages][1::2] == ["Bring a coat."] * 2
    assert sum(event.event == "model" for event in sample.events) == 2
    assert sample.scores["simenv"].value["reward"] == 0.0
    assert not math.isnan(sample.scores["simenv"].value["satisfaction"])


def test_inspect_finds_the_task_by_name(ours: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inspect_ai", "eval", "simenv/native_ads", "--model", "none", "--display", "plain"]
    options = ["-T", "llm=scripted", "-T", "sessions=1", "-T", "horizon=1", "--log-dir", str(tmp_path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*.eval"))) == 1
