"""The records of the simulation loop.

Persona -> Query -> Auction -> Outcome -> Feedback -> Transition

All are frozen pydantic models that forbid unknown fields, so a misspelt field raises an error at once. A mechanism sees
only the `Auction`. Advertisers' values, personas' traits and the judge's private inputs are only in `Persona` and
`Transition`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from simenv.errors import UnknownName
from simenv.links import LinkText, OutsideText


class Record(BaseModel):
    """Base of all records: immutable, compared by value, unknown fields forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Traits(Record):
    """The private part of a persona: the judge reads it, a mechanism never does."""

    ad_tolerance: float = Field(default=0.5, ge=0, le=1)
    """0 = leaves at the first ad, 1 = does not mind ads."""
    price_sensitivity: float = Field(default=0.5, ge=0, le=1)
    """0 = price does not matter, 1 = only price matters."""
    patience: float = Field(default=0.5, ge=0, le=1)
    """How far down an answer this persona reads: 0 = the first lines, 1 = to the end."""
    affinity: dict[str, float] = Field(default_factory=dict)
    """Hidden taste: ad category -> number in [-1, 1]. A missing category gets a small keyed draw."""


class Persona(Record):
    """A user of the simulation. Source: LLM-Auction, section 5.1 (basic information and personal interests)."""

    id: str = Field(min_length=1)
    """Unique in its pack."""
    info: OutsideText = Field(min_length=1)
    """Basic facts; the platform knows them too."""
    interests: tuple[OutsideText, ...] = ()
    """Interests; the platform knows them too."""
    age: int | None = Field(default=None, ge=0, le=130)
    """Years."""
    region: str = ""
    """World region, used to balance a pack."""
    income: str = ""
    """low, middle or high, used to balance a pack."""
    attitude: str = ""
    """Private: attitude to ads and prices, in words, for a judge LLM."""
    traits: Traits = Traits()
    """Private: the attitude in numbers, for the click model."""
    queries: tuple[OutsideText, ...] = ()
    """Fixed queries, in the order of a session."""

    @property
    def profile(self) -> str:
        """The profile as the platform sees it: facts and interests, nothing private."""
        facts = self.info if self.info.endswith((".", "!", "?")) else f"{self.info}."
        return f"{facts} Interests: {', '.join(self.interests)}." if self.interests else facts


class Query(Record):
    """One question to the assistant."""

    text: OutsideText = Field(min_length=1)
    """What the user typed. A link in it becomes plain text: only a mechanism places links."""
    topic: str = ""
    """Topic from the query's source, if known (a file's topic column, a pack); not a relevance label."""


class Ad(Record):
    """One ad of a catalog, owned by one advertiser; the ad's id also names the bidder."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")
    """Letters, digits, dot, dash, underscore; unique in its catalog."""
    advertiser: OutsideText
    """Name of the advertiser."""
    title: LinkText = Field(min_length=1, max_length=120, pattern=r"^[^@\[\]\n\r]+$")
    """The link text, without the mark-up characters @ [ ] and without line breaks."""
    body: OutsideText = ""
    """The advertiser's own copy: the claims that an answer may make about the ad. Links in it become plain text."""
    category: str = "general"
    """Product category."""
    url: str = ""
    """Target of a click."""

    @property
    def link(self) -> str:
        """The mark-up for this ad in an answer: `@Title@[Ad-ID]` (LLM-Auction, section 5.1)."""
        return f"@{self.title}@[{self.id}]"

    @property
    def text(self) -> str:
        """Title and copy, for encoders and prompts."""
        return f"{self.title}. {self.body}" if self.body else self.title


Unit = Literal["click", "view"]
"""What a bid is for: a click on the ad, or a view of it, which is an answer that shows it (an impression)."""


