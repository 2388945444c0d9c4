"""simenv's share of a run: its time over that of a bare loop which calls encoder, click model and records by hand.

python -m benchmarks.speed.share

The bare loop gets the queries, answers and prices of a simenv run as they are: it has no mechanism, no language model,
no mark-up to parse and no checks. For each auction it finds the candidates, builds the records, calls the click model,
adds up the payments and writes a line. As many auctions as in a chunk run at once, so that the encoder has the same
batches. Its click probabilities must be those of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.known_texts import Passes, elsewhere, passes


def bare(run: Path) -> Passes:
    """Times the bare loop on the auctions of a run, twice."""
    from simenv.encoder import default_encoder
    from simenv.judges.click_model import ClickModel
    from simenv.market.catalog import load_catalog
    from simenv.runs.log import read_transitions
    from simenv.users.personas import load_personas

    given = list(read_transitions(run))
    encoder, ads = default_encoder(), load_catalog()
    personas = {persona.id: persona for persona in load_personas()}
    encoder.remember([ad.text for ad in ads])
    catalog = encoder.encode([ad.text for ad in ads])
    judge = ClickModel(encoder)
    judge.prepare()
    with TemporaryDirectory() as place:
        seconds = [
            asyncio.run(_loop(given, personas, judge, encoder, ads, catalog, Path(place) / name))
            for name in ("new", "known")
        ]
    return Passes(*seconds)


async def _loop(given, personas, judge, encoder, ads, catalog, log) -> float:  # type: ignore[no-untyped-def]
    from simenv.records import Auction, Bid, Outcome, Placement, Query, Transition
    from simenv.runs.rollout import CHUNK
    from simenv.seeding import keyed_rng

    async def answer(old: Transition) -> Transition:
        auction_id, text, response = old.auction.id, old.auction.query.text, old.outcome.response
        scores = catalog @ (await encoder.vectors([text]))[0]
        best = [ads[j] for j in (-scores).argsort(kind="stable")[:8]]
        values = {ad.id: float(keyed_rng("value", auction_id, ad.id).integers(1, 101)) for ad in best}
        bids = tuple(Bid(ad=ad, amount=values[ad.id]) for ad in best)
        auction = Auction(id=auction_id, query=Query(text=text), profile=old.auction.profile, bids=bids)
        prices = [(ad, p.price) for p in old.outcome.placements for ad in best if ad.id == p.ad_id]
        at = [response.index(ad.link) for ad, _ in prices]
        placements = tuple(
            Placement(ad_id=ad.id, price=price, span=(start, start + len(ad.link)))
            for (ad, price), start in zip(prices, at, strict=True)
        )
        outcome = Outcome(response=response, placements=placements)
        feedback = await judge.judge(personas[old.persona_id], auction, outcome)
        clicks = list(zip(prices, feedback.clicks, strict=True))
        return Transition(
            index=old.index,
            mechanism="gsp",
            persona_id=old.persona_id,
            turn=old.turn,
            auction=auction,
            outcome=outcome,
            feedback=feedback,
            values=values,
            payments={ad.id: price * bool(click.clicked) for (ad, price), click in clicks},
            expected_payments={ad.id: price * click.click_prob for (ad, price), click in clicks},
            reward=sum(values[ad.id] * bool(click.clicked) for (ad, _), click in clicks),
            expected_reward=sum(values[ad.id] * click.click_prob for (ad, _), click in clicks),
        )

    rows: list[Transition] = []
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        for start in range(0, len(given), CHUNK):
            chunk = await asyncio.gather(*map(answer, given[start : start + CHUNK]))
            file.write("".join(f"{row.model_dump_json()}\n" for row in chunk))
            rows += chunk
    seconds = time.perf_counter() - started
    if [row.feedback for row in rows] != [old.feedback for old in given]:
        raise SystemExit("the bare loop has other clicks than the run")
    return seconds / len(given)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=["simenv", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one is not None:
        print(json.dumps(passes(asked.n) if asked.one == "simenv" else bare(asked.run)))
        return

    from benchmarks.speed.measure import Aim, compare

    with TemporaryDirectory() as place:
        run = Path(place) / "run"
        passes(asked.n, keep=run)

        def milliseconds(kind: str, which: str) -> Callable[[], float]:
            command = ["--one", kind, "--n", str(asked.n), "--run", str(run)]
            return lambda: 1000 * float(getattr(elsewhere(__file__, command), which))

        for which in ("new", "known"):
            compare(
                f"simenv over a bare loop of the same encoder, click model and records: texts {which}",
                "ms an auction",
                {"simenv": milliseconds("simenv", which), "bare loop": milliseconds("bare", which)},
                aim=Aim(1 / 0.85, at="most"),
                rounds=asked.rounds,
                note=f"{asked.n} auctions. A share of 15% of the run is a ratio of 1.18.",
            )


if __name__ == "__main__":
    main()
