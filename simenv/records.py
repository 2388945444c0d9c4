"""The records that flow through the loop.

Persona -> Query -> Auction -> Outcome -> Feedback -> Transition

All are frozen pydantic models that forbid unknown fields, so a misspelt field is an error where it is written.
`Auction` is all that a mechanism may see. Values, personas' traits and the judge's mind are in `Persona` and
`Transition` only.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from simenv.errors import UnknownName


class Record(BaseModel):
    """Base of all records: immutable, compared by value, unknown fields forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Traits(Record):
    """What is private about a persona: read by the judge, never by a mechanism."""

    ad_tolerance: float = Field(default=0.5, ge=0, le=1)
    """0 = leaves at the first ad, 1 = does not mind ads."""
    price_sensitivity: float = Field(default=0.5, ge=0, le=1)
    """0 = price does not matter, 1 = only price matters."""
    patience: float = Field(default=0.5, ge=0, le=1)
    """How far down an answer this persona reads: 0 = the first lines, 1 = to the end."""
    affinity: dict[str, float] = Field(default_factory=dict)
    """Hidden taste: ad category -> number in [-1, 1]. A category not named gets a small keyed draw."""


class Persona(Record):
    """A user of the simulation. Source: LLM-Auction, section 5.1 (basic information and personal interests)."""

    id: str = Field(min_length=1)
    """Unique in its pack."""
    info: str = Field(min_length=1)
    """Basic facts, as the platform knows them too."""
    interests: tuple[str, ...] = ()
    """Interests, as the platform knows them too."""
    age: int | None = Field(default=None, ge=0, le=130)
    """Years."""
    region: str = ""
    """World region, for balance of a pack."""
    income: str = ""
    """low, middle or high, for balance of a pack."""
    attitude: str = ""
    """Private: how this person deals with ads and prices, in words for a judge LLM."""
    traits: Traits = Traits()
    """Private: the same in numbers, for the click model."""
    queries: tuple[str, ...] = ()
    """Frozen queries, in the order in which they are asked."""

    @property
    def profile(self) -> str:
        """The profile as the platform sees it: facts and interests, nothing private."""
        facts = self.info if self.info.endswith((".", "!", "?")) else f"{self.info}."
        return f"{facts} Interests: {', '.join(self.interests)}." if self.interests else facts


class Query(Record):
    """One question to the assistant."""

    text: str = Field(min_length=1)
    """What the user typed."""
    topic: str = ""
    """Where the query comes from, if known (a file's topic column, a pack); not a relevance label."""


class Ad(Record):
    """One ad of a catalog, owned by one advertiser; the ad's id also names the bidder."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")
    """Letters, digits, dot, dash, underscore; unique in its catalog."""
    advertiser: str
    """Who owns the ad."""
    title: str = Field(min_length=1, max_length=120, pattern=r"^[^@\[\]\n\r]+$")
    """The link text. It may not contain the mark-up characters @ [ ] or a line break."""
    body: str = ""
    """The advertiser's own copy: what the ad may claim."""
    category: str = "general"
    """Product category."""
    url: str = ""
    """Where a click leads."""

    @property
    def link(self) -> str:
        """The mark-up that shows this ad in an answer: `@Title@[Ad-ID]` (LLM-Auction, section 5.1)."""
        return f"@{self.title}@[{self.id}]"

    @property
    def text(self) -> str:
        """Title and copy, for encoders and prompts."""
        return f"{self.title}. {self.body}" if self.body else self.title


class Bid(Record):
    """One candidate ad with what its advertiser offers."""

    ad: Ad
    amount: float = Field(ge=0)
    """Currency per click."""
    relevance: float = Field(default=0.0, ge=-1.0001, le=1.0001)
    """The retriever's score: cosine similarity of query and ad in [-1, 1]."""


class Auction(Record):
    """Everything that a mechanism may see of one user turn. Source: LLM-Auction, section 3."""

    id: str
    """Unique in a run; it also keys all random draws of this turn."""
    session_id: str = ""
    """The session that this turn belongs to: unique in a run."""
    turn: int = Field(default=0, ge=0)
    """Position of this turn in its session."""
    query: Query
    profile: str = ""
    """The user as the platform sees it."""
    bids: tuple[Bid, ...] = ()
    """Candidates in the retriever's order, most relevant first."""
    max_ads: int = Field(default=2, ge=0)
    """Number of ads that is free of penalty."""
    reserve: float = Field(default=0.0, ge=0)
    """Least price, currency per click: no ad may be shown for less, so no bid below it may win."""

    def bid_of(self, ad_id: str) -> Bid:
        """The bid on one candidate ad.

        Raises:
            UnknownName: the ad is not a candidate.
        """
        for bid in self.bids:
            if bid.ad.id == ad_id:
                return bid
        raise UnknownName("candidate ad", ad_id, [bid.ad.id for bid in self.bids])


class Placement(Record):
    """One clickable ad in an answer."""

    ad_id: str
    price: float = Field(ge=0)
    """Charged if clicked: currency per click."""
    span: tuple[int, int]
    """Where its mark-up stands in the response: half-open character offsets."""


ViolationKind = Literal["unknown_ad", "changed_title", "broken_markup", "repeated_ad", "leaked_process"]


