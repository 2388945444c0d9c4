"""`simenv fit-ctr`: fits a CTR model to a run's clicks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.errors import UnknownName
from simenv.files.blocks import print_table
from simenv.records import Transition


def fit_ctr(
    run: Annotated[Path, typer.Argument(help="The folder of the run with the clicks.")],
    out: Annotated[Path, typer.Option(help="A new .json file; use it as --ctr-model learned:FILE.")],
    mechanism: Annotated[str | None, typer.Option(help="Use only the rows of this mechanism.")] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Fits a CTR model to a run's clicks and reports its predictions on held-out personas."""
    from simenv.ctr.learned import fit, held_out_quality, impressions
    from simenv.files.folders import check_new_file
    from simenv.runs.folder import read_transitions

    check_new_file(out)
    log = read_transitions(run, left_out=console.left_out(sound_only))
    rows = impressions(_of(mechanism, log))
    model = fit(rows, log=run.name)
    quality = held_out_quality(rows)
    model.save(out)
    header = ("model", "log loss", "AUC", "calibration error")
    cells = [(row.model, f"{row.log_loss:.3f}", f"{row.auc:.3f}", f"{row.calibration_error:.3f}") for row in quality]
    print_table(f"{len(rows)} impressions, every fifth persona held out", header, cells, console.out)
    console.line(f"each further place keeps {model.position_discount:.2f} of the clicks; written to {out}")


def _of(mechanism: str | None, log: Iterable[Transition]) -> Iterator[Transition]:
    """The answers of one mechanism; of all without a name.

    Raises:
        UnknownName: the log has no answer of it.
    """
    seen = set()
    for t in log:
        seen.add(t.mechanism)
        if mechanism in (None, t.mechanism):
            yield t
    if mechanism is not None and mechanism not in seen:
        raise UnknownName("mechanism of the run", mechanism, seen)
