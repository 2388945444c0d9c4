"""Runs mechanisms over many auctions, in chunks of fixed size, and passes on each finished chunk in index order.

The chunk is the unit of writing and of resume. Answers of several chunks and of all mechanisms are in flight together
(`simenv.runs.window`), except with a model whose texts depend on what shares their batch: the chunk is then the unit of
batching too, and mechanisms take turns within it. Either way the transitions are the same.

If a mechanism or its bidders learn (they have `observe`), its auctions run one after another in index order: an auction
is built after all earlier ones were observed. So budgets are exact, and the transitions do not depend on the chunk. The
cost is that only the calls within one answer run together; other mechanisms run beside it. Each mechanism has its own
population of bidders, because they learn from its outcomes.

In a world of linked turns (`simenv.sessions`) a turn waits for the one before it in its session, and sessions run side
by side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from simenv.abilities import Observer
from simenv.background_loop import gather
from simenv.conversation import Conversation
from simenv.errors import InputError, SimenvError
from simenv.llm.base import LLM, AnyRequest
from simenv.llm.meter import Meter, active_meter, metered
from simenv.market.bidders import population
from simenv.mechanism import Mechanism
from simenv.records import Auction, Transition, Usage
from simenv.runs.failures import Failures
from simenv.runs.sessions import Sessions
from simenv.runs.shards import auctions_of
from simenv.runs.window import AHEAD, Finished, run_in_turns, run_together
from simenv.world import Session, World

CHUNK = 16
IN_FLIGHT = 64
"""Answers in flight. With two answers for each call that a server takes at once, one of them computes while the other
waits for the server."""
BIDDERS = "bidders"
"""Name of the bidders in `observers`."""

__all__ = ["BIDDERS", "CHUNK", "IN_FLIGHT", "Finished", "Sessions", "in_flight_of", "observers", "rollout"]


async def rollout(
    world: World,
    mechanisms: Mapping[str, Mechanism],
    *,
    n: int,
    seed: int,
    on_chunk: Callable[[Finished], None],
    on_answer: Callable[[bool], None] = lambda fresh: None,
    chunk: int = CHUNK,
    chunks: Iterable[int] | None = None,
    in_flight: int | None = IN_FLIGHT,
    may_begin: Callable[[], bool] = lambda: True,
    sessions: Sessions | None = None,
    done: Mapping[tuple[int, str], Transition] | None = None,
    failures: Failures | None = None,
) -> None:
    """Runs every mechanism on auctions 0..n-1 of the run `seed`: the same queries, values and user noise for all.

    Args:
        world: The world of the auctions.
        mechanisms: Label -> mechanism.
        n: Number of auctions; auction i is turn i % horizon of session i // horizon.
        seed: Seed of the run.
        on_chunk: Called with each newly finished chunk, in order.
        on_answer: Called after each answer, for a progress bar: with False if it is one of `done`, or if all its
            completions come from a cassette.
        chunk: Auctions per chunk: chunk k has the auctions from k * chunk on.
        chunks: Numbers of the chunks to run, in ascending order; all by default. A chunk has the same transitions
            whichever others run, unless mechanisms or bidders learn: these learn from the chunks that run.
        in_flight: Most answers in flight, of all chunks and mechanisms. None: one chunk and one mechanism at a time,
            for models whose texts depend on what shares their batch (`LLM.batch_dependent`).
        may_begin: Asked before each answer that is not in `done`; with `in_flight` None before each chunk of a
            mechanism. When it says False, no answer begins any more; those that have begun are finished, and the chunks
            that are then complete are passed on.
        sessions: Existing sessions.
        done: (index, label) -> transition of finished chunks. Learners observe these; they are not run again.
        failures: Which failed answers become rows of the log. Without, the first one ends the run.

    Raises:
        InputError: n, chunk or in_flight below 1, no mechanisms, chunks that do not exist or do not ascend, or one that
            goes on with a session of linked turns which another chunk begins.
        SimenvError: a mechanism, a model or a judge raised it. Chunks passed on before it remain valid.
    """
    if n < 1 or chunk < 1:
        raise InputError(f"n and chunk must be at least 1, got n={n}, chunk={chunk}")
    if in_flight is not None and in_flight < 1:
        raise InputError(f"in_flight must be at least 1, got {in_flight}")
    if not mechanisms:
        raise InputError("no mechanisms to run")
    sessions = sessions or Sessions()
    indices = _indices(n, chunk, chunks)
    if world.linked:
        indices = _whole_sessions(indices, world.horizon)
    answers = _Answers(world, mechanisms, seed, sessions, done or {}, failures or Failures(0))
    answers.on_chunk, answers.on_answer, answers.may_begin = on_chunk, on_answer, may_begin
    try:
        if in_flight is None:
            await run_in_turns(indices, answers)
        else:
            if world.linked:
                in_flight *= world.horizon  # of the answers of a session only one is not waiting
            await run_together(indices, answers, in_flight=in_flight, unwritten=in_flight * AHEAD)
    finally:
        await sessions.close()


def _indices(n: int, chunk: int, chunks: Iterable[int] | None) -> Iterator[range]:
    """The auctions of each chunk."""
    last = -1
    count = -(-n // chunk)
    for number in range(count) if chunks is None else chunks:
        if not last < number < count:
            raise InputError(f"chunks must be ascending numbers below {count}, got {number} after {last}")
        last = number
        yield auctions_of(number, chunk, n)


def _whole_sessions(chunks: Iterable[range], horizon: int) -> Iterator[range]:
    """The same chunks. Refuses one whose first turn goes on from a chunk that does not run."""
    end = 0
    for indices in chunks:
        if indices.start % horizon and indices.start != end:
            raise InputError(
                f"the auctions from {indices.start} on go on with a session of {horizon} linked turns, and the chunk "
                "before them does not run",
                hint="chunks of a multiple of horizon hold whole sessions",
            )
        end = indices.stop
        yield indices


class _Answers:
    """The answers of a run, for `simenv.runs.window`; the arguments are those of `rollout`."""

    on_chunk: Callable[[Finished], None]
    on_answer: Callable[[bool], None]
    may_begin: Callable[[], bool]

    def __init__(
        self,
        world: World,
        mechanisms: Mapping[str, Mechanism],
        seed: int,
        sessions: Sessions,
        done: Mapping[tuple[int, str], Transition],
        failures: Failures,
    ) -> None:
        self._world = world
        self._mechanisms = mechanisms
        self._seed = seed
        self._sessions = sessions
        self._done = done
        self._failures = failures
        self._learners = {label: _Learners(label, mechanism, world) for label, mechanism in mechanisms.items()}
        self._asked: dict[int, _Asked] = {}
        """What the answers to one auction asked for, of all mechanisms."""
        self._conversations: dict[tuple[int, str], Conversation] = {}
        """By session and label, until the session's last chunk is finished."""
        self.labels: Sequence[str] = list(mechanisms)
        self.in_order: Collection[str] = {label for label, learners in self._learners.items() if learners.learn}

    def known(self, index: int, label: str) -> bool:
        return (index, label) in self._done

    async def begin(self, index: int) -> None:
        await self._sessions.begin(self._world, self._seed, index // self._world.horizon)

    async def ready(self, indices: Sequence[int]) -> None:
        numbers = dict.fromkeys(i // self._world.horizon for i in indices)
        await gather(self._sessions.get(self._world, self._seed, number) for number in numbers)

    def waves(self, indices: Sequence[int], label: str) -> list[list[int]]:
        if label in self.in_order:
            return [[i] for i in indices]
        if not self._world.linked:
            return [list(indices)]
        turns = sorted({i % self._world.horizon for i in indices})
        return [[i for i in indices if i % self._world.horizon == turn] for turn in turns]

    async def answer(self, index: int, label: str) -> Transition:
        learners = self._learners[label]
        transition = self._done.get((index, label))
        fresh = transition is None
        # Only learning bidders, and later turns that are linked to these, need finished auctions.
        if transition is None or learners.bidder_learns or self._world.linked:
            number, turn = divmod(index, self._world.horizon)
            session = await self._sessions.get(self._world, self._seed, number)
            conversation = self._conversation(number, label, session)
            await conversation.reached(turn)
            if transition is None or learners.bidder_learns:
                auction = conversation.auction(turn)
            if transition is None:
                of_auction = self._asked.setdefault(index, _Asked(active_meter()))
                with metered(_Asked(of_auction)) as meter:
                    transition = await self._step(conversation, turn, index, label, auction)
                # Without a request of its own it had no model, or the completions of another mechanism's answer.
                asked = meter if meter.admitted else of_auction
                fresh = asked.admitted > asked.recalled or not asked.admitted
            conversation.add(transition)
        self.on_answer(fresh)
        learners.observe(transition)
        return transition

    def finish(self, indices: Sequence[int], finished: Finished) -> None:
        self._sessions.save()
        if not all(self.known(i, label) for i in indices for label in self.labels):
            self.on_chunk(finished)
        for i in indices:
            self._asked.pop(i, None)
        below = (indices[-1] + 1) // self._world.horizon
        self._sessions.forget(below)
        self._conversations = {key: it for key, it in self._conversations.items() if key[0] >= below}

    def _conversation(self, number: int, label: str, session: Session) -> Conversation:
        """A session with a mechanism. Where turns are apart it is nothing to be kept."""
        if not self._world.linked:
            return Conversation(self._world, session, self._learners[label].bidder)
        if (number, label) not in self._conversations:
            self._conversations[number, label] = Conversation(self._world, session, self._learners[label].bidder)
        return self._conversations[number, label]

    async def _step(
        self, conversation: Conversation, turn: int, index: int, label: str, auction: Auction
    ) -> Transition:
        """The transition of an answer, or of its failure."""
        session = conversation.session
        self._failures.begin()
        try:
            action = await conversation.answering(self._mechanisms[label], turn)
            return await self._world.step(session, turn, action, index=index, name=label, auction=auction)
        except SimenvError as error:
            failure = self._failures.row(error)
            return self._world.failed(session, turn, failure, index=index, name=label, auction=auction)


class _Asked(Meter):
    """Counts requests. It adds up no usage, and forwards it to the enclosing meter."""

    def add(self, request: AnyRequest, usage: Usage) -> None:
        if self._around is not None:
            self._around.add(request, usage)


def in_flight_of(llms: Iterable[LLM]) -> int | None:
    """Answers in flight for `rollout`: two for each call that the models may have in flight, and at least IN_FLIGHT.

    None if a text of one of them depends on what shares its batch.
    """
    llms = list(llms)
    if any(llm.batch_dependent for llm in llms):
        return None
    return max(IN_FLIGHT, 2 * sum(llm.concurrency or 0 for llm in llms))


def observers(world: World, mechanisms: Mapping[str, Mechanism]) -> list[str]:
    """Returns the names of learners: BIDDERS and mechanism labels. Earlier clicks may change their bids or answers."""
    parts = [(BIDDERS, world.bidder), *mechanisms.items()]
    return [name for name, part in parts if isinstance(part, Observer)]


class _Learners:
    """The learners among a mechanism and its population of bidders."""

    def __init__(self, label: str, mechanism: Mechanism, world: World) -> None:
        self.bidder = population(world.bidder, label)
        self.bidder_learns = isinstance(self.bidder, Observer)
        self._observers: list[Callable[[Transition], Any]] = [
            learner.observe for learner in (self.bidder, mechanism) if isinstance(learner, Observer)
        ]

    @property
    def learn(self) -> bool:
        return bool(self._observers)

    def observe(self, transition: Transition) -> None:
        if transition.error is None:  # there is nothing to learn of a failure
            for observe in self._observers:
                observe(transition)
