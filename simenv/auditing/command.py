"""Runs an audit from named options: `simenv.audit(...)` and the command `simenv audit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simenv.auditing.records import Audit, AuditOptions, check_options
from simenv.auditing.report import write_report
from simenv.auditing.run import audit as audit_world
from simenv.background_loop import run_sync
from simenv.files.folders import make_folder
from simenv.mechanism import Mechanism
from simenv.records import Record
from simenv.runs.bench import named_and_given
from simenv.runs.build import build, plan
from simenv.runs.models import open_cassette
from simenv.runs.options import RunOptions, read_options

if TYPE_CHECKING:
    import pandas


class AuditCommandOptions(RunOptions, AuditOptions):
    """Options of an audit: those of the world, as in a benchmark, and the size of the audit."""

    horizon: int = 1
    """Queries per persona. The default is 1, so that a small audit covers many personas."""


@dataclass(frozen=True)
class AuditResult:
    """A finished audit."""

    report: Audit
    """What audit.json holds."""
    folder: Path | None
    """Where audit.json, report.md and the plots are; None if no folder was given."""
    warning: str | None = None
    """Set if the same model writes and judges; else None."""

    @property
    def table(self) -> pandas.DataFrame:
        """One row per mechanism and figure: mechanism, figure, value, low, high (NaN for a figure without interval)."""
        import pandas

        rows = []
        for label, audited in self.report.mechanisms.items():
            for name, figure in audited.model_dump().items():
                if isinstance(figure, dict) and {"value", "low", "high"} == set(figure):
                    rows.append((label, name, figure["value"], figure["low"], figure["high"]))
                elif isinstance(figure, int | float):
                    rows.append((label, name, figure, None, None))
        frame = pandas.DataFrame(rows, columns=["mechanism", "figure", "value", "low", "high"])
        return frame.astype({"value": float, "low": float, "high": float})


@dataclass
class AuditProgress:
    """Callbacks of an audit."""

    watch: Callable[[str, int, int], None] = field(default=lambda part, done, planned: None)
    """Called with (part, auctions done, auctions planned)."""
    say: Callable[[str], None] = field(default=lambda text: None)
    """Called with an estimate of the calls, after the first auction."""
    warned: Callable[[str], None] = field(default=lambda warning: None)
    """Called with a warning before anything runs."""


def audit(
    mechanisms: str | Sequence[str] | Mapping[str, str | Mechanism],
    *,
    out: str | Path | None = None,
    progress: AuditProgress | None = None,
    **options: Any,
) -> AuditResult:
    """Measures how much advertisers can gain by bids that differ from their values.

    Args:
        mechanisms: Names ("gsp", package.module:Class, file.py:Class), or label -> name or mechanism.
        out: A new folder for audit.json, report.md and plots; None: nothing is written.
        progress: Callbacks.
        options: Fields of `AuditCommandOptions`: those of `simenv audit`, with underscores.

    Raises:
        SimenvError: wrong options or data before anything runs; later, whatever a model or mechanism raises.
    """
    names, objects = named_and_given(mechanisms)
    command_options = read_options(AuditCommandOptions, {"mechanisms": names, **options})
    return run_audit(command_options, Path(out) if out is not None else None, objects=objects, progress=progress)


def run_audit(
    options: AuditCommandOptions,
    folder: Path | None = None,
    *,
    objects: Mapping[str, Mechanism] | None = None,
    progress: AuditProgress | None = None,
) -> AuditResult:
    """Runs the audit and writes `folder`, if one is given.

    Args:
        options: What to audit, and the size of the audit.
        folder: A new folder, or None.
        objects: Mechanisms as objects, by label, beside those that the options name.
        progress: Callbacks.

    Raises:
        SimenvError: as `audit`.
    """
    progress = progress or AuditProgress()
    audit_options = _part_of(options, AuditOptions)
    check_options(audit_options)
    checked = plan(options, objects)
    if folder is not None:
        make_folder(folder)
    parts = build(checked, open_cassette(options))
    if parts.warning is not None:
        progress.warned(parts.warning)
    report = run_sync(
        lambda: audit_world(
            parts.world,
            parts.mechanisms,
            audit_options,
            ctr_model=parts.ctr_model,
            rebuild=parts.rebuild if not objects else None,
            ad_llm=parts.ad_llm.name,
            watch=progress.watch,
            say=progress.say,
        )
    )
    if folder is not None:
        write_report(report, folder)
    return AuditResult(report, folder, parts.warning)


def _part_of(options: Record, kind: type[AuditOptions]) -> AuditOptions:
    return kind.model_validate({name: getattr(options, name) for name in kind.model_fields})
