"""A run as one dataset in a folder that `datasets.load_dataset` reads, and that can be uploaded to a hub as it is.

README.md                    the dataset card: types, files, splits, counts, the run, licences of what was put in
data/FORMAT-SPLIT.parquet    the rows of one export format and of one part of the personas
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simenv.datasets.columns import FORMATS
from simenv.datasets.dataset_card import FORMAT_MEANINGS, about_run, columns_table, markdown, read_inputs
from simenv.datasets.export import Export, write_format
from simenv.datasets.front_matter import Part, front_matter
from simenv.datasets.selection import make_selection
from simenv.datasets.training_data import NoRows
from simenv.errors import InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import check_folder, ensure_folder

CARD, DATA = "README.md", "data"
SPLITS = ("train", "test")


def export_dataset(
    run: str | Path,
    out: str | Path,
    *,
    min_gap: float = 10.0,
    min_reward: float = 0.0,
    candidates: bool = False,
    mechanisms: Sequence[str] = (),
    test_share: float | None = None,
    left_out: Callable[[str], None] | None = None,
) -> list[Part]:
    """Writes all export formats of a run's log that have rows, each in two splits, and returns the files.

    A persona is in one split only: the same one in every format, run and version.

    Args:
        run: The folder of a run.
        out: A new or empty folder. `datasets.load_dataset(OUT, "clicks")` reads it.
        min_gap, min_reward, candidates, mechanisms, test_share, left_out: As in `export_run`.

    Raises:
        InputError: no format has a row, or a value is out of range.
        UnknownName: the run has no mechanism of a label.
        DataFileError: the folder is not empty, or the run cannot be read.
        CannotWrite: the folder cannot be written.
    """
    run, out = Path(run), Path(out)
    check_folder(out, otherwise="give a new folder")
    selections = {split: make_selection(mechanisms, split, test_share) for split in SPLITS}
    ensure_folder(out / DATA)
    parts = []
    for format in FORMATS:
        export = Export(format, min_gap, min_reward, candidates and format == "clicks")
        for split, selection in selections.items():
            file = out / DATA / f"{format}-{split}.parquet"
            try:
                rows = write_format(run, file, export, selection, left_out).rows
            except NoRows:
                continue
            if rows:
                parts.append(Part(format, split, f"{DATA}/{file.name}", rows, file.stat().st_size))
            else:
                file.unlink()
    if not parts:
        raise InputError(f"{run}: no answer of the run gives a row of any format")
    write_bytes_atomically(out / CARD, _card(run, parts).encode())
    return parts


def _card(run: Path, parts: Sequence[Part]) -> str:
    licence, inputs = read_inputs(run)
    formats = list(dict.fromkeys(part.format for part in parts))
    rows = {f"{part.format}, {part.split}": part.rows for part in parts}
    texts = [
        f"{front_matter(parts, licence)}\n\n# Run {run.resolve().name} of simenv",
        "Answers of a simulated assistant with ads, and what simulated users did. A persona is in one split only.",
        "## Rows\n\n" + markdown(("configuration, split", "rows"), rows),
        *(f"## {format}\n\n{FORMAT_MEANINGS[format]}\n\n{columns_table(format)}" for format in formats),
        *about_run(run, inputs),
    ]
    return "\n\n".join(texts) + "\n"
