"""`simenv export`: writes a run's log as training data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.errors import InputError
from simenv.runs.options import names_of


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="A .parquet or .jsonl file; FORMAT.parquet in this folder by default.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="clicks: one row per shown ad; preferences, sft or kto: as TRL's trainers read them; dataset: all of "
            "them in a folder for a dataset hub; inspect: logs for inspect view; gem: GEM-Bench's results, .json."
        ),
    ] = "clicks",
    min_gap: Annotated[
        float | None, typer.Option(help="preferences: minimum reward difference of a pair; default 10.")
    ] = None,
    min_reward: Annotated[
        float | None, typer.Option(help="sft: minimum reward of an auction's best answer, exclusive; default 0.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="clicks: also one row per candidate that was not shown.")
    ] = False,
    mechanisms: Annotated[
        str | None, typer.Option(help="Only the answers of these mechanisms: labels in the run, comma-separated.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train or test: only the personas of that part, by a hash of their ids.")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of the personas in the test part; default 0.2.")
    ] = None,
) -> None:
    """Writes a run's log as training data, and a dataset card in the same folder."""
    from simenv.datasets.export import export_run, failed_answers
    from simenv.datasets.write import writable

    if format == "inspect":
        _refuse("inspect", min_gap=min_gap, min_reward=min_reward, candidates=candidates or None, split=split)
        from simenv.integrations.inspect_log import write_logs

        out = out or Path("inspect")
        files = write_logs(run, out, mechanisms=names_of(mechanisms))
        console.line(f"{len(files)} logs to {out}: inspect view --log-dir {shlex.quote(str(out))}")
        return
    if format == "gem":
        _refuse("gem", min_gap=min_gap, min_reward=min_reward, candidates=candidates or None, split=split)
        from simenv.datasets.gem_results import export_results

        out = out or Path("gem.json")
        answers = export_results(run, out, names_of(mechanisms), left_out=console.left_out(sound_only))
        console.line(f"{answers} answers to {out}")
        return
    if format == "dataset":
        _refuse("dataset", split=split)
        from simenv.datasets.hub import export_dataset

        out = out or Path("dataset")
        parts = export_dataset(
            run,
            out,
            min_gap=10.0 if min_gap is None else min_gap,
            min_reward=0.0 if min_reward is None else min_reward,
            candidates=candidates,
            mechanisms=names_of(mechanisms),
            test_share=test_share,
            left_out=console.left_out(sound_only),
        )
        console.line(f"{sum(part.rows for part in parts)} rows in {len(parts)} files to {out}")
        return
    out = writable(f"{format}.parquet" if out is None else out)
    rows = export_run(
        run,
        out,
        format,
        min_gap=min_gap,
        min_reward=min_reward,
        candidates=candidates,
        mechanisms=names_of(mechanisms),
        split=split,
        test_share=test_share,
        left_out=console.left_out(sound_only),
    )
    failed = failed_answers(run, sound_only=sound_only)
    skipped = f"; {failed} answers that failed are left out" if failed else ""
    console.line(f"{rows} rows to {out}{skipped}")


def _refuse(format: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is no option of format {format}, got {value}")