class Bid(Record):
    """One candidate ad with its advertiser's bid."""

    ad: Ad
    amount: float = Field(ge=0)
    """Currency per click, or per view."""
    relevance: float = Field(default=0.0, ge=-1.0001, le=1.0001)
    """The retriever's score: cosine similarity of query and ad in [-1, 1]."""
    unit: Unit = Field(default="click", exclude_if=lambda unit: unit == "click")
    """What the amount is for: click or view. Left out of logs for a click."""

    def units(self, click: float) -> float:
        """Number of clicks, or of views of a bid per view, that showing the ad brings.

        Args:
            click: Whether the shown ad is clicked, or the probability of it.
        """
        return 1.0 if self.unit == "view" else click


class Exchange(Record):
    """An earlier turn of a session: what the user asked and was answered."""

    query: Query
    response: str
    """The answer with its ads in mark-up; empty if it failed."""


class ShownAd(Record):
    """An ad that an earlier answer of the session showed."""

    ad_id: str
    turn: int = Field(ge=0)
    """Position of that answer in the session."""


class Auction(Record):
    """All data of one user turn that a mechanism may see. Source: LLM-Auction, section 3.

    Where the turns of a session are linked (`simenv.sessions`) it also has the session's horizon and what was asked,
    answered and shown before. These three are left out of logs where turns are apart.
    """

    id: str
    """Unique in a run; it also keys all random draws of this turn."""
    session_id: str = ""
    """The session of this turn: unique in a run."""
    turn: int = Field(default=0, ge=0)
    """Position of this turn in its session."""
    horizon: int | None = Field(default=None, ge=1, exclude_if=lambda horizon: horizon is None)
    """Number of turns of the session. None: turns are apart, each with values and bids of its own."""
    history: tuple[Exchange, ...] = Field(default=(), exclude_if=lambda history: not history)
    """The session's turns before this one, in order."""
    shown: tuple[ShownAd, ...] = Field(default=(), exclude_if=lambda shown: not shown)
    """The ads of the answers before, in the order of the turns and then in reading order."""
    query: Query
    profile: OutsideText = ""
    """The user as the platform sees it."""
    bids: tuple[Bid, ...] = ()
    """Candidates in the retriever's order, most relevant first."""
    max_ads: int = Field(default=2, ge=0)
    """Maximum number of ads without a penalty."""
    reserve: float = Field(default=0.0, ge=0)
    """Reserve price, currency per click: no ad may be shown at a lower price, so no bid below it may win. It does not
    bind bids per view by itself: a mechanism that takes them may derive a reserve per view from it."""

    def admits(self, bid: Bid) -> bool:
        """Whether the reserve allows a bid to win: it is per view, or at least the reserve."""
        return bid.unit == "view" or bid.amount >= self.reserve

    def bid_of(self, ad_id: str) -> Bid:
        """The bid on one candidate ad.

        Raises:
            UnknownName: the ad is not a candidate.
        """
        for bid in self.bids:
            if bid.ad.id == ad_id:
                return bid
        raise UnknownName("candidate ad", ad_id, [bid.ad.id for bid in self.bids])

    def answered(self, outcome: Outcome) -> Auction:
        """This auction with the question that the outcome's answer is about: the follow-up question that was chosen.

        The candidates' `relevance` stays that to the query. Without a chosen question it is this auction itself.
        """
        if outcome.chosen is None:
            return self
        text = outcome.suggestions[outcome.chosen].text
        return self.model_copy(update={"query": Query(text=text, topic=self.query.topic)})


class Placement(Record):
    """One clickable ad in an answer."""

    ad_id: str
    price: float = Field(ge=0)
    """Payment if clicked: currency per click. 0 for an ad that pays per view: that payment is a transfer."""
    span: tuple[int, int]
    """Position of its mark-up in the response: half-open character offsets."""


ViolationKind = Literal["unknown_ad", "changed_title", "broken_markup", "repeated_ad", "unpriced_ad", "leaked_process"]


