"""The models of a training, as its own process and every worker build them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from simenv.judges.base import Judge
from simenv.judges.factory import make_judge
from simenv.llm import make_llm
from simenv.objective import Objective

from . import lora
from .adapter_files import SHIPPED
from .by_question import ByQuestion
from .folder import base_model
from .irpo import Config
from .label_choice import LabelChoices
from .levels import Answers, Level, Links, Pages
from .pair_data import PairConfig
from .policy import AdaptedLLM
from .sentence_choice import SentenceChoices
from .served import AdapterServer


class Models:
    """The policy with a new adapter, the level of its answers, the judge and the objective."""

    def __init__(self, config: Config) -> None:
        self.policy = new_policy(config)
        self.level: Level
        self.parts: dict[str, Level] = {}
        if config.level == "links":
            self.level = Links(self.policy)
        elif config.level == "answers":
            server = None
            if config.sampler is not None:
                server = AdapterServer(
                    self.policy, config.sampler, r=config.r, alpha=config.alpha, folder=config.sampler_folder
                )
            self.level = Answers(self.policy, config.answer_tokens, server)
        else:
            pages = Pages(
                self.policy, temperature=config.temperature, profile=config.profile, ads_at_end=config.ads_at_end
            )
            self.level = pages
            self.parts = {"labels": LabelChoices(pages), "sentences": SentenceChoices(pages)}
        self.judge = judge_of(config)
        self.objective = Objective() if config.penalty else Objective(weight=0.0)

    def level_of(self, epoch: int, config: Config) -> Level:
        """The kind of the responses that this epoch trains; epoch 0: whole answers."""
        level, labels = self.parts.get(config.stage(epoch), self.level), self.parts.get("labels")
        if epoch and config.stages and config.plain_share and labels is not None and level is not labels:
            return ByQuestion(labels, level)
        return level


def new_policy(config: Config | PairConfig) -> AdaptedLLM:
    """The base model with the new adapter that a training's options describe."""
    policy = AdaptedLLM(
        base_model(config.llm),
        r=config.r,
        alpha=config.alpha,
        blocks=config.blocks,
        seed=config.seed,
        checkpointing=config.checkpointing,
    )
    if not isinstance(config, Config):
        return policy
    if config.start is not None:
        folder = SHIPPED if config.start == "shipped" else Path(config.start).expanduser()
        lora.start_from(policy.trained, config.alpha, folder)
    if config.level == "written":  # on a CPU an update takes 3/4 of the time in bf16; a GPU takes the same passes
        policy.model.set_attn_implementation("eager")
    return policy


def judge_of(config: Config) -> Judge:
    """The judge that a training's options name."""
    user_llm = None if config.judge in ("click", "embedded") else config.judge_llm
    return make_judge(config.judge, llm=user_llm, find_llm=partial(make_llm, api_base=config.judge_api_base))
