"""A click-intent evaluator as a CTR model: a small head on a frozen encoder, learned from judged answers.

    score = head(vectors of question, profile, offer and ad sentence),    q_i(y) = map(score)

Source: Turner-Smith, Huang, Fu, Zhang and Wang 2026, "pricing by a distilled click-intent evaluator" (2607.27686), by
our reading of its abstract; the full text was not read. There, simulated readers grade click intent from 1 to 5, and a
small head on a frozen language model learns these grades together with relevance, coherence and ad effectiveness, by a
loss that respects the order of the grades. Here the frozen model is the sentence encoder, and the loss is the
likelihood of cumulative logits (`ordinal.py`). A grade is no probability. So a monotone map, fitted to what held-out
readers did (`monotone_map.py`), turns the score into one before it multiplies a bid: a mechanism that ranked by
another monotone function of the score would choose other winners.

Truth stays optimal in a mechanism that is truthful given its CTR model, whatever the evaluator predicts: it reads no
bids. In `best_of_n`, W(z) = max_y (a_y + z q_i(y)) over answers written without bids is convex and piecewise linear in
the bid z, so the Myerson payment b_i x_i - integral_0^{b_i} x_i is the VCG payment that it charges (derived by us,
checked numerically in the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simenv.ctr.ad_view import AdView, bare_views, inputs, views
from simenv.ctr.evaluator_file import EvaluatorFile, read_evaluator
from simenv.ctr.ordinal import OrdinalHead
from simenv.encoder import Encoder, default_encoder
from simenv.errors import InputError
from simenv.records import Auction

Floats = npt.NDArray[np.float64]


class Evaluator:
    """The model of this module. Use `load`, or `simenv.fitting.evaluator.fit_evaluator`, to create it.

    Args:
        file: Its numbers.
        encoder: The encoder that they were learned with.

    Raises:
        InputError: another encoder.
    """

    def __init__(self, file: EvaluatorFile, encoder: Encoder) -> None:
        if encoder.name != file.encoder:
            raise InputError(f"the evaluator was learned on vectors of {file.encoder}, got the encoder {encoder.name}")
        self.file = file
        self.position_discount = file.position_discount
        self.sha256 = file.computed_sha256()
        self.name = f"evaluator {self.sha256[:12]}" + (f" of {log}" if (log := file.learned.get("log")) else "")
        self._encoder = encoder
        self._mean, self._scale = file.array("mean"), file.array("scale")
        self._head = OrdinalHead(file.array("hidden"), file.array("weights"), file.array("cuts"))

    @staticmethod
    def load(path: str | Path, encoder: Encoder | None = None) -> Evaluator:
        """A click-intent evaluator learned from judged answers by `simenv fit-evaluator`: evaluator:FILE.

        Raises:
            DataFileError: no such file, not an evaluator, or a damaged one.
            InputError: it was learned with another encoder.
        """
        return Evaluator(read_evaluator(path), encoder or default_encoder())

    def relevance(self, auction: Auction) -> Floats:
        """The click probability of every candidate, with its own copy in place of a sentence about it."""
        return self.file.map(self.scores(bare_views(auction)))

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        probs = self.file.map(self.scores(views(auction, response, shown)))
        return dict(zip(shown, probs.tolist(), strict=True))

    def scores(self, rows: Sequence[AdView]) -> Floats:
        """Score of click intent of each ad, in log-odds: shape (len(rows),)."""
        return self.scores_of(inputs(self._encoder, rows)) if rows else np.zeros(0)

    def scores_of(self, raw: Floats) -> Floats:
        """The same of inputs as `simenv.ctr.ad_view.inputs` returns them: shape (rows,)."""
        return self._head.scores(normalized(raw, self._mean, self._scale))[:, 0]


def normalized(raw: Floats, mean: Floats, scale: Floats) -> Floats:
    """Inputs less their mean, in units of `scale`; what is unknown is at its mean."""
    return np.asarray(np.nan_to_num((raw - mean) / scale, nan=0.0), dtype=np.float64)
