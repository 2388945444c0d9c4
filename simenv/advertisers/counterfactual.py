"""What would have happened without an advertiser: the same auctions, answered again without its ads.

The catalog lacks the advertiser's ads, and in their place the next most relevant ads become candidates. Users, queries,
the others' values and bids, and all draws are keyed by auction and ad, so they are the same. An auction in which no ad
of the advertiser was a candidate cannot change and is not answered again, except where mechanisms or bidders learn:
these begin anew and answer every auction in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simenv.advertisers.effects import Pair
from simenv.background_loop import run_sync
from simenv.errors import InputError
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.build import Parts, build, plan
from simenv.runs.code import code_of, differing_code
from simenv.runs.facts import data_hashes, facts_of
from simenv.runs.failures import Failures
from simenv.runs.log import read_sessions
from simenv.runs.manifest import refuse_other_version
from simenv.runs.models import open_cassette
from simenv.runs.named_files import differing_files, file_hashes
from simenv.runs.options import BenchOptions, options_of_manifest
from simenv.runs.resume import differing_values
from simenv.runs.rollout import BIDDERS, Finished, Sessions, in_flight_of, observers, rollout

_PURPOSE = "answer its auctions again"


class Again(NamedTuple):
    """The auctions of an advertiser that were answered twice."""

    pairs: list[Pair]
    notes: list[str]


def answer_again(
    run: Path,
    manifest: Mapping[str, Any],
    ads: Collection[str],
    read: Callable[[], Iterable[Transition]],
    objects: Mapping[str, Mechanism],
    watch: Callable[[str, int, int], None],
) -> Again:
    """Answers the auctions of a run again without some ads.

    Args:
        run: The run's folder.
        manifest: Its manifest.
        ads: Ids of the ads.
        read: The answers of the log that are wanted; called several times.
        objects: Mechanisms of the run that were given as objects, by label.
        watch: Called with ("answers", done, planned).

    Raises:
        InputError: the run cannot be built again as it was.
        SimenvError: what a model or mechanism raised.
    """
    options, parts, notes = _rebuilt(run, manifest, objects)
    labels = dict.fromkeys(t.mechanism for t in read())
    learners = _learners(parts, labels)
    affected = {t.index for t in read() if any(bid.ad.id in ads for bid in t.auction.bids)}
    # Where turns are linked, an ad is a rival for the session, and what is shown changes the turns after it.
    linked = parts.world.linked
    indices = {t.index for t in read()} if learners or linked else affected
    chunks = sorted({index // options.chunk for index in indices})
    of_chunks = {(t.index, t.mechanism): t for t in read() if t.index // options.chunk in set(chunks)}
    again = {key for key in of_chunks if linked or key[0] in affected or key[1] in learners}
    done = {key: t for key, t in of_chunks.items() if key not in again}
    found: dict[tuple[int, str], Transition] = {}
    answered = 0

    def take(finished: Finished) -> None:
        found.update({(t.index, t.mechanism): t for t in finished.transitions})

    def count(fresh: bool) -> None:
        nonlocal answered
        answered += 1
        watch("answers", answered, len(of_chunks))

    async def roll() -> None:
        await rollout(
            parts.world.without(ads),
            {label: parts.mechanisms[label] for label in labels},
            n=options.n,
            seed=options.seed,
            on_chunk=take,
            on_answer=count,
            chunk=options.chunk,
            chunks=chunks,
            in_flight=in_flight_of(parts.llms),
            sessions=Sessions(read_sessions(run, left_out=lambda text: None)),
            done=done,
            failures=Failures(options.fail_on_error, bugs_end=options.fail_on_bug),
        )

    run_sync(roll)
    pairs = [Pair(of_chunks[key], found[key]) for key in sorted(again) if key in found]
    both = [pair for pair in pairs if pair.with_ads.error is None and pair.without.error is None]
    if len(both) < len(pairs):
        notes.append(
            f"{len(pairs) - len(both)} of {len(pairs)} answers failed with or without the ads and are left out."
        )
    return Again(both, notes)


def _learners(parts: Parts, labels: Iterable[str]) -> set[str]:
    learning = observers(parts.world, parts.mechanisms)
    return {label for label in labels if BIDDERS in learning or label in learning}


def _rebuilt(
    run: Path, manifest: Mapping[str, Any], objects: Mapping[str, Mechanism]
) -> tuple[BenchOptions, Parts, list[str]]:
    """The parts of a run as they were, with what differs for the notes."""
    if "mechanisms" not in manifest["options"]:
        raise InputError(f"cannot {_PURPOSE}: {run} names no mechanisms, so its answers were written elsewhere")
    refuse_other_version(run, manifest, _PURPOSE)
    # What the run recorded or cached stays as it is; a run of a cassette has only what is in it.
    options = options_of_manifest(manifest["options"], str(run)).model_copy(update={"record": None, "cache": None})
    world = manifest.get("world", {})
    if missing := set(world.get("objects") or {}) - set(objects):
        raise InputError(f"cannot {_PURPOSE}: {', '.join(sorted(missing))} of {run} were objects: give them as objects")
    checked = plan(options, objects)
    hashes = data_hashes(checked)
    differing = differing_files(hashes, manifest.get("data_sha256") or {})
    differing += differing_files(file_hashes(options), manifest.get("files_sha256") or {})
    if differing:
        raise InputError(f"cannot {_PURPOSE}: {run} was run on other data: {'; '.join(differing)}")
    parts = build(checked, open_cassette(options))
    facts = facts_of(checked, parts, hashes)
    if other := differing_values(facts, facts | world):
        raise InputError(f"cannot {_PURPOSE}: {run} was run in another world: {'; '.join(other)}")
    changed = differing_code(code_of(options, objects), manifest["code"]) if manifest.get("code") else []
    return options, parts, [f"Its code was changed since the run: {'; '.join(changed)}."] if changed else []
