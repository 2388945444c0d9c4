"""Iterative Reward-Preference Optimization (LLM-Auction, Algorithm 1).

    for each epoch:
        phase 1   the current policy answers; the judge clicks; pCTR is fitted again on all clicks so far
        phase 2   new bids; M responses of the current policy per auction; R = sum_i b_i pctr_i - penalty; updates
                  with the epoch's starting policy as the reference

The losses, with names as in TRL. Their inputs are rewards in currency and log-ratios log pi - log pi_ref:

    dpo         -log sigmoid(beta (chosen log-ratio - rejected log-ratio)), for the best response against each
                response whose reward is lower by more than delta
    regression  smooth L1 between the log-ratio and R / kl_weight, both centred over the sample: zero if and only if
                pi = pi_ref exp(R / kl_weight) / Z, the optimum of eq. 2 (the REBEL family, Gao et al. 2024)
    sft         -log pi of the best response; the loss of a warm start (RAFT, Dong et al. 2023)

DPO on pairs that always prefer the higher reward has the argmax as its only optimum. The optimum of the regression loss
is smooth in the bids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from simenv.judges.base import Judge
from simenv.objective import Objective
from simenv.records import Click, Record

from .click_features import PCTRExample, pctr_examples
from .levels import Episode, Group, Level, Response, judge_clicks
from .reward_model import PCTR, STEPS, PredictedCTR
from .slim import PREDICTED, Score

Floats = npt.NDArray[np.float64]


_WRITTEN = (
    "sft_auctions",
    "stages",
    "sentence_kl_weight",
    "anchor",
    "plain_share",
    "plain_ad_cost",
    "temperature",
    "profile",
    "ads_at_end",
)
"""Options of the level written alone."""


class Config(Record):
    """All options of a training. The paper's values, for a model of 4 billion parameters, are in `examples/`."""

    llm: str = "embedded"
    """Base model: embedded or local:FOLDER."""
    level: Literal["links", "answers", "written"] = "links"
    """The kind of a response: see `levels.py`."""
    seed: int = 0
    epochs: int = Field(default=5, ge=1)
    """The paper's figures show 3."""
    auctions: int = Field(default=360, ge=1)
    """Per epoch, in phase 2. The paper: 12,000."""
    clicked_auctions: int = Field(default=300, ge=1)
    """Per epoch, in phase 1. More users improve pCTR more than more answers to the same users."""
    responses: int = Field(default=4, ge=1)
    """Answers per auction of phase 1. Algorithm 1 has 10."""
    validation: int = Field(default=45, ge=1)
    """Auctions on which the best epoch is chosen."""
    candidates: tuple[int, ...] = (4, 8, 16)
    """Ads per auction; auctions cycle through these numbers. The paper puts 100 ads into every prompt."""
    answer_tokens: int = Field(default=400, ge=1)
    """Maximum number of tokens of a whole answer."""
    sampler: str | None = None
    """answers: URL of a server that samples with the present adapter (`served.py`); None: this process samples."""
    sampler_folder: str | None = None
    """Where adapters are written for the server to read; None: a new temporary folder."""
    samples: int = Field(default=16, ge=2)
    """M. The paper samples 5 whole answers. At link level one forward pass gives the log-probability of every choice,
    so more samples need no more passes."""
    judge: Literal["click", "embedded", "llm"] = "click"
    """As `simenv bench --judge`."""
    judge_llm: str = "embedded"
    """Language model of the judge "llm"."""
    judge_api_base: str | None = None
    """URL of its server."""
    reward: Literal["pctr", "oracle"] = "pctr"
    """Source of clicks for R; Table 2 has both. oracle = the judge's own clicks."""
    pctr_steps: int = Field(default=STEPS, ge=1)
    """Updates of the reward model; every fit starts from a new initialisation."""
    loss: Literal["dpo", "regression", "sft"] = "regression"
    beta: float = Field(default=0.1, gt=0)
    """dpo: the paper's value."""
    delta: float = Field(default=10.0, ge=0)
    """dpo: minimum difference of rewards, currency; the paper's value, at bids 1..100."""
    kl_weight: float = Field(default=5.0, gt=0)
    """regression: the weight of the KL divergence in eq. 2, currency per nat. Its effect adds up over epochs."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """For LoRA on a small model. The paper, for all parameters of a large model: 1e-6."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps with a rising rate, then cosine to 0 (the paper's value)."""
    batch: int = Field(default=4, ge=1)
    """Auctions per update. The paper: 64."""
    micro_batch: int = Field(default=1, ge=1)
    """Auctions per backward pass. It changes memory use, not the result. 1 needs no padding: twice as fast on a CPU."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    blocks: tuple[int, ...] = tuple(range(10, 30))
    """Transformer blocks with an adapter; () = all. Blocks below the first of them need no backward pass."""
    start: str | None = None
    """Folder of the adapter that the training starts from, of the same model, rank and blocks; "shipped": the one that
    ships. None: a new adapter, which changes nothing."""
    save_every: int = Field(default=10, ge=1)
    """Updates between two saved states."""
    warm_start: int = Field(default=0, ge=0)
    """Updates with the loss sft before the first epoch, on separate auctions and with the same rewards."""
    fresh_bids: bool = True
    """Whether every epoch draws new auctions and bids (Algorithm 1); if not, phase 2 reuses those of epoch 1."""
    sft_auctions: int = Field(default=0, ge=0)
    """written: auctions from which examples for supervised fine-tuning are made (`sft.py`); 0: no fine-tuning."""
    sft_epochs: int = Field(default=2, ge=1)
    sft_batch: int = Field(default=8, ge=1)
    """Examples per update."""
    sft_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the fine-tuning."""
    stages: tuple[Literal["labels", "sentences", "answers"], ...] = ()
    """written: what each epoch trains: the choice of ads alone (`label_choice.py`), one sentence of an answer
    (`sentence_choice.py`), or whole answers, as epochs without an entry do. The first two need `anchor`: in 112 updates
    without it, the ads of an answer of the embedded model fell from 1.1 to 0.06."""
    sentence_kl_weight: float | None = Field(default=None, gt=0)
    """`kl_weight` of epochs on sentences; None: the same. Rewards of answers that differ in one sentence differ by
    less."""
    anchor: float = Field(default=0.0, ge=0)
    """written: weight of the fine-tuning loss that each update adds: mean of -log pi, in nats, of `ANCHORED` examples.
    It keeps the language from drifting, like the pretraining gradients of InstructGPT (Ouyang et al. 2022)."""
    plain_share: float = Field(default=0.0, ge=0, lt=1)
    """written: share of the auctions whose question has no commercial intent (`plain_questions.txt`)."""
    plain_ad_cost: float = Field(default=0.0, ge=0)
    """written: currency taken off R for each ad shown to such a question: the user's displeasure. R of the paper has no
    such term: at 0, an ad with any chance of a click pays."""
    temperature: float = Field(default=1.0, gt=0)
    """written: of the sampled answers in training."""
    profile: bool = True
    """written: whether the prompt shows the user's profile as the platform sees it."""
    ads_at_end: bool = False
    """written: moves the sentences with ads to the end of an answer, for experiments."""
    penalty: bool = True
    """Whether R includes its penalty, in training and in the choice of the best epoch."""
    max_ads: int = Field(default=2, ge=0)
    """Ads without penalty. At link level a response shows at most two ads and is never malformed, so the penalty is
    nonzero there only for a value below 2."""
    show_score: bool = True
    """links: whether the prompt shows a score. The mechanism always shows one; False is an experiment."""
    score: Score = "retriever"
    """The order of the prompt's list and its digits: the retriever's cosine, the reward model's prediction for the ad
    alone ("pctr"), or the bid times that ("ecpm"); before the first fit, the retriever's. The mechanism has an option
    of the same name."""
    personas: str = "everyday"
    catalog: str = "everyday"
    threads: int = Field(default=2, ge=1)
    engine: str = "local"
    """Where answers are sampled and judged: local, or ray. Updates are computed in this process."""
    ray_address: str | None = None
    """As `simenv bench --ray-address`."""
    workers: int | None = Field(default=None, ge=1)
    """As `simenv bench --workers`. Each takes `threads` processors."""

    @model_validator(mode="after")
    def _checked(self) -> Config:
        if self.sampler is not None and self.level != "answers":
            raise ValueError(f"sampler: only for level answers, got level {self.level}: no server inserts links")
        if len(self.stages) > self.epochs:
            raise ValueError(f"stages: one for each epoch at most ({self.epochs}), got {len(self.stages)}")
        if {*self.stages} - {"answers"} and not self.anchor:
            raise ValueError(
                f"stages {', '.join(self.stages)} need anchor, for instance 0.05: "
                "without it the embedded model stops opening links"
            )
        if self.anchor and not self.sft_auctions:
            raise ValueError("anchor needs examples: sft_auctions, for instance 600")
        if self.plain_ad_cost and not self.plain_share:
            raise ValueError("plain_ad_cost needs questions without commercial intent: plain_share, for instance 0.25")
        if self.predicts and self.reward == "oracle":
            raise ValueError(f'score "{self.score}" needs a reward model, and with reward "oracle" none is fitted')
        if self.level == "written" and self.llm == "embedded" and not self.sft_auctions:
            raise ValueError("level written needs sft_auctions, for instance 600: the embedded model shows no ads")
        only_written = [name for name in _WRITTEN if getattr(self, name) != type(self).model_fields[name].default]
        if self.level != "written" and only_written:
            raise ValueError(f"{', '.join(only_written)}: only for level written, got level {self.level}")
        return self

    @property
    def predicts(self) -> bool:
        """Whether prompts show predictions of the reward model."""
        return self.score in PREDICTED

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.auctions / self.batch)

    def stage(self, epoch: int) -> str:
        """What an epoch trains, counted from 1: its entry in `stages`, or whole answers."""
        return self.stages[epoch - 1] if 0 < epoch <= len(self.stages) else "answers"

    def rate(self, step: int) -> float:
        """Learning rate of update `step`, counted over all epochs."""
        return cosine(step, self.epochs * self.steps_per_epoch, self.learning_rate, self.warmup)


