"""GEM-Bench's quantities as metrics: in tables of runs whose quality is gem or gem_judged (`simenv.quality.gem`)."""

from __future__ import annotations

from simenv.records import Gem, Transition


class _OfGem:
    """One of the quantities. An answer without it, such as an abstention, is left out."""

    name: str
    unit, optional = "per answer, up to 100", True

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float] | None:
        gem = _gem(transition)
        value = None if gem is None else getattr(gem, self.name.removeprefix("gem_"))
        return None if value is None else (float(value), 1.0)


class GemFlow(_OfGem):
    """GEM-Bench's flow: mean cosine of neighbouring sentences."""

    name = "gem_flow"


class GemCoherence(_OfGem):
    """GEM-Bench's coherence: mean cosine of each sentence with the mean of all."""

    name = "gem_coherence"


class GemTransition(_OfGem):
    """GEM-Bench's ad transition as its code has it: exp(-|difference of the cosines with both neighbours|)."""

    name = "gem_transition"


class GemTransitionLeast(_OfGem):
    """GEM-Bench's ad transition as its comments have it: the smaller cosine with a neighbour."""

    name = "gem_transition_least"


class GemAlignment(_OfGem):
    """GEM-Bench's ad alignment: mean cosine of ad sentences with the mean of the others."""

    name = "gem_alignment"


class GemHasAd(_OfGem):
    """100 if the text has the title or address of an ad that was chosen."""

    name = "gem_has_ad"


class GemInjected(_OfGem):
    """100 if an ad was chosen, in the text or not."""

    name = "gem_injected"


class GemAccuracy(_OfGem):
    """GEM-Bench's judged accuracy: relevant and correct."""

    name = "gem_accuracy"


class GemNaturalness(_OfGem):
    """GEM-Bench's judged naturalness: does not interrupt, is not formulaic."""

    name = "gem_naturalness"


class GemPersonality(_OfGem):
    """GEM-Bench's judged personality: helps rather than sells."""

    name = "gem_personality"


class GemTrust(_OfGem):
    """GEM-Bench's judged trust: credible and unbiased."""

    name = "gem_trust"


class GemNotice(_OfGem):
    """GEM-Bench's judged notice: products are noticed, and liked."""

    name = "gem_notice"


class GemClick(_OfGem):
    """GEM-Bench's judged click: links are noticed, and clicked."""

    name = "gem_click"


class GemUnread:
    """Number of GEM-Bench's grades whose verdict could not be read: abstentions."""

    name, unit, optional = "gem_unread", "per answer, of 6", True

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float] | None:
        gem = _gem(transition)
        judged = gem is not None and (gem.accuracy is not None or gem.unread)
        return (float(len(gem.unread)), 1.0) if gem is not None and judged else None


def _gem(transition: Transition) -> Gem | None:
    quality = transition.feedback.quality
    return None if quality is None else quality.gem


GEM_METRICS = (
    GemFlow(),
    GemCoherence(),
    GemTransition(),
    GemTransitionLeast(),
    GemAlignment(),
    GemHasAd(),
    GemInjected(),
    GemAccuracy(),
    GemNaturalness(),
    GemPersonality(),
    GemTrust(),
    GemNotice(),
    GemClick(),
    GemUnread(),
)
"""All of them, in the order of tables."""