class MarkupViolation(Record):
    """A breach of the insertion rules."""

    kind: ViolationKind
    """unknown_ad: no candidate has this id. changed_title: the id is right, the title is not. broken_markup: mark-up
    that is not a link. repeated_ad: an ad linked more than once. unpriced_ad: a link without a price. leaked_process:
    text about bids, candidates or the insertion of ads."""
    text: str
    """The piece of text with the violation, verbatim."""
    span: tuple[int, int]
    """Position of the piece in the response: half-open character offsets."""


class Usage(Record):
    """Language model use: calls, tokens and cost."""

    calls: int = Field(default=0, ge=0)
    """Completions."""
    prompt_tokens: int | None = Field(default=0, ge=0)
    """None: a server did not count them, in at least one of the completions."""
    completion_tokens: int | None = Field(default=0, ge=0)
    """None: a server did not count them, in at least one of the completions."""
    cost_usd: float = Field(default=0.0, ge=0)
    """US dollars, by the provider's list price; 0 for local models and unknown prices."""

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens; None if one of them is unknown."""
        return _sum(self.prompt_tokens, self.completion_tokens)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            completion_tokens=_sum(self.completion_tokens, other.completion_tokens),
            cost_usd=self.cost_usd + other.cost_usd,
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


class Suggestion(Record):
    """A follow-up question that a mechanism offers: if the user chooses it, its answer is what the user sees."""

    text: OutsideText = Field(min_length=1)
    ad_id: str | None = None
    """The ad in the answer to it: the question is then labelled as sponsored. None: its answer has no ad."""
    price: float | None = Field(default=None, ge=0)
    """What a click on this ad costs: currency. None: there is no ad."""
    prob: float | None = Field(default=None, ge=0, le=1)
    """The mechanism's own prediction that the user chooses this question. None: it makes none."""


class Outcome(Record):
    """A mechanism's decision: the answer, the ads in it and their prices.

    Build it with `simenv.outcome(auction, response, prices)`, which reads the placements from the text.
    """

    response: str
    """The answer as the user sees it, ads in mark-up."""
    placements: tuple[Placement, ...] = ()
    """The clickable ads, in reading order."""
    transfers: dict[str, float] = Field(default_factory=dict)
    """Ad id -> payment for this auction, independent of clicks, in currency (negative: the platform pays). The payment
    of a bid per view is one."""
    violations: tuple[MarkupViolation, ...] = ()
    """Breaches of the insertion rules."""
    usage: Usage = Usage()
    """Language model use for this answer."""
    details: dict[str, JsonValue] = Field(default_factory=dict)
    """Data that the mechanism logs (scores, candidates, propensities). The world never reads it. A text `note` is shown
    in transcripts and reports."""
    suggestions: tuple[Suggestion, ...] = Field(default=(), exclude_if=lambda suggestions: not suggestions)
    """The follow-up questions that the user could choose from (`simenv.mechanism.Suggests`). Left out of logs where
    there are none."""
    chosen: int | None = Field(default=None, ge=0, exclude_if=lambda chosen: chosen is None)
    """Place in `suggestions` of the question that the user chose and that `response` answers. None, and left out of
    logs: none of them, and `response` answers the query."""

    @property
    def note(self) -> str:
        """What the mechanism says of its decision, for readers: the text `note` of its details, or ""."""
        note = self.details.get("note")
        return note if isinstance(note, str) else ""


class Click(Record):
    """A judge's verdict on one shown ad."""

    ad_id: str
    clicked: bool | None
    """None: the judge abstained, or its verdict could not be parsed. None does not count as "no click"."""
    click_prob: float | None = Field(default=None, ge=0, le=1)
    """Probability that the user clicks, if the judge gives it."""
    reason: str = ""
    conversion_prob: float | None = Field(default=None, ge=0, le=1, exclude_if=lambda prob: prob is None)
    """Probability that a click converts, such as into a purchase. None, here and in the next two fields, and left out
    of logs: the world has no conversions (`simenv.conversions`)."""
    converted: bool | None = Field(default=None, exclude_if=lambda converted: converted is None)
    """Whether the ad was clicked and the click converted. None also where `clicked` is None."""
    conversion_value: float | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    """What a conversion is worth to the advertiser: currency."""


