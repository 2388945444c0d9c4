"""Worlds fitted to click logs: known worlds come back from their own logs, and a log says what it cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.fit_world import elsewhere
from simenv.errors import InputError
from simenv.fitting import ClickLog, FittedWorld, fit_world
from simenv.fitting.arrays import Answer, Equations, impressions
from simenv.fitting.parameters import free_numbers, held_numbers
from simenv.fitting.posterior import Posterior
from simenv.fitting.world_file import world_text, write_world
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import WORLDS, ClickParams, load_world
from simenv.testing import FakeEncoder
from tests.support.clicks import drawn_answers

NAMES = {name: f"{name}-again" for name in WORLDS}


def log_of(answers: list[Answer], name: str = "drawn") -> ClickLog:
    return ClickLog(name, impressions(answers, most_offers=400))


@pytest.fixture(scope="module")
def fitted() -> FittedWorld:
    """World v1 from 900 answers of its own, in which nothing shows what a third and fourth ad cost."""
    return fit_world(log_of(drawn_answers(load_world("v1"), 900, users=90, most_ads=2)), "again", draws=20)


@pytest.mark.parametrize("name", WORLDS)
def test_the_arrays_have_the_equations_of_the_click_model(name: str) -> None:
    world = load_world(name)
    judge, answers = ClickModel(FakeEncoder(), world), drawn_answers(world, 30, users=5)
    log = impressions(answers, most_offers=400)
    appeal = np.array([world.attraction.appeal * judge._appeal(_first(answers, offer)) for offer in log.offers])
    expected = [
        p for measures in (answer.measures for answer in answers) for p in judge.probabilities_of(measures).values()
    ]
    assert np.exp(Equations(log, world.numbers()).at(world.numbers(), appeal).log_p) == pytest.approx(
        expected, rel=1e-9
    )


def _first(answers: list[Answer], offer: str):  # type: ignore[no-untyped-def]
    return next(ad for measures in (answer.measures for answer in answers) for ad in measures.ads if ad.offer == offer)


@pytest.mark.parametrize("name", WORLDS)
def test_the_gradient_is_that_of_the_posterior(name: str) -> None:
    world = load_world(name)
    log, free = impressions(drawn_answers(world, 60, users=8), most_offers=400), free_numbers(world)
    posterior = Posterior(log, world.numbers(), free, np.zeros(len(log.offers)))
    z = np.concatenate([posterior.centres, np.linspace(-0.5, 0.5, len(log.offers))])
    parts = (np.zeros(len(z)), np.ones(len(z)), log.decided.astype(np.float64))
    _, gradient, information = posterior._derivatives(z, *parts)
    for i in range(len(z)):
        step = np.zeros(len(z))
        step[i] = 1e-4
        up, down = (posterior._derivatives(z + side * step, *parts)[0] for side in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-4, rel=1e-4, abs=1e-5)
    assert np.linalg.eigvalsh(information).min() > 0


def test_a_known_world_comes_back_from_its_own_log(fitted: FittedWorld) -> None:
    """Each 95% interval misses with probability 0.05: of 14, four or more in 0.4% of such logs."""
    truth = load_world("v1").numbers()
    missed = [number.name for number in fitted.numbers if not number.low <= truth[number.name] <= number.high]
    assert len(missed) < 4, missed
    told = {number.name for number in fitted.numbers if number.told}
    assert {"attraction.base", "attraction.relevance", "attraction.appeal", "nativeness.floor"} <= told


def test_a_number_that_the_log_does_not_show_is_named(fitted: FittedWorld) -> None:
    assert "flooding.rate" in fitted.untold
    rate = next(number for number in fitted.numbers if number.name == "flooding.rate")
    assert rate.value == pytest.approx(0.8, rel=0.01)  # the prior's
    assert rate.low < 0.8 / 3
    assert rate.high > 0.8 * 3
    assert fitted.held["flooding.free_ads"] == "a whole number"


def test_users_held_out_are_predicted_better_than_by_a_constant(fitted: FittedWorld) -> None:
    held_out = fitted.held_out
    assert held_out.over_constant.low > 0
    assert held_out.over_prior.high > -0.02  # it is the true world but for its hidden terms
    assert sum(bin.n for bin in held_out.calibration) == held_out.impressions
    assert held_out.users == 18


def test_another_world_is_found_far_from_the_prior() -> None:
    """Clicks of the world rare, with priors at v1: the base alone differs."""
    answers = drawn_answers(load_world("rare"), 2500, users=60, seed=3)
    world = fit_world(log_of(answers), "rare-again", draws=10)
    base = next(number for number in world.numbers if number.name == "attraction.base")
    assert base.low < load_world("rare").attraction.base < base.high < -2
    assert world.held_out.over_prior.low > 0


def test_the_file_holds_the_same_world(fitted: FittedWorld, tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_world(fitted, tmp_path / "again.toml")
    assert load_world(tmp_path / "again.toml") == fitted.params
    text = world_text(fitted)
    assert "[examples" not in text  # those of simenv are not repeated
    assert f"rate = {fitted.params.flooding.rate!r} # " in text
    assert fitted.params.appeals.keys() == {f"offer {i}" for i in range(40)}


def test_a_world_with_its_own_cues_is_written_with_them(fitted: FittedWorld, tmp_path) -> None:  # type: ignore[no-untyped-def]
    labels = load_world("labels").changed({"world": "mine"})
    file = tmp_path / "mine.toml"
    file.write_text(world_text(fitted.model_copy(update={"params": labels})), encoding="utf-8")
    assert load_world(file) == labels


def test_mechanisms_that_show_an_ad_in_the_same_auction_are_one_draw() -> None:
    """Three copies of a log teach no more than the log: mechanisms meet the same user with the same draw."""
    answers = drawn_answers(load_world("v1"), 200, users=20)
    once = [answer._replace(auction=str(i)) for i, answer in enumerate(answers)]
    one, three = (fit_world(log_of(log), "again", draws=10) for log in (once, once * 3))
    for number, other in zip(one.numbers, three.numbers, strict=True):
        assert other.value == pytest.approx(number.value, rel=1e-3)
        assert other.share == pytest.approx(number.share, rel=1e-3)
    assert three.held_out.over_prior.numbers == pytest.approx(one.held_out.over_prior.numbers)


def test_held_and_free_numbers_are_all_numbers() -> None:
    for name in WORLDS:
        world: ClickParams = load_world(name)
        free = {it.name for it in free_numbers(world)}
        assert free | held_numbers(world).keys() | {"attraction.appeal"} == world.numbers().keys()
        for it in free_numbers(world):
            assert it.value(it.centre) == pytest.approx(world.numbers()[it.name])
    assert held_numbers(load_world("labels"))["nativeness.hard_sell"] == "1 is the edge of its scale"


def test_logs_that_teach_nothing_are_refused() -> None:
    v1 = load_world("v1")
    answers = drawn_answers(v1, 40, users=12)
    with pytest.raises(InputError, match="at least 10 users, got 5"):
        fit_world(log_of(drawn_answers(v1, 40, users=5)), "mine")
    with pytest.raises(InputError, match="clicks and non-clicks to learn from, got 0 of"):
        fit_world(log_of([answer._replace(verdicts=[False] * len(answer.verdicts)) for answer in answers]), "mine")
    with pytest.raises(InputError, match="draws must be at least 10, got 3"):
        fit_world(log_of(answers), "mine", draws=3)
    with pytest.raises(InputError, match=r"world: string should match pattern.*got 'my world'"):
        fit_world(log_of(answers), "my world")
    unknown = [answer._replace(verdicts=[None] * len(answer.verdicts)) for answer in answers]
    with pytest.raises(InputError, match="at least 10 users, got 0"):
        fit_world(log_of(unknown), "mine")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WORLDS)
def test_every_world_comes_back_from_a_long_log(name: str) -> None:
    """pytest -m slow tests/fitting. Of 15 intervals, four or more miss in 0.5% of such logs."""
    world = load_world(name)
    log = log_of(drawn_answers(world, 20_000, users=1000, seed=1))
    found = fit_world(log, NAMES[name], world)
    missed = [n.name for n in found.numbers if not n.low <= world.numbers()[n.name] <= n.high]
    assert len(missed) < 4, missed
    assert math.isfinite(found.held_out.fitted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "labels"])
def test_intervals_contain_the_true_number_as_often_as_they_say(name: str) -> None:
    """pytest -m slow tests/fitting. Priors have every number wrong; 96.9% of v1, 96.0% of labels."""
    world, inside = load_world(name), []
    for seed in range(30):
        truth = world.changed({"world": f"{name}-{seed}"})
        log = log_of(drawn_answers(truth, 1000, users=100, seed=seed))
        found = fit_world(log, "again", elsewhere(world), draws=40, seed=seed)
        inside += [n.low <= truth.numbers()[n.name] <= n.high for n in found.numbers]
    assert 0.93 < np.mean(inside) < 0.99