def cosine(step: int, total: int, peak: float, warmup: float) -> float:
    """The learning rate of update `step` of `total`: linear rise for a share `warmup` of them, then cosine to 0."""
    warm = warmup * total
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def collect_clicks(level: Level, auctions: Sequence[Episode], judge: Judge, config: Config) -> list[PCTRExample]:
    """Phase 1: the judge's clicks on on-policy answers."""
    seen = level.seen(auctions, config.responses)
    verdicts = judge_clicks(judge, [(one.episode, one.outcome) for one in seen])
    examples: list[PCTRExample] = []
    for (episode, outcome, logged), clicks in zip(seen, verdicts, strict=True):
        clicked = {click.ad_id: click.clicked for click in clicks}
        rows = pctr_examples(episode.auction, outcome.response, [p.ad_id for p in outcome.placements], clicked)
        examples += [row for row in rows if row.ad in logged]
    return examples


def rewards(
    level: Level,
    source: PCTR | Judge,
    answers: Sequence[tuple[Episode, Sequence[Response]]],
    objective: Objective,
    plain_ad_cost: float = 0.0,
) -> list[list[float]]:
    """R of responses (LLM-Auction, eq. 5), in currency: for each episode, one number per response.

    Clicks come from the reward model or from the judge. If the judge gives click probabilities, R is in expectation:
    the Oracle of Table 2. An abstention counts as no click.

    Args:
        level: Turns responses into outcomes.
        source: Predicts or gives the clicks.
        answers: Episodes with responses.
        objective: Gives R.
        plain_ad_cost: Currency taken off for each ad that is shown to a question without commercial intent.
    """
    shown = [(episode, level.outcome(episode, response)) for episode, responses in answers for response in responses]
    if isinstance(source, PCTR):
        answered = [(e.auction, o.response, [p.ad_id for p in o.placements]) for e, o in shown]
        probs = PredictedCTR(source).click_probs_of(answered)
    else:
        probs = [{c.ad_id: _click_prob(c) for c in clicks} for clicks in judge_clicks(source, shown)]
    scores = iter(
        objective.reward(episode.auction, p, outcome.violations)
        - (plain_ad_cost * len(outcome.placements) if episode.plain else 0.0)
        for p, (episode, outcome) in zip(probs, shown, strict=True)
    )
    return [[next(scores) for _ in responses] for _, responses in answers]


