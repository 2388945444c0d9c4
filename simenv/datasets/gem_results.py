"""Answers of a run as GEM-Bench's results, and GEM-Bench's grades of them as feedback of the run.

GEM-Bench (arXiv 2509.14221) saves answers as one JSON object: "SOLUTION|DATA SET|REPEAT" -> list of results with
prompt, category, solution, content, product (name, category, desc, url) and price (in_token, out_token, price). Its
evaluation is a list of [[solution, data set, repeat, grade's name, category, query, [answer, product]], grade].
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simenv.datasets.gem_json import read_json
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.files.atomic import replacing
from simenv.files.folders import check_folder, try_file
from simenv.files.limits import read_bytes
from simenv.markup import strip_markup
from simenv.quality.gem import ad_sentences
from simenv.records import Ad, Gem, Quality, Transition
from simenv.runs.bench import result_of
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.log import LeftOut
from simenv.runs.options import options_of_manifest
from simenv.text import sentences

DATA_SET = "simenv"
_GRADES = {
    "accuracy": "accuracy",
    "naturalness": "naturalness",
    "integrity": "naturalness",
    "personality": "personality",
    "trust": "trust",
    "notice_products": "notice",
    "click_products": "click",
}
"""GEM-Bench's name of a grade -> ours. Its documents call naturalness integrity."""


class Graded(NamedTuple):
    """What was imported."""

    grades: int
    """Grades of answers of the run; several of one answer and name are one mean."""
    answers: int
    """Answers with a grade."""
    unknown: int
    """Grades of answers that the run does not have."""


def export_results(
    run: str | Path, out: str | Path, mechanisms: Sequence[str] = (), *, left_out: LeftOut | None = None
) -> int:
    """Writes the answers of a run as GEM-Bench's results, and returns how many. Failed answers are left out.

    The content is the answer without mark-up: a link is its title. The product is the answer's first ad, or has null
    for each field; tokens and price are the mechanism's, null where a server did not count them.

    Args:
        run: The folder of a run.
        out: A .json file; an existing one is replaced.
        mechanisms: Labels of the mechanisms whose answers are exported; all by default.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        InputError: another ending than .json.
        UnknownName: the run has no mechanism of a label.
        DataFileError: the folder holds no run, or its log is damaged.
        CannotWrite: the file cannot be written.
    """
    out = Path(out)
    if out.suffix != ".json":
        raise InputError(f"{out}: cannot write files of type {out.suffix!r}, expected .json")
    try_file(out)
    labels = dict.fromkeys(t.mechanism for t in read_transitions(run, left_out=left_out))
    for label in mechanisms:
        if label not in labels:
            raise UnknownName("mechanism of the run", label, labels)
    total = 0
    with replacing(out) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        # One mechanism after the other, answer by answer: a run need not fit into memory.
        for place, label in enumerate(mechanisms or labels):
            file.write(f"{',' if place else '{'}\n{json.dumps(_key(label), ensure_ascii=False)}: [")
            rows = read_transitions(run, left_out=None if left_out is None else _said_already)
            ours = (result(t) for t in rows if t.mechanism == label and t.error is None)
            for number, row in enumerate(ours):
                file.write(f"{',' if number else ''}\n{json.dumps(row, ensure_ascii=False)}")
                total += 1
            file.write("\n]")
        file.write("\n}\n")
    return total


def _said_already(text: str) -> None:
    """The first pass over a damaged log says what is left out."""


def result(transition: Transition) -> dict[str, Any]:
    """An answer as one of GEM-Bench's results."""
    t, usage = transition, transition.outcome.usage
    ads = _shown(t)
    return {
        "prompt": t.auction.query.text,
        "category": t.auction.query.topic or "General",
        "solution": _solution(t.mechanism),
        "content": strip_markup(t.outcome.response),
        "product": _product(ads[0] if ads else None),
        "price": {
            "in_token": usage.prompt_tokens,
            "out_token": usage.completion_tokens,
            "price": usage.cost_usd,
        },
    }