class MarkupViolation(Record):
    """A breach of the insertion rules."""

    kind: ViolationKind
    """unknown_ad: the id is not a candidate's. changed_title: the id is right, the title is not. broken_markup:
    pieces of mark-up that are no link. repeated_ad: an ad linked more than once. leaked_process: the text speaks
    of bids, candidates or the insertion itself."""
    text: str
    """The offending piece, verbatim."""
    span: tuple[int, int]
    """Where it stands in the response: half-open character offsets."""


class Usage(Record):
    """What language models were asked for."""

    calls: int = Field(default=0, ge=0)
    """Completions."""
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    cost_usd: float = Field(default=0.0, ge=0)
    """US dollars, by the provider's list price; 0 for local models and unknown prices."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


class Outcome(Record):
    """What a mechanism decides: the answer, the ads in it and their prices.

    Build it with `simenv.outcome(auction, response, prices)`, which reads the placements from the text.
    """

    response: str
    """The answer as the user sees it, ads in mark-up."""
    placements: tuple[Placement, ...] = ()
    """The clickable ads, in reading order."""
    transfers: dict[str, float] = Field(default_factory=dict)
    """Ad id -> currency paid for this auction whatever is clicked (negative: the platform pays)."""
    violations: tuple[MarkupViolation, ...] = ()
    """Breaches of the insertion rules."""
    usage: Usage = Usage()
    """Language model use for this answer."""
    details: dict[str, JsonValue] = Field(default_factory=dict)
    """Whatever the mechanism wants logged (scores, candidates, propensities). The world never reads it."""


class Click(Record):
    """A judge's verdict on one shown ad."""

    ad_id: str
    clicked: bool | None
    """None: the judge abstained, or its verdict could not be read. That is not a "no"."""
    click_prob: float | None = Field(default=None, ge=0, le=1)
    """Probability that the user clicks, where the judge knows it."""
    reason: str = ""


class AdQuality(Record):
    """How honestly one shown ad is presented."""

    ad_id: str
    factuality: float | None = Field(default=None, ge=0, le=1)
    """How far what the answer says of the ad is in the ad's own copy: 0 = nothing, 1 = all. None: unknown."""
    disclosure: float | None = Field(default=None, ge=0, le=1)
    """How plain it is that this is an ad: 0 = not at all, 1 = it is said to be one. None: unknown."""
    surprise: float | None = Field(default=None, ge=0)
    """Mean -log p of a token of the ad's sentence after question and text before it, in nats. None: not measured."""


class Quality(Record):
    """How good one answer is, beside its clicks. Made by a quality measure (`simenv.quality.embedded`)."""

    ad_free: str | None = None
    """The answer to the same query under the same key without ads: the counterfactual. None: nobody wrote one."""
    quality_loss: float | None = Field(default=None, ge=-1, le=1)
    """Satisfaction with the ad-free answer minus that with this one. None: either is unknown."""
    kept: float | None = Field(default=None, ge=0, le=1)
    """Share of the ad-free answer's content that this one still says. None: unknown, or the measure does not say."""
    ad_text_share: float | None = Field(default=None, ge=0, le=1)
    """Words of the sentences that advertise, divided by the answer's words."""
    ads: tuple[AdQuality, ...] = ()
    """One row per placement, in the same order."""
    usage: Usage = Usage()
    """Language model use for measuring: a judge's calls, and the ad-free answer unless the mechanism asked for the
    same completion itself. It is never part of the mechanism's usage. A completion that came from memory counts."""


class Feedback(Record):
    """What the judge says of one answer, and the quality measure."""

    clicks: tuple[Click, ...] = ()
    """One row per placement, in the same order."""
    satisfaction: float | None = Field(default=None, ge=0, le=1)
    """How well the answer served the user: 0 = not at all, 1 = fully. By the quality measure, else by a judge that says
    so. None: unknown."""
    quality: Quality | None = None
    """None: nobody measured it."""
    disagreement: float | None = Field(default=None, ge=0, le=1)
    """Mean absolute difference between the click probabilities of an ensemble's judges, over their pairs and the ads.
    None: there was one judge, or no ad on which two decided."""
    usage: Usage = Usage()
    """Language model use for judging."""


class Transition(Record):
    """One complete turn: what was seen, decided, clicked, valued and paid."""

    index: int = Field(ge=0)
    """Position of the auction in its run."""
    mechanism: str
    persona_id: str
    turn: int = Field(ge=0)
    """Position of the query in the persona's session."""
    auction: Auction
    outcome: Outcome
    feedback: Feedback
    values: dict[str, float]
    """Private value per click of every candidate: ad id -> currency."""
    payments: dict[str, float]
    """Realised: ad id -> currency. Price times click, plus transfers. Clicks of an abstained verdict are missing."""
    expected_payments: dict[str, float] | None
    """The same in expectation over clicks, where the judge gave every probability."""
    reward: float | None
    """sum of bid x click over shown ads - penalty; None if the judge abstained on any shown ad."""
    expected_reward: float | None
    """The same in expectation over clicks, where the judge gave every probability."""

    @property
    def abstentions(self) -> int:
        """Shown ads without a verdict."""
        return sum(click.clicked is None for click in self.feedback.clicks)
