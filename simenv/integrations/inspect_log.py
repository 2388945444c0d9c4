"""A run as logs of inspect_ai, so that `inspect view` shows its transcripts: one log per mechanism, a sample a session.

The logs hold what the run's folder holds and no other time or id, so the same run gives the same bytes. Texts of ads,
users and models are marked as untrusted: the viewer shows them as plain text.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from simenv.errors import InputError, UnknownName
from simenv.files.atomic import replacing
from simenv.files.folders import ensure_folder
from simenv.integrations.missing import missing
from simenv.integrations.turns import session_sums, turn_facts
from simenv.records import Transition
from simenv.runs.folder import read_manifest, read_transitions
from simenv.runs.metrics import METRICS
from simenv.runs.summary import Cell, table_of
from simenv.runs.tally_run import tally_of_run

try:
    from inspect_ai.event import Event, InfoEvent, SpanBeginEvent, SpanEndEvent
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalSample,
        EvalScore,
        EvalSpec,
        EvalStats,
        write_eval_log,
    )
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageUser,
        ModelOutput,
    )
    from inspect_ai.scorer import Score
    from inspect_ai.viewer import ViewerConfig
except ModuleNotFoundError as error:
    raise missing(error, "inspect_ai", "inspect") from None

SCORER = "simenv"
"""Name of the scorer of the samples; its values are those of `session_sums`."""
TABLE = "table"
"""Name of the scorer of the results: the run's table, per answer, with its intervals."""
VIEWER = ViewerConfig(trust_content=False)


def write_logs(
    run: str | Path, out: str | Path, *, format: Literal["json", "eval"] = "json", mechanisms: Sequence[str] = ()
) -> list[Path]:
    """Writes a run's answers as logs of inspect_ai, one file per mechanism, and returns the files.

    A sample is a session. Its messages are the questions and answers, its events what was bid, paid, clicked and
    measured, and its scores the sums of `session_sums`. The results are those of the run's table. All samples of a
    run are in memory at once, at about three times the size of the run's transitions.jsonl.

    Args:
        run: The folder of a run.
        out: A folder; it is created. `inspect view --log-dir OUT` shows it.
        format: json: the same bytes each time. eval: smaller, and faster to open; it has the time of writing in it.
        mechanisms: Labels of the mechanisms that are written; all by default.

    Raises:
        InputError: another format, or inspect_ai is not installed.
        UnknownName: the run has no mechanism of a label.
        DataFileError: the folder holds no run, or it cannot be read.
        CannotWrite: the logs cannot be written.
    """
    if format not in ("json", "eval"):
        raise InputError(f"unknown format {format!r}: known are json, eval")
    run, out = Path(run), Path(out)
    manifest = read_manifest(run)
    time = datetime.fromisoformat(manifest["started"])
    model = str(manifest.get("world", {}).get("ad_llm") or "none")
    samples: dict[str, list[EvalSample]] = defaultdict(list)
    for turns in sessions_of(read_transitions(run)):
        if not mechanisms or turns[0].mechanism in mechanisms:
            samples[turns[0].mechanism].append(_sample(turns, time, model))
        else:
            samples.setdefault(turns[0].mechanism, [])
    for label in mechanisms:
        if label not in samples:
            raise UnknownName("mechanism of the run", label, samples)
    with tally_of_run(run, METRICS) as measured:
        cells = table_of(measured, METRICS).cells
    ensure_folder(out)
    files = []
    for label, own in samples.items():
        if own:
            file = out / f"{time:%Y-%m-%dT%H-%M-%S}_simenv-{re.sub('[^A-Za-z0-9.]+', '-', label)}_{_id(run, label)}"
            files.append(file.with_name(f"{file.name}.{format}"))
            log = _log(run, manifest, label, model, own, [cell for cell in cells if cell.mechanism == label])
            with replacing(files[-1]) as part:
                write_eval_log(log, str(part), format=format)
    return files


def sessions_of(transitions: Iterable[Transition]) -> Iterator[list[Transition]]:
    """The turns of each session of each mechanism, from a log in its order."""
    under_way: dict[str, list[Transition]] = {}
    for turn in transitions:
        turns = under_way.setdefault(turn.mechanism, [])
        if turns and turns[0].auction.session_id != turn.auction.session_id:
            yield turns
            under_way[turn.mechanism] = turns = []
        turns.append(turn)
    yield from under_way.values()