def import_grades(run: str | Path, grades: str | Path, out: str | Path) -> Graded:
    """Copies a run, with GEM-Bench's grades of its answers in place of those that it has, and writes its tables.

    A grade belongs to the answers of its mechanism with its question and its text, as `export_results` wrote them. The
    grades of several repeats are averaged. An answer that is not graded keeps what it had.

    Args:
        run: The folder of a run.
        grades: GEM-Bench's evaluation, a .json file.
        out: A new folder.

    Raises:
        DataFileError: the run or the evaluation cannot be read, or `out` holds files already.
        InputError: none of the grades is of an answer of the run, `out` is in its folder, or another version of simenv
            wrote it.
        CannotWrite: the folder cannot be written.
    """
    of_answers = read_grades(grades)
    out = Path(out)
    if out.resolve().is_relative_to(Path(run).resolve()):
        raise InputError(f"{out}: is in the folder of the run, {run}: give a new folder elsewhere")
    check_folder(out, ignored=lambda file: False, otherwise="give a new folder")
    changed: dict[tuple[int, str], Transition] = {}
    met: set[tuple[str, str, str]] = set()
    for t in read_transitions(run):
        key = (_solution(t.mechanism), t.auction.query.text, strip_markup(t.outcome.response))
        if t.error is None and key in of_answers:
            met.add(key)
            changed[t.index, t.mechanism] = with_grades(t, of_answers[key])
    unknown = sum(len(names) for key, names in of_answers.items() if key not in met)
    if not changed:
        raise InputError(
            f"{grades}: none of its {unknown} grades is of an answer of {run}",
            hint="grade the file that export writes in the format gem, and keep prompt, solution and content",
        )
    shutil.copytree(run, out, dirs_exist_ok=True)
    folder, *_ = RunFolder.reopen(out)
    folder.replace(changed)
    digest = hashlib.sha256(read_bytes(Path(grades))).hexdigest()
    folder.finish(gem_grades={"file": str(grades), "sha256": digest})
    result_of(out, folder.manifest, options_of_manifest(folder.manifest["options"], str(out)))
    return Graded(sum(len(of_answers[key]) for key in met), len(changed), unknown)


def with_grades(transition: Transition, grades: Mapping[str, float]) -> Transition:
    """The answer with these grades in `feedback.quality.gem`; GEM-Bench's other quantities stay, or are None."""
    quality = transition.feedback.quality or Quality()
    gem = quality.gem
    if gem is None:
        ads = _shown(transition)
        has_ad = ad_sentences(sentences(strip_markup(transition.outcome.response)), ads)
        nothing = dict.fromkeys(("flow", "coherence", "transition", "transition_least", "alignment"))
        gem = Gem(**nothing, has_ad=100.0 if has_ad else 0.0, injected=100.0 if ads else 0.0)
    unread = tuple(name for name in gem.unread if name not in grades)
    quality = quality.model_copy(update={"gem": gem.model_copy(update={**grades, "unread": unread})})
    return transition.model_copy(
        update={"feedback": transition.feedback.model_copy(update={"quality": quality})},
    )


def read_grades(path: str | Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """GEM-Bench's evaluation: (solution, query, answer) -> our name of a grade -> mean grade.

    Quantities that are no judged grades are left out.

    Raises:
        DataFileError: the file cannot be read, or is no such list.
    """
    rows = read_json(Path(path))
    if not isinstance(rows, list):
        raise DataFileError(f"{path}: expected a list of [key, grade], got {type(rows).__name__}")
    found: defaultdict[tuple[str, str, str], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(rows, start=1):
        try:
            (solution, _, _, name, _, query, (answer, _)), grade = row
            valid = type(grade) in (int, float) and 0 <= grade <= 100 and isinstance(name, str)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise DataFileError(
                f"{path}, entry {number}: expected [[solution, data set, repeat, name, category, query, [answer, "
                f"product]], grade of 0 to 100], got {row!r:.120}"
            )
        if name in _GRADES:
            found[str(solution), str(query), str(answer)][_GRADES[name]].append(float(grade))
    return {key: {name: sum(values) / len(values) for name, values in grades.items()} for key, grades in found.items()}


def _key(label: str) -> str:
    return f"{_solution(label)}|{DATA_SET}|0"


def _solution(label: str) -> str:
    return label.replace("|", "/")  # GEM-Bench splits keys at |


def _shown(t: Transition) -> list[Ad]:
    return [t.auction.bid_of(placement.ad_id).ad for placement in t.outcome.placements]


def _product(ad: Ad | None) -> dict[str, str | None]:
    if ad is None:
        return dict.fromkeys(("name", "category", "desc", "url"))
    return {"name": ad.title, "category": ad.category, "desc": ad.body, "url": ad.url}
