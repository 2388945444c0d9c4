"""Metrics of answers themselves: their ads, faults, cost and quality, and what users choose after them."""

from __future__ import annotations

from simenv.records import AdQuality, Quality, Suggestion, Transition
from simenv.runs.metric_types import Ratio, Required, Share, mean
from simenv.runs.useless import is_empty, is_refusal
from simenv.writer.copy_check import in_own_words


class Ads(Required):
    """Number of clickable ads shown."""

    name, unit = "ads", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(len(transition.outcome.placements))


class Violations(Required):
    """Number of violations of the insertion rules."""

    name, unit = "violations", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(len(transition.outcome.violations))


class Abstentions(Required):
    """Number of shown ads without a verdict."""

    name, unit = "abstentions", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.abstentions)


class Errors(Share):
    """Share of answers that failed, and that no other number has."""

    name = "errors"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.error is not None)


class Refusals(Share):
    """Share of answers that are nothing but a refusal, apart from their ads."""

    name = "refusals"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(is_refusal(transition))


class EmptyAnswers(Share):
    """Share of answers that are blank, or ads without any answer."""

    name = "empty"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(is_empty(transition))


class AskedAgain(Share):
    """Number of times that the judge was asked once more, because its reply could not be read."""

    name, unit = "asked_again", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.feedback.asked_again)


class Overcharges(Share):
    """Number of charges that no bid covers: above the bid, or of ads that are not shown."""

    name, unit = "overcharges", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(len(transition.overcharges))


class AbstentionRate(Share):
    """Share of shown ads without a verdict."""

    name, unit = "abstained", "share of shown ads"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return float(transition.abstentions), float(len(transition.feedback.clicks))


class Transfers(Share):
    """Payments that depend on no click."""

    name, unit = "transfers", "currency per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(sum(transition.outcome.transfers.values()))


class SessionAds:
    """Number of ads shown in a session of linked turns, over the sessions that began."""

    name, unit, optional = "session_ads", "per session", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        if transition.auction.horizon is None:
            return None
        return float(len(transition.outcome.placements)), float(transition.auction.turn == 0)


class StopTurn:
    """Turn of a session's first ad, counted from 0, over the sessions of linked turns that show one."""

    name, unit, optional = "stop_turn", "turn", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        if transition.auction.horizon is None:
            return None
        first = bool(transition.outcome.placements) and not transition.auction.shown
        return (float(transition.auction.turn), 1.0) if first else (0.0, 0.0)


class QuestionChosen:
    """Share of offers of follow-up questions in which the user chooses one."""

    name, unit, optional = "question_chosen", "share of offers", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        choice = transition.feedback.choice
        if choice is None or choice.abstained:
            return None
        counted = [self.counts(question) for question in transition.outcome.suggestions]
        if expected and choice.probs is not None:
            return sum(prob for prob, counts in zip(choice.probs, counted, strict=True) if counts), 1.0
        return float(choice.place is not None and counted[choice.place]), 1.0

    def counts(self, question: Suggestion) -> bool:
        """Whether choosing this question counts."""
        return True


class SponsoredChosen(QuestionChosen):
    """Share of offers of follow-up questions in which the user chooses a sponsored one."""

    name = "sponsored_chosen"

    def counts(self, question: Suggestion) -> bool:
        return question.ad_id is not None


class LLMCalls(Required):
    """Number of completions of the mechanism."""

    name, unit = "llm_calls", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.outcome.usage.calls)


class Tokens(Required):
    """Number of prompt and completion tokens of the mechanism, over the answers whose tokens the server counted."""

    name, unit = "tokens", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.outcome.usage.tokens)


class Satisfaction:
    """User satisfaction with the answer: whether it is on the topic, whole and unpressed, not whether it is true."""

    name, unit, optional = "satisfaction", "per answer, 0 to 1", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return mean(transition.feedback.satisfaction)


class _OfQuality:
    """A number that the quality measure gives of an answer."""

    name: str
    optional = True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        quality: Quality | None = transition.feedback.quality
        return mean(None if quality is None else getattr(quality, self.name))


class QualityLoss(_OfQuality):
    """Satisfaction with the ad-free answer minus that with this one."""

    name, unit = "quality_loss", "per answer, -1 to 1"


class Kept(_OfQuality):
    """Share of the ad-free answer's content that this answer keeps."""

    name, unit = "kept", "share"


class AdTextShare(_OfQuality):
    """Share of the answer's words that are in sentences with ads."""

    name, unit = "ad_text_share", "share"


class _OfAds:
    """A number that the quality measure gives of each shown ad. An answer with an ad of unknown number is left out."""

    name: str
    optional = True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        quality = transition.feedback.quality
        ads: tuple[AdQuality | None, ...] = (None,) if quality is None else quality.ads
        numbers = [None if ad is None else getattr(ad, self.name) for ad in ads]
        known = [number for number in numbers if number is not None]
        return (sum(known), float(len(known))) if len(known) == len(numbers) else None


class Factuality(_OfAds):
    """Degree to which the ad's own copy supports the statements about it."""

    name, unit = "factuality", "per shown ad, 0 to 1"


class Surprise(_OfAds):
    """Mean -log p of the tokens of the ad's sentence."""

    name, unit = "surprise", "nats per token, per shown ad"


class Disclosure(_OfAds):
    """Degree to which the answer discloses the ad as an ad."""

    name, unit = "disclosure", "per shown ad, 0 to 1"


class OwnCopy:
    """Share of shown ads in the advertiser's own words: the writer fell back on them, or the mechanism quotes."""

    name, unit, optional = "own_copy", "per shown ad, 0 to 1", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        ads = [transition.auction.bid_of(placement.ad_id).ad for placement in transition.outcome.placements]
        quoted = sum(in_own_words(transition.outcome.response, ad) for ad in ads)
        return (float(quoted), float(len(ads))) if ads else None
