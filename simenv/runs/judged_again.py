"""The answers of a run, judged again: by the same judge with other keys, or by another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simenv.abilities import hash_of
from simenv.background_loop import gather
from simenv.errors import DataFileError, InputError, UnreadableReply
from simenv.judges.base import Judge, run_judge
from simenv.judges.factory import asks_user_llm
from simenv.records import Click, Feedback, Transition
from simenv.runs.build import objective_of, part_options_of
from simenv.runs.folder import read_manifest, read_sessions, read_transitions
from simenv.runs.log import LeftOut
from simenv.runs.models import Models
from simenv.runs.options import options_of_manifest
from simenv.settlement import settle

_AT_ONCE = 64
"""Judgements that run concurrently; fixed, because a local model's batches depend on it."""


class JudgedRun:
    """The first answers of a run that did not fail, with what it takes to judge them again.

    Args:
        folder: The run's folder.
        most: Number of auctions; None: all.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        DataFileError: the folder holds no run, it cannot be read, or its log is damaged.
        InputError: none of its answers is left.
    """

    def __init__(self, folder: str | Path, most: int | None = None, *, left_out: LeftOut | None = None) -> None:
        self.folder = Path(folder)
        manifest = read_manifest(folder)
        self.judge_name: str | None = manifest.get("world", {}).get("judge")
        self.judge_sha256: str | None = manifest.get("world", {}).get("judge_sha256")
        self._options = options_of_manifest(manifest["options"], str(folder))
        self._objective = objective_of(self._options)
        sessions = read_sessions(folder, left_out=left_out).values()
        self.personas = {session.persona.id: session.persona for session in sessions}
        """Persona id -> the reader of that id."""
        self.answers: dict[str, int] = {}
        """Mechanism -> number of its answers in the whole run."""
        self.rows: list[Transition] = []
        """The answers, as the run's judge judged them."""
        auctions: set[int] = set()
        for t in read_transitions(folder, left_out=left_out):
            if t.error is not None:
                continue
            self.answers[t.mechanism] = self.answers.get(t.mechanism, 0) + 1
            if most is None or t.index in auctions or len(auctions) < most:
                auctions.add(t.index)
                self.rows.append(t)
        if not self.rows:
            raise InputError(f"{folder}: no answer that did not fail, so none can be judged again")
        unknown = dict.fromkeys(t.persona_id for t in self.rows if t.persona_id not in self.personas)
        if unknown:
            raise DataFileError(f"{folder}: sessions.jsonl has no session of {', '.join([*unknown][:3])}")

    def judge(self) -> Judge:
        """Builds the run's judge from its options. Files of recorded completions are not used.

        Raises:
            InputError: the judge of today is not the run's.
            SimenvError: it cannot be built.
        """
        options = self._options
        models = Models(options, part_options_of(options), None)
        ad_llm = models.ad_llm() if asks_user_llm(options.judge) else None
        named = None if ad_llm is None else models.named_user_llm(ad_llm)
        judge = models.judge(named, ad_llm)
        if not self.is_by(judge):
            raise InputError(
                f"{self.folder} was judged by {self.judge_name}, its options now come to {judge.name} or other numbers",
                hint="name a judge, which then judges the answers twice",
            )
        return judge

    def is_by(self, judge: Judge) -> bool:
        """Whether this judge judged the run."""
        return (judge.name, hash_of(judge)) == (self.judge_name, self.judge_sha256)

    async def judged_by(
        self, judge: Judge, key: str, watch: Callable[[int, int], None] = lambda done, planned: None
    ) -> list[Transition]:
        """The answers with this judge's feedback. A reply that cannot be read is an abstention.

        Args:
            judge: The judge.
            key: Ending of the auctions' ids, which key the judge's randomness; "" for those of the run.
            watch: Called with (judgements done, judgements planned).

        Raises:
            SimenvError: any other error of the judge.
        """
        judged: list[Transition] = []
        for start in range(0, len(self.rows), _AT_ONCE):
            rows = self.rows[start : start + _AT_ONCE]
            for t, feedback in zip(rows, await gather(self._ask(judge, t, key) for t in rows), strict=True):
                judged.append(
                    settle(
                        t.auction,
                        t.outcome,
                        feedback,
                        t.values,
                        self._objective,
                        index=t.index,
                        mechanism=t.mechanism,
                        persona_id=t.persona_id,
                        turn=t.turn,
                    )
                )
            watch(len(judged), len(self.rows))
        return judged

    async def _ask(self, judge: Judge, t: Transition, key: str) -> Feedback:
        auction = t.auction.model_copy(update={"id": t.auction.id + key})
        try:
            feedback = await run_judge(judge, self.personas[t.persona_id], auction, t.outcome)
            return feedback.model_copy(update={"choice": t.feedback.choice})
        except UnreadableReply as error:
            clicks = (Click(ad_id=p.ad_id, clicked=None, reason=str(error)[:300]) for p in t.outcome.placements)
            return Feedback(clicks=tuple(clicks))