def messages_of(turn: Transition) -> list[ChatMessage]:
    """Question and answer of a turn."""
    ids = [_id(turn.auction.id, turn.mechanism, role) for role in ("user", "assistant", "offer", "choice")]
    answer = turn.outcome.response if turn.error is None else f"(no answer: {turn.error.kind}: {turn.error.text})"
    asked: list[ChatMessage] = []
    if turn.outcome.suggestions:
        offer = "\n".join(f"- {it.text}{' (sponsored)' if it.ad_id else ''}" for it in turn.outcome.suggestions)
        asked.append(ChatMessageAssistant(id=ids[2], content=offer, source="generate"))
    if turn.outcome.chosen is not None:
        asked.append(ChatMessageUser(id=ids[3], content=turn.auction.answered(turn.outcome).query.text))
    return [
        ChatMessageUser(id=ids[0], content=turn.auction.query.text, source="input"),
        *asked,
        ChatMessageAssistant(id=ids[1], content=answer, source="generate"),
    ]


def score_of(turns: Sequence[Transition]) -> Score:
    """The sums of a session; the explanation says which turns have no verdict or no answer."""
    gaps = [f"turn {turn.turn}: {turn.error.kind}" for turn in turns if turn.error is not None]
    gaps += [f"turn {turn.turn}: {turn.abstentions} ads without a verdict" for turn in turns if turn.abstentions]
    return Score(value=session_sums(turns), explanation="; ".join(gaps) or None)


def _sample(turns: Sequence[Transition], time: datetime, model: str) -> EvalSample:
    first = turns[0]
    messages = [message for turn in turns for message in messages_of(turn)]
    choice = ChatCompletionChoice(message=messages[-1], stop_reason="stop")
    return EvalSample(
        id=first.auction.session_id,
        epoch=1,
        uuid=_id(first.auction.session_id, first.mechanism, "sample"),
        input=first.auction.query.text,
        target="",
        messages=messages,
        output=ModelOutput(model=model, choices=[choice]),
        scores={SCORER: score_of(turns)},
        metadata={"mechanism": first.mechanism, "persona": first.persona_id, "profile": first.auction.profile},
        events=[event for turn in turns for event in _events(turn, time)],
        turn_count=len(turns),
    )


def _events(turn: Transition, time: datetime) -> list[Event]:
    span = _id(turn.auction.id, turn.mechanism, "span")

    def about(what: str) -> dict[str, Any]:
        name = _id(turn.auction.id, turn.mechanism, what)
        return {"uuid": name, "span_id": span, "timestamp": time, "working_start": 0.0}

    return [
        SpanBeginEvent(id=span, name=f"turn {turn.turn}", type="turn", **about("begin")),
        InfoEvent(source="question", data=turn.auction.query.text, **about("question")),
        InfoEvent(source="answer", data=turn.outcome.response, **about("answer")),
        InfoEvent(source=SCORER, data=turn_facts(turn), **about("facts")),
        SpanEndEvent(id=span, **about("end")),
    ]


def _log(
    run: Path, manifest: Mapping[str, Any], label: str, model: str, samples: list[EvalSample], cells: Sequence[Cell]
) -> EvalLog:
    started = manifest["started"]
    spec = EvalSpec(
        eval_id=_id(run, label, "eval"),
        run_id=_id(run, "run"),
        task_id=_id(run, label, "task"),
        created=started,
        task=f"simenv {label}",
        task_args={"mechanism": label, **{k: v for k, v in manifest["options"].items() if v is not None}},
        dataset=EvalDataset(name=run.resolve().name, samples=len(samples)),
        model=model,
        config=EvalConfig(),
        packages={name: it for name, it in (manifest.get("packages") or {}).items() if it is not None},
        metadata={"world": manifest.get("world"), "data_sha256": manifest.get("data_sha256")},
        viewer=VIEWER,
    )
    results = EvalResults(
        total_samples=len(samples), completed_samples=len(samples), scores=[_result(cell) for cell in cells]
    )
    stats = EvalStats(started_at=started, completed_at=manifest.get("finished") or started)
    return EvalLog(status="success", eval=spec, results=results, stats=stats, samples=samples)


def _result(cell: Cell) -> EvalScore:
    named = dict(zip(("mean", "low", "high"), cell.estimate.numbers, strict=True))
    metrics = {name: EvalMetric(name=name, value=it) for name, it in named.items() if not math.isnan(it)}
    return EvalScore(
        name=cell.metric, scorer=TABLE, scored_samples=cell.auctions, metrics=metrics, metadata={"unit": cell.unit}
    )


def _id(*parts: object) -> str:
    """An id that follows from what it names."""
    texts = [part.resolve().name if isinstance(part, Path) else str(part) for part in parts]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:22]