def _click_prob(click: Click) -> float:
    return click.click_prob if click.click_prob is not None else float(bool(click.clicked))


def sample_groups(
    level: Level,
    auctions: Sequence[Episode],
    source: PCTR | Judge,
    objective: Objective,
    config: Config,
    key: str = "preferences",
) -> list[Group]:
    """Phase 2: M responses per auction with their rewards. The current policy becomes the reference.

    `key` names the draw; use another key if the same auctions are sampled again.
    """
    drawn = [dict(one) for one in level.respond(auctions, config.samples, key)]
    answers = [(episode, list(ref_logps)) for episode, ref_logps in zip(auctions, drawn, strict=True)]
    scores = rewards(level, source, answers, objective, config.plain_ad_cost)
    return [
        Group(responses, list(ref_logps.values()), one)
        for (_, responses), ref_logps, one in zip(answers, drawn, scores, strict=True)
    ]


def teaches(group: Group, config: Config) -> bool:
    """Whether the group gives a training signal."""
    if len(group.responses) < 2:
        return False
    return config.loss != "dpo" or max(group.rewards) - min(group.rewards) > config.delta


def loss_of(logps: torch.Tensor, group: Group, config: Config) -> torch.Tensor:
    """The loss of one choice for which `teaches` is true. `logps`: of the group's responses, shape (responses,)."""
    log_ratios = logps - torch.tensor(group.ref_logps)
    scores = torch.tensor(group.rewards)
    if config.loss == "regression":
        target = scores / config.kl_weight
        return functional.smooth_l1_loss(log_ratios - log_ratios.mean(), target - target.mean())
    chosen = int(scores.argmax())
    if config.loss == "sft":
        return -logps[chosen]
    rejected = [i for i, score in enumerate(group.rewards) if group.rewards[chosen] - score > config.delta]
    return -functional.logsigmoid(config.beta * (log_ratios[chosen] - log_ratios[rejected])).mean()