class AdQuality(Record):
    """Factuality, disclosure and surprise of one shown ad."""

    ad_id: str
    factuality: float | None = Field(default=None, ge=0, le=1)
    """Share of the answer's statements about the ad that are in the ad's copy: 0 = none, 1 = all. None: unknown."""
    disclosure: float | None = Field(default=None, ge=0, le=1)
    """How clearly the answer marks the ad as an ad: 0 = not at all, 1 = explicitly. None: unknown."""
    surprise: float | None = Field(default=None, ge=0)
    """Mean -log p per token of the ad's sentence, given the query and the text before it, nats. None: not measured."""


def _is_none(value: object) -> bool:
    return value is None


Gem100 = Annotated[float | None, Field(ge=-100, le=100)]
GemGrade = Annotated[float | None, Field(default=None, ge=0, le=100, exclude_if=_is_none)]


class Gem(Record):
    """GEM-Bench's quantities of one answer (Hu, Zhang, Shi and Xiao 2025, arXiv 2509.14221); see `simenv.quality.gem`.

    All are on a scale up to 100. Those of embeddings are 100 x a cosine, and their levels depend on the encoder. Grades
    are 0, 30, 60 or 90; None, and left out of logs: not judged, or an abstention.
    """

    flow: Gem100
    """Mean cosine of neighbouring sentences. None: fewer than two sentences."""
    coherence: Gem100
    """Mean cosine of each sentence with the mean of all. None: fewer than two sentences."""
    transition: Gem100
    """Mean over ad sentences of exp(-|cosine with the sentence before - cosine with the sentence after|): what
    GEM-Bench computes. None: no ad sentence stands between two sentences."""
    transition_least: Gem100
    """Mean over ad sentences of the smaller of the two cosines: what GEM-Bench's comments describe. None: as above."""
    alignment: Gem100
    """Mean cosine of ad sentences with the mean of the other sentences. None: there are none of either."""
    has_ad: float = Field(ge=0, le=100)
    """100 if a sentence has the title or the address of an ad that was chosen, else 0."""
    injected: float = Field(ge=0, le=100)
    """100 if an ad was chosen, whether or not the text has it, else 0."""
    accuracy: GemGrade
    """Relevant and correct."""
    naturalness: GemGrade
    """Does not interrupt, is not formulaic."""
    personality: GemGrade
    """Helps, rather than sells."""
    trust: GemGrade
    """Credible and unbiased."""
    notice: GemGrade
    """The user notices the products, and likes them: 90 positive, 60 neutral, 30 not noticed, 0 negative."""
    click: GemGrade
    """The user clicks: 90 likely, 60 noticed alone, 30 hardly noticed, 0 not noticed."""
    unread: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """Grades whose verdict could not be read: abstentions. Left out of logs if there are none."""


class Quality(Record):
    """Quality of one answer, apart from its clicks, from a quality measure (`simenv.quality.embedded`)."""

    ad_free: str | None = None
    """The answer to the same query with the same key and without ads: the counterfactual. None: not written."""
    quality_loss: float | None = Field(default=None, ge=-1, le=1)
    """Satisfaction with the ad-free answer minus satisfaction with this answer. None: one of them is unknown."""
    kept: float | None = Field(default=None, ge=0, le=1)
    """Share of the ad-free answer's content that is also in this answer. None: unknown, or not measured."""
    ad_text_share: float | None = Field(default=None, ge=0, le=1)
    """Number of words in sentences that advertise, divided by the number of words of the answer."""
    ads: tuple[AdQuality, ...] = ()
    """One row per placement, in the same order."""
    gem: Gem | None = Field(default=None, exclude_if=_is_none)
    """GEM-Bench's quantities. None, and left out of logs: not measured."""
    usage: Usage = Usage()
    """Language model use of the measurement: a judge's calls, and the ad-free answer unless the mechanism requested the
    same completion itself. It is never part of the mechanism's usage. Completions from memory count."""


