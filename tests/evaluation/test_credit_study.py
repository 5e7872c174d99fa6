"""The study of credit: exact advantages by hand, measures that know right from wrong, samples that are equal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.tabular import unchecked_shapes

sys.path.insert(0, next(str(place) for top in Path(__file__).parents if (place := top / "benchmarks").is_dir()))
from fidelity import (
    BUDGET,
    MEASURES,
    Credited,
    Crediting,
    Estimator,
    estimators,
    fidelity,
    learn,
    measured,
    predicted,
    study,
)
from small_games import GAMES, Courses, Exact, Team, start

COURSES = {name: Courses(game) for name, game in GAMES.items()}


def uniform(game: str) -> np.ndarray[Any, Any]:
    return np.zeros((len(COURSES[game].rows), GAMES[game].answers))


def named(game: str, name: str) -> Estimator:
    return next(one for one in estimators(GAMES[game]) if one.name == name)


# Exact.


def test_the_advantage_of_an_answer_by_hand() -> None:
    """Both say the same in 4 of 16 cases, and earn 1, 0.7, 0.5 and 0.3 then: 0.15625 in the mean."""
    exact = COURSES["match"].exact(uniform("match"))
    assert exact.value == pytest.approx(2.5 / 16)
    for row in exact.advantage:
        assert row == pytest.approx(np.array([1.0, 0.7, 0.5, 0.3]) / 4 - 2.5 / 16)
    assert exact.mass == pytest.approx(np.full((2, 4), 0.25))


def test_work_is_worth_more_to_the_team_than_to_the_worker() -> None:
    """0.25 a unit, around the mean of 1."""
    exact = COURSES["shirk"].exact(uniform("shirk"))
    assert exact.advantage == pytest.approx(np.array([[-0.25, 0.0, 0.25]] * 2))
    team, worker = GAMES["shirk"].pay([(0, 0)]), GAMES["shirk"].pay([(1, 0)])
    assert worker[0] < team[0] and sum(worker) > sum(team)


def test_continuations_count() -> None:
    """A second round is worth (1 + 0.6 + 0.3) / 9 of its factor: 0.2, 0.5 or 1, by how many have invested."""
    exact, second = COURSES["later"].exact(uniform("later")), 1.9 / 9
    first = np.array([0.15 + 0.05 + 0.3 * second, 0.05 + second * 2 / 3, 0.05 + 0.3 * second])
    assert exact.value == pytest.approx(first.mean())
    assert exact.advantage[:2] == pytest.approx(np.stack([first - first.mean()] * 2))
    both = COURSES["later"].rows["ann", GAMES["later"].observe(((1, 1),), "ann", ())]
    assert exact.advantage[both] == pytest.approx(np.array([1.0, 0.6, 0.3]) / 3 - second)
    assert exact.mass.sum() == pytest.approx(4)  # two agents, two rounds


@pytest.mark.parametrize("game", GAMES)
def test_the_exact_gradient_is_that_of_the_expected_return(game: str) -> None:
    courses, logits, step = COURSES[game], start(COURSES[game], 3), 1e-6
    gradient = courses.exact(logits).gradient
    for place in [(0, 0), (1, 2), (len(logits) - 1, 1)]:
        moved = logits.copy()
        moved[place] += step
        assert (courses.value(moved) - courses.value(logits)) / step == pytest.approx(gradient[place], abs=1e-5)


@pytest.mark.parametrize("game", GAMES)
def test_whoever_says_nothing_is_judged(game: str) -> None:
    step = GAMES[game].step((), {"ann": "", "bob": "0"})
    assert set(step.rewards) == {"ann", "bob"}


# Measures.


def made(credit: list[float], spread: float = 0.0) -> dict[str, float]:
    """Of four repetitions of two answers, both given once, whose exact advantages are 1 and -1."""
    exact = Exact(0.0, np.array([[1.0, -1.0]]), np.array([[0.5, 0.5]]), np.zeros(1))
    sums = np.zeros((4, 4, 2))
    gradients = np.zeros((4, 2))
    for n, sign in enumerate((1, 1, -1, -1)):
        each = np.array(credit) + sign * spread
        agreed = np.sign(each) * np.array([1, -1])
        sums[n] = [[1, 1], each, each**2, (1 - agreed) / 2]
        gradients[n] = each / 2
    found = measured(Credited(exact, sums, gradients), np.ones((1, 4)))
    return {name: float(value[0]) for name, value in found.items()}


def test_credit_that_is_right_but_for_its_size() -> None:
    found = made([3.0, -3.0])
    assert found["slope"] == pytest.approx(3)
    assert [found[name] for name in ("bias", "noise", "wrong_signs", "gradient_bias")] == pytest.approx([0] * 4)
    assert [found["correlation"], found["cosine"]] == pytest.approx([1, 1])


def test_noise_is_in_units_of_what_there_is_to_tell() -> None:
    """3 and -1 for an answer worth 1: the mean is 1, the deviation 2, and the sign is wrong half of the time."""
    found = made([1.0, -1.0], spread=2.0)
    assert found["noise"] == pytest.approx(4)  # squared
    assert (found["bias"], found["wrong_signs"]) == pytest.approx((0, 0.5))


def test_a_constant_is_a_bias_of_credit() -> None:
    found = made([1.5, -0.5])
    assert (found["slope"], found["bias"]) == pytest.approx((1, 0.25))


def test_credit_for_the_opposite_is_seen_by_every_measure() -> None:
    found = made([-1.0, 1.0])
    assert [found[name] for name in ("slope", "correlation", "cosine", "wrong_signs")] == pytest.approx([-1, -1, -1, 1])
    assert (found["bias"], found["gradient_bias"]) == pytest.approx((4, 4))  # squared: twice what there is to tell


# Estimators.


def middle(game: str, name: str, repetitions: int = 24) -> dict[str, tuple[float, float]]:
    """The 99.9 % interval of each measure, of the team that starts from seed 7."""
    courses = COURSES[game]
    with unchecked_shapes():
        found = fidelity(named(game, name), courses, [start(courses, 7)], 24, repetitions)
    low, high = np.quantile(found[1:], [0.0005, 0.9995], axis=0)
    return dict(zip(MEASURES, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def test_leaving_oneself_out_is_unbiased() -> None:
    found = middle("sum", "rloo")
    assert found["slope"][0] < 1 < found["slope"][1]
    assert found["bias"][0] == found["gradient_bias"][0] == 0
    assert found["noise"][0] > 0.5


def test_a_mean_that_holds_the_answer_itself_shrinks_credit_by_a_quarter() -> None:
    low, high = middle("sum", "magrpo")["slope"]
    assert low < 0.75 < high < 1


def test_no_baseline_is_a_bias_of_credit_and_none_of_the_gradient() -> None:
    found = middle("sum", "reinforce")
    assert found["bias"][0] > 1
    assert found["gradient_bias"][0] == 0


def test_own_rewards_that_mislead_point_the_other_way() -> None:
    found = middle("shirk", "independent_grpo", 6)
    assert found["cosine"][1] < -0.5 and found["wrong_signs"][0] > 0.5


def test_a_planted_wrong_sign_is_caught() -> None:
    found = middle("sum", "rloo flipped", 6)
    assert found["slope"][1] < 0 and found["correlation"][1] < 0 and found["cosine"][1] < -0.5
    assert found["wrong_signs"][0] > 0.5
    assert found["bias"][0] > 1


def test_credit_dealt_out_at_random_says_nothing() -> None:
    found = middle("sum", "rloo shuffled", 10)
    assert -0.2 < found["correlation"][0] < found["correlation"][1] < 0.2  # as it was given, 0.6
    assert found["cosine"][0] < 0.3 and found["cosine"][1] > -0.3


@pytest.mark.parametrize("game", GAMES)
def test_samples_are_equal(game: str) -> None:
    """Joint answers that are judged; where that is asked, at most as many answers of agents as chains have."""
    budget = BUDGET[GAMES[game].horizon]
    for one in estimators(GAMES[game]):
        team = Team(COURSES[game], uniform(game))
        count = Crediting(one, team, budget).count
        if one.answers:
            assert 2 * budget - team.spoken < team.spoken * count <= 2 * budget
        else:
            assert 0.9 * budget <= team.judged * count <= budget, one.name


def test_a_wrong_sign_unlearns_what_the_right_one_learns() -> None:
    with unchecked_shapes():
        right, wrong = (
            learn(named("sum", name), COURSES["sum"], 7, rate=10.0, budget=48, updates=5)
            for name in ("rloo", "rloo flipped")
        )
    assert right[0] == wrong[0] == pytest.approx(100 * COURSES["sum"].value(start(COURSES["sum"], 7)))
    assert right[-1] > right[0] + 10 > wrong[-1] + 20


def test_a_whole_study_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [named("sum", name) for name in ("rloo", "multi_turn_grpo", "matpo")]
    monkeypatch.setattr("fidelity.estimators", lambda game: few)
    for name, value in {"RATES": (3.0,), "POINTS": (2000,), "TUNING": (1000,), "BURN_IN": 0, "RESAMPLES": 20}.items():
        monkeypatch.setattr(f"fidelity.{name}", value)
    with unchecked_shapes():
        one, again = (study("sum", seeds=2, updates=2, repetitions=4) for _ in range(2))
    assert one == again
    found = [(row["name"], row["also"]) for row in one]
    assert found == [("rloo", []), ("multi_turn_grpo", ["matpo"]), ("exact gradient", [])]
    assert np.all(np.diff(one[-1]["curves"]) > 0)


def test_prediction_is_the_rank_correlation_over_estimators() -> None:
    def row(name: str, cosine: float, area: float, *, control: bool = False) -> dict[str, Any]:
        draw = [0.0] * len(MEASURES)
        draw[MEASURES.index("cosine")] = draw[MEASURES.index("noise")] = cosine
        curves = [[0.0, area], [0.0, area + 1]]
        return {"name": name, "control": control, "fidelity": [draw] * 1001, "curves": curves}

    rows = [row("a", 0.1, 10), row("b", 0.5, 20), row("c", 0.9, 30), row("d", -1.0, 99, control=True)]
    games = {"one": rows, "other": [rows[0], row("b", 0.9, 20), row("c", 0.5, 30)]}
    assert predicted(games, "cosine")[0].tolist() == [1, 0.5]
    assert predicted(games, "noise")[0].tolist() == [-1, -0.5]
    assert predicted({"one": rows}, "cosine").min() == 0  # one estimator alone is drawn now and then
