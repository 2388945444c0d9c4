"""MLflow and Weights & Biases as trackers, without a server. Run by `.ci/frameworks trackers`."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import simenv
from simenv.cli import main as cli
from simenv.integrations.tracking import tracked

pytestmark = [pytest.mark.framework, pytest.mark.weights, pytest.mark.filterwarnings("default")]
BENCH = {"mechanisms": ["organic", "gsp"], "n": 4, "horizon": 2, "chunk": 2, "llm": "scripted"}


def test_mlflow_gets_a_run_in_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        from simenv.integrations.mlflow import MLflowTracker
    uri = (tmp_path / "mlruns").as_uri()
    tracker = MLflowTracker(uri, experiment="ads")
    result = simenv.bench(out=tmp_path / "run", progress=tracked(tracker), **BENCH)  # type: ignore[arg-type]
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("ads").experiment_id])
    assert found.info.run_id == tracker.run_id
    assert found.info.status == "FINISHED"
    assert found.data.params["mechanisms"] == "organic,gsp"
    revenue = result.table.set_index(["metric", "mechanism"]).loc[("revenue", "gsp")]
    assert found.data.metrics["final/gsp/revenue"] == pytest.approx(revenue["mean"])
    assert found.data.metrics["final/gsp/revenue_high"] == pytest.approx(revenue["high"])
    history = client.get_metric_history(tracker.run_id, "gsp/revenue")
    assert [point.step for point in history] == [2, 4]
    assert {file.path for file in client.list_artifacts(tracker.run_id)} == {"manifest.json", "table.csv", "table.md"}


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true", "PROJECT": "ads"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    options = ["--mechanisms", "organic,gsp", "--n", "4", "--horizon", "2", "--chunk", "2", "--llm", "scripted"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *options, "--out", str(tmp_path / "run"), "--track", "wandb"])
    assert ended.value.code == 0
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    logged = b"".join(file.read_bytes() for file in folder.glob("*.wandb"))
    assert b"gsp/revenue" in logged
    assert b"final/gsp/revenue_low" in logged