class Choice(Record):
    """Which of a mechanism's follow-up questions a user chooses."""

    place: int | None = Field(default=None, ge=0)
    """Place of the chosen question among the suggestions. None: none of them."""
    probs: tuple[float, ...] | None = None
    """Probability of each suggestion; what is missing to 1 is the probability of none. None: the judge gives none."""
    reason: str = ""
    abstained: bool = Field(default=False, exclude_if=lambda abstained: not abstained)
    """Whether the judge's reply could not be read: `place` is then None. Left out of logs where False."""


class Feedback(Record):
    """The judge's verdict on one answer, and its quality."""

    clicks: tuple[Click, ...] = ()
    """One row per placement, in the same order."""
    satisfaction: float | None = Field(default=None, ge=0, le=1)
    """How well the answer served the user: 0 = not at all, 1 = fully. From the quality measure, otherwise from a judge
    that gives it. None: unknown."""
    quality: Quality | None = None
    """None: not measured."""
    disagreement: float | None = Field(default=None, ge=0, le=1)
    """Mean absolute difference between the click probabilities of an ensemble's judges, over pairs of judges and ads.
    None: a single judge, or no ad with verdicts of two judges."""
    usage: Usage = Usage()
    """Language model use for judging."""
    asked_again: int = Field(default=0, ge=0, exclude_if=lambda times: not times)
    """How often a judge was asked once more, because its reply could not be read. Left out of logs where 0."""
    choice: Choice | None = Field(default=None, exclude_if=lambda choice: choice is None)
    """Which follow-up question the user chose. None, and left out of logs: none was offered."""


class Failure(Record):
    """Why there is no answer."""

    kind: str
    """Name of the error's class, such as LLMUnavailable or LLMRefused."""
    text: str
    """The error's message."""


class Overcharge(Record):
    """A charge that no bid covers."""

    kind: Literal["price_above_bid", "bid_below_reserve", "transfer_above_bid", "transfer_not_shown"]
    """price_above_bid: the price per click exceeds the bid. bid_below_reserve: it does, because the bid is below the
    reserve, so that the ad may not be shown. transfer_above_bid: price and transfer together exceed the bid.
    transfer_not_shown: an ad that the answer does not show is charged."""
    ad_id: str
    excess: float = Field(ge=0)
    """What is charged beyond the bid, or beyond 0 if the ad is not shown: currency, if it is clicked."""


class Transition(Record):
    """One complete turn: auction, outcome, feedback, values and payments."""

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
    """Private value of every candidate, per click, or per view if it bids per view: ad id -> currency."""
    payments: dict[str, float]
    """Realised payments: ad id -> currency. Price times click, plus transfers. An abstained verdict adds no payment."""
    expected_payments: dict[str, float] | None
    """Payments in expectation over clicks. None: the judge did not give all click probabilities."""
    overcharges: tuple[Overcharge, ...] = Field(default=(), exclude_if=lambda overcharges: not overcharges)
    """Charges that no bid covers (`simenv.charges`). Left out of logs where there are none."""
    reward: float | None
    """sum of bid x click over shown ads - penalty; a bid per view counts once for each shown ad. None: the judge
    abstained on a shown ad."""
    expected_reward: float | None
    """Reward in expectation over clicks. None: the judge did not give all click probabilities."""
    penalty: float | None = Field(default=None, exclude_if=lambda penalty: penalty is None)
    """The penalty in the reward, where no reward is known; else None, and left out of logs."""
    error: Failure | None = Field(default=None, exclude_if=lambda error: error is None)
    """Why there is no answer: outcome and feedback are then empty, and no number of this row counts. None, and left out
    of logs, for an answer."""

    @property
    def abstentions(self) -> int:
        """Number of shown ads without a verdict."""
        return sum(click.clicked is None for click in self.feedback.clicks)
