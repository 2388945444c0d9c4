"""The reward for TRL's trainers, without TRL; and, slowly, trainings with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from simenv.datasets.training_data import ad_prompt
from simenv.errors import InputError, OutcomeError
from simenv.integrations.answers import answered
from simenv.integrations.trl import AuctionReward
from simenv.testing import ADS, small_world
from tests.support.auctions import small_auction
from tests.support.examples import example
from tests.support.fakes import ConstantJudge


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def call(reward: AuctionReward, rows: list[dict[str, Any]], texts: list[Any], **more: Any) -> list[float | None]:
    """Calls the reward as TRL does: a list for each column, and arguments that it does not know."""
    columns = {name: [row[name] for row in rows] for name in ("seed", "session", "turn")}
    return reward(
        prompts=[row["prompt"] for row in rows], completions=texts, completion_ids=[[1]] * len(rows), **columns, **more
    )


def test_a_row_is_an_auction_and_its_reward_the_objective() -> None:
    reward = AuctionReward(small_world())
    rows = reward.rows(sessions=2, seed=3)
    assert [(row["session"], row["turn"]) for row in rows] == [(s, t) for s in range(2) for t in range(3)]
    assert reward.rows(sessions=1, seed=3, first=1) == rows[3:]
    first, second = ADS[0].link, ADS[4].link
    texts = ["Walk.", f"Try {first}.", message(f"Try {second}."), "Try @Nothing@[ad-99].", f"{first} {first}", "Walk."]
    told: dict[str, float] = {}
    rewards = call(reward, rows, texts, log_metric=told.__setitem__, trainer_state=None)
    transitions = reward.judge(
        [text if isinstance(text, str) else text[0]["content"] for text in texts],
        *([row[name] for row in rows] for name in ("seed", "session", "turn")),
    )
    assert [ad_prompt(transition.auction) for transition in transitions] == [row["prompt"] for row in rows]
    assert rewards == [transition.expected_reward for transition in transitions]
    assert rewards[0] == rewards[5] == 0
    assert rewards[3] == -100
    shown = [transition for transition in transitions if transition.outcome.placements]
    assert shown
    for transition in shown:
        (placement,) = transition.outcome.placements
        assert placement.price == transition.auction.bid_of(placement.ad_id).amount
    assert told["simenv/ads"] == len(shown) / 6
    assert told["simenv/violations"] == sum(len(it.outcome.violations) for it in transitions) / 6
    assert (
        AuctionReward(small_world())(
            **{"completions": ["Walk.", f"Try {first}."], "seed": [3, 3], "session": [0, 0], "turn": [0, 1]}
        )
        == rewards[:2]
    ), "the rows may come from elsewhere"


def test_an_answer_without_a_verdict_has_no_reward() -> None:
    reward = AuctionReward(small_world(judge=ConstantJudge(prob=None, clicked=None), candidates=12))
    rows = reward.rows(sessions=1)
    assert call(reward, rows[:2], ["Walk.", f"Try {ADS[0].link}."]) == [0.0, None]
    reward = AuctionReward(small_world(judge=ConstantJudge(prob=None, clicked=True), candidates=12))
    text = f"Try {ADS[0].link}."
    (transition,) = reward.judge([text], [0], [0], [0])
    bid = transition.auction.bid_of("ad-1").amount
    assert call(reward, rows[:1], [text]) == [bid], "what happened, where there are no probabilities"


def test_an_ad_pays_its_bid_or_the_price_that_is_given() -> None:
    auction = small_auction(n=4, reserve=25.0)  # bids 50, 30, 60, 20
    links = [bid.ad.link for bid in auction.bids]
    text = f"Try {links[0]} or {links[3]}."
    outcome = answered(auction, text)
    assert [(p.ad_id, p.price) for p in outcome.placements] == [("ad-1", 50.0)]
    assert [violation.kind for violation in outcome.violations] == ["unpriced_ad"], "its bid is below the reserve"
    assert [p.price for p in answered(auction, text, {"ad-1": 30.0}).placements] == [30.0]
    assert answered(auction, text, {}).placements == ()
    with pytest.raises(OutcomeError, match="at least 0 and finite"):
        answered(auction, text, {"ad-1": -1.0})


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(InputError, match="a world is given already, so horizon"):
        AuctionReward(small_world(), horizon=2)
    with pytest.raises(InputError, match="sessions must be at least 1, got 0"):
        AuctionReward(small_world()).rows(sessions=0)


def tiny_policy(folder: Path) -> str:
    """A random Llama of two small layers whose tokens are words and whole links of ads: its folder.

    So a model that knows nothing shows ads at once, and a few steps teach it which are worth their penalty.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["Take", "a", "walk", "today", "and", "rest.", "<pad>", "<eos>", "<unk>"]
    names = {word: number for number, word in enumerate([*words, *(f'"{ad.id}",' for ad in ADS)])}
    plain = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    tokenizer.add_tokens([ad.link for ad in ADS])
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_grpo_takes_a_step_and_learns(tmp_path: Path) -> None:
    rewards = example("trl_grpo").main(
        tiny_policy(tmp_path / "tiny"),
        AuctionReward(small_world()),
        steps=40,
        per_device_train_batch_size=32,
        num_generations=8,
        max_completion_length=6,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
    )
    assert len(rewards) == 40
    assert sum(rewards[-10:]) / 10 > sum(rewards[:5]) / 5 + 20


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("default")
def test_grpo_takes_a_step_with_the_embedded_model() -> None:
    from simenv.llm.weights import embedded_path

    (reward,) = example("trl_grpo").main(
        str(embedded_path()),
        AuctionReward(horizon=1),
        num_generations=2,
        per_device_train_batch_size=2,
        max_completion_length=16,
    )
    assert math.isfinite(reward)
