"""Audits from option names: the same world as in a benchmark, with every one of its options."""

from __future__ import annotations

from pathlib import Path

import pytest

import simenv
from simenv.auditing.command import AuditCommandOptions
from simenv.cli.main import main
from simenv.errors import InputError
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.runs.build import build, plan
from simenv.runs.options import RunOptions

pytestmark = pytest.mark.weights
QUICK = {"n": 2, "advertisers": 1, "bids": 3, "curve_bids": 2, "collusion": 0, "wrong_ctr": 0, "play": 0}


def test_an_audit_has_every_option_of_a_run() -> None:
    assert set(RunOptions.model_fields) < set(AuditCommandOptions.model_fields)


def test_the_judges_of_an_ensemble_and_column_names_reach_the_audits_world(tmp_path: Path) -> None:
    (tmp_path / "ads.csv").write_text("product,text\nBoots,Dry on wet trails.\nTent,Light and quick.\n")
    options = AuditCommandOptions(
        mechanisms=("gsp",),
        llm="scripted",
        judge_ensemble=("click", "click#"),
        catalog=str(tmp_path / "ads.csv"),
        catalog_columns="title=product,body=text",
    )
    with pytest.raises(InputError, match="an ensemble needs two or more different judges"):
        build(plan(options))
    parts = build(plan(options.model_copy(update={"judge_ensemble": ("click", "embedded")})))
    assert isinstance(parts.world.judge, JudgeEnsemble)
    assert [ad.title for ad in plan(options).catalog] == ["Boots", "Tent"]


def test_one_ctr_model_serves_mechanisms_and_measurement() -> None:
    parts = build(plan(AuditCommandOptions(mechanisms=("gsp", "organic"), llm="scripted", ctr_model="oracle")))
    assert parts.mechanisms["gsp"].ctr_model is parts.ctr_model  # type: ignore[attr-defined]
    assert parts.ctr_model.name == "oracle"


def test_python_first() -> None:
    result = simenv.audit({"first": "first_price", "vcg": "vcg"}, llm="scripted", **QUICK)
    assert result.folder is None
    regret = result.table.set_index(["mechanism", "figure"])["value"]
    assert regret[("vcg", "regret_um_own")] == pytest.approx(0.0)
    assert regret[("first", "regret_um_own")] >= 0.0
    assert set(result.table["figure"]) >= {"revenue", "welfare", "efficiency", "largest_jump"}
    assert result.report.mechanisms["vcg"].claims == tuple(sorted(simenv.make_mechanism("vcg").claims))  # type: ignore[attr-defined]


def test_the_report_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    label = "../$\\x$|<b>"  # no path, TeX, cell or tag: it is text in the plots and in the table
    result = simenv.audit(f"{label}=gsp", llm="scripted", out=tmp_path / "audit", **QUICK)
    assert result.folder == tmp_path / "audit"
    assert "| ../$\\x$\\|&lt;b> | " in (result.folder / "report.md").read_text(encoding="utf-8")
    assert not list(tmp_path.parent.glob("$*"))
    assert {path.name for path in result.folder.iterdir()} >= {"audit.json", "report.md"}
    with pytest.raises(InputError, match="is not empty: give a new folder"):
        simenv.audit("gsp", llm="scripted", out=tmp_path / "audit", **QUICK)


def test_the_command_takes_the_options_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = "--n 1 --advertisers 1 --bids 3 --curve-bids 2 --collusion 0 --wrong-ctr 0 --play 0"
    command = f"audit gsp --llm scripted --values lognormal --set lognormal.median=20 --set gsp.slots=1 {few}"
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 0
    assert "gsp" in capsys.readouterr().out
