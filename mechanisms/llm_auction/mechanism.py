"""The mechanism: the trained model writes the answer with its ads, or chooses the ads alone; first price per click."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CTRModel
from simenv.encoder import Encoder, default_encoder
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.files.limits import check_regular, read_bytes
from simenv.llm import LLM, PLAIN, OneOf
from simenv.llm.cassette import CassetteLLM, name_with_adapter
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction, Outcome

from . import intent
from .adapter_files import SHIPPED, changes_of
from .slim import PREDICTED, Choice, Offer, Score, offer
from .written import TunedWriter

FORMATS = ("auto", "slim", "written", "json")


class LLMAuction:
    """LLM-Auction: a language model trained for the platform's reward chooses the ads, which pay their bids per click.

    In the written format, that of the adapter that ships, it writes the answer and the ads in one call.

    Individually rational. It makes no other claim: training should make the allocation increase with the bid, and
    `simenv audit` and `benchmarks/paper.py` measure whether it does.

    Args:
        llm: The Ad-LLM.
        adapter: Folder written by `simenv train llm-auction`; "none" for the untrained policy. By default the shipped
            adapter if the Ad-LLM is the embedded model and the format is the adapter's, otherwise none.
        format: "slim": one call chooses the links (see `slim`); the writer then makes one call for the answer and one
            per ad. "written": one call of a model trained for it writes the answer with its ads (see `written`).
            "json": one call with the paper's prompt writes everything. By default that of the adapter's training, or
            "json" for capable models.
        score: The digit of a candidate in the prompt, and the order of the list: "retriever", the cosine of query and
            ad; "pctr", the click probability that the reward model in the adapter's folder predicts for the ad alone;
            or "ecpm", the bid times that probability. By default that of the adapter's training.
        profile: Format "written": whether the prompt shows the user's profile.
        min_intent: Format "written": the least probability of commercial intent, in [0, 1], at which a question is
            answered with ads (see `intent`); at 0 it always is. By default 0.5 if the adapter's folder has the
            classifier that says it, otherwise 0.
        encoder: The sentence encoder of the reward model and the classifier; the embedded one by default.

    Raises:
        UnknownName: another format or score.
        InputError: an adapter is given and the model is not on this machine, or the score is "pctr" or "ecpm" without
            an adapter or with the json format; or min_intent is out of range, or above 0 where there is no classifier.
        DataFileError: the folder has no adapter, or the adapter belongs to another model; or it has no reward model.
    """

    name = "llm_auction"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})

    def __init__(
        self,
        llm: LLM,
        adapter: str | Path | None = None,
        format: str = "auto",
        score: str = "auto",
        profile: bool = True,
        min_intent: float | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if format not in FORMATS:
            raise UnknownName("format of llm_auction", format, list(FORMATS))
        if score not in (scores := ("auto", *get_args(Score))):
            raise UnknownName("score of llm_auction", score, list(scores))
        if adapter is None:
            fits = llm.name == "embedded" and format in ("auto", _format_of(_trained(SHIPPED)))
            adapter = SHIPPED if fits else "none"
        trained = {} if str(adapter) == "none" else _trained(Path(adapter))
        if format == "auto":
            format = "json" if llm.follows_formats else _format_of(trained)
        self.format = format
        self.slim = format == "slim"
        self._score: Score = "retriever"
        self._ctr: CTRModel | None = None
        if score == "auto":
            score = "retriever" if format == "json" else trained.get("score", "retriever")
        if score in PREDICTED:
            if format == "json" or str(adapter) == "none":
                got = "the json format" if format == "json" else "no adapter"
                raise InputError(f'the score "{score}" of llm_auction needs an adapter and no json format, got {got}')
            from .reward_model import PredictedCTR, load

            self._score = cast(Score, score)
            self._ctr = PredictedCTR(load(Path(adapter), encoder or default_encoder()))
        self._intent = None
        if format == "written" and str(adapter) != "none" and min_intent != 0:
            self._intent = intent.load(Path(adapter), encoder or default_encoder())
        self._min_intent = _least(min_intent, self._intent)
        self.policy = llm if str(adapter) == "none" else adapted(llm, Path(adapter))
        if format == "written":
            self._writer: Writer = TunedWriter(self.policy, profile=profile, score=self._score, ctr=self._ctr)
        else:
            self._writer = Writer(llm if self.slim else self.policy)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        if not self.slim:
            seen = {} if self._intent is None else {"intent": self._intent.probability(auction.query.text)}
            if seen.get("intent", 1.0) < self._min_intent:
                return outcome(auction, await self._writer.answer(auction), {}, details=seen)
            response = await self._writer.own_choice(auction, show_bids=True)
            # A text may link an ad that the prompt did not offer (its bid is below the reserve): it pays the reserve.
            prices = {b.ad.id: max(b.amount, auction.reserve) for b in auction.bids}
            return outcome(auction, response, prices, details=seen)
        offered = self.offer(auction)
        if offered.places == 0:
            return await self._outcome(auction, offered, (), 1.0)
        completion = await self.policy.complete(
            offered.prompt,
            # Keyed only by the auction: another bid gets the same noise.
            key=(auction.id, "llm-auction", 0),
            sampling=PLAIN,
            constraint=_answers(offered),
        )
        prob = None if completion.logprobs is None else math.exp(sum(completion.logprobs))
        return await self._outcome(auction, offered, offered.read(completion.text), prob)

    def offer(self, auction: Auction) -> Offer:
        """The slim prompt of an auction, and what its labels stand for."""
        return offer(auction, score=self._score, ctr=self._ctr)

    async def lottery(self, auction: Auction) -> Lottery:
        """Every choice with its exact probability, given the keyed draw that rounds the bids in the prompt.

        Raises:
            InputError: the format is not slim: a response is then a whole text.
        """
        if not self.slim:
            raise InputError(f"llm_auction has an exact distribution only in the slim format, got {self.format}")
        offered = self.offer(auction)
        probs = await self.distribution(offered)
        return [(prob, await self._outcome(auction, offered, choice, prob)) for choice, prob in probs.items()]

    async def distribution(self, offered: Offer) -> dict[Choice, float]:
        """Probability of every choice."""
        if offered.places == 0:
            return {(): 1.0}
        answers = _answers(offered)
        rows = await self.policy.logprob(offered.prompt, answers.options, sampling=PLAIN, constraint=answers)
        probs = np.exp([sum(row) for row in rows])
        # Scored in several batches, in bf16: the sum is 1 up to rounding.
        return dict(zip(offered.choices(), (probs / probs.sum()).tolist(), strict=True))

    async def _outcome(self, auction: Auction, offered: Offer, choice: Choice, prob: float | None) -> Outcome:
        bids = [offered.bids[i] for i in choice]
        response = await self._writer.with_ads(auction, [bid.ad for bid in bids])
        return outcome(
            auction,
            response,
            {bid.ad.id: bid.amount for bid in bids},
            details={"choice": [bid.ad.id for bid in bids], "propensity": prob},
        )


def _least(given: float | None, classifier: intent.CommercialIntent | None) -> float:
    """The option `min_intent`, checked, or its default."""
    if given is None:
        return 0.0 if classifier is None else intent.LEAST
    if not 0 <= given <= 1:
        raise InputError(f"min_intent of llm_auction must be in [0, 1], got {given}")
    if given and classifier is None:
        raise InputError(
            f"min_intent of llm_auction needs an adapter of the written format with {intent.FILE}, got {given}",
            hint="a training of level written with plain_share above 0 writes it; min_intent=0 needs none",
        )
    return given


def _answers(offered: Offer) -> OneOf:
    return OneOf(options=tuple(offered.answer(choice) for choice in offered.choices()))


def tuned_writer(llm: LLM, adapter: str | Path | None = None) -> TunedWriter:
    """The fine-tuned writer for other mechanisms: one call places and words the ads that they chose.

    Args:
        llm: The Ad-LLM.
        adapter: Folder of a training in the written format; by default the adapter that ships.

    Raises:
        InputError: the adapter is not for the written format, or the model is not on this machine.
        DataFileError: the folder has no adapter, or the adapter belongs to another model.
    """
    folder = SHIPPED if adapter is None else Path(adapter)
    level = _trained(folder).get("level", "written")  # a copied adapter may have no manifest
    if level != "written":
        raise InputError(
            f"{folder} is a training of level {level!r}", hint="give tuned:FOLDER, a training of level written"
        )
    return TunedWriter(adapted(llm, folder))


def _trained(adapter: Path) -> dict[str, Any]:
    """The options of an adapter's training, as far as its manifest says."""
    try:
        config = json.loads(read_bytes(adapter / "manifest.json"))["config"]
    except (DataFileError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def _format_of(trained: dict[str, Any]) -> str:
    """The format that an adapter is for, by the options of its training."""
    return {"written": "written", "answers": "json"}.get(trained.get("level", "links"), "slim")


def adapted(llm: LLM, adapter: Path) -> LLM:
    """The model with an adapter.

    Raises:
        InputError: the model is not on this machine.
        DataFileError: the folder has no adapter, or the adapter belongs to another model.
    """
    weights = adapter / "adapter_model.safetensors"
    if not weights.exists():
        raise DataFileError(f"{adapter}: no adapter: it has no {weights.name}")
    check_regular(weights)
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataFileError(f"{adapter}: no adapter: {error.strerror}") from None
    name = name_with_adapter(llm.name, digest[:12])

    def make(model: LLM) -> LLM:
        from simenv.llm.local import LocalLLM

        if not isinstance(model, LocalLLM):
            raise InputError(
                f"an adapter needs a model on this machine, got {llm.name!r}: name the Ad-LLM local:FOLDER"
            )
        if model.runtime_name == "onnx":
            changes = changes_of(adapter, model.folder)
            return LocalLLM(
                model.folder, name=name, follows_formats=llm.follows_formats, runtime="onnx", changes=changes
            )
        from .policy import AdaptedLLM

        return AdaptedLLM(
            model.folder,
            adapter,
            name=name,
            follows_formats=llm.follows_formats,
            trust_remote_code=model.trust_remote_code,
        )

    return llm.derived(name, make) if isinstance(llm, CassetteLLM) else make(llm)