def _loss_of_all(level: Level, logps: torch.Tensor, group: Group, config: Config) -> torch.Tensor:
    """The mean of the losses of an auction's choices."""
    losses = [loss_of(row, one, config) for row, one in level.choices(logps, group) if teaches(one, config)]
    return torch.stack(losses).mean() if losses else logps.sum() * 0.0


def update(
    level: Level,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[tuple[Episode, Group]],
    config: Config,
    step: int,
    anchor: Callable[[], torch.Tensor] | None = None,
) -> float | None:
    """One update.

    Args:
        level: The kind of the responses.
        optimizer: Has the parameters.
        batch: Auctions with their responses.
        config: Options of the training.
        step: Number of the update, for the learning rate.
        anchor: A loss that is added.

    Returns:
        The mean loss without the anchor; None if no auction of the batch gives a training signal; nan if the gradients
        were not finite, and the update was left out.
    """
    useful = [(episode, group) for episode, group in batch if teaches(group, config)]
    if not useful:
        return None
    optimizer.zero_grad()
    total = 0.0
    for start in range(0, len(useful), config.micro_batch):
        part = useful[start : start + config.micro_batch]
        logps = level.logps([(episode, group.responses) for episode, group in part])
        losses = [_loss_of_all(level, row, group, config) for row, (_, group) in zip(logps, part, strict=True)]
        loss = torch.stack(losses).sum() / len(useful)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    if anchor is not None:
        anchor().backward()  # type: ignore[no-untyped-call]
    for rates in optimizer.param_groups:
        rates["lr"] = config.rate(step)
    norm = torch.nn.utils.clip_grad_norm_([p for part in optimizer.param_groups for p in part["params"]], 1.0)
    if not torch.isfinite(norm):
        return math.nan
    optimizer.step()
    return total


def distribution_facts(
    logs: Sequence[torch.Tensor], refs: Sequence[torch.Tensor], values: Sequence[Floats] | None, kl_weight: float
) -> dict[str, float | None]:
    """Statistics of exact distributions, averaged over auctions.

    Args:
        logs, refs: Log-probabilities of the policy and of its reference.
        values: R of every choice, in the same layout, if known.
        kl_weight: KL weight of the tilted distribution, currency per nat.

    Returns:
        entropy and kl (to the reference), in nats. With `values` also reward: expected R, currency; share: expected R
        divided by the best choice's R, as a ratio of sums; tv_tilted: total variation to the reference tilted by
        R / kl_weight.
    """
    rows = []
    for i, (log, ref) in enumerate(zip(logs, refs, strict=True)):
        known = torch.isfinite(log).numpy()
        lp, lr = log.double().numpy()[known], ref.double().numpy()[known]
        p = np.exp(lp)
        row = {"entropy": -(p @ lp), "kl": p @ (lp - lr)}
        if values is not None:
            r = values[i][known]
            tilted = np.exp(lr + (r - r.max()) / kl_weight)
            row |= {"reward": p @ r, "best": r.max(), "tv_tilted": np.abs(p - tilted / tilted.sum()).sum() / 2}
        rows.append(row)
    means: dict[str, float | None] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    best = means.pop("best", None)
    return means | ({"share": (means["reward"] or 0.0) / best} if best else {})
