"""Every number of the table, from transcripts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.made import played, said
from madrigal.compare.rows import RETURN, SPEED, TIME, CurvePoint, Played, Row, tabulate, tokens_per_answer
from madrigal.evaluation.statistics import Interval
from madrigal.types import ConfigError


def rows(*found: Row) -> dict[str, Row]:
    return {row.name: row for row in found}


def test_an_example_counts_once_with_the_mean_of_its_samples() -> None:
    team = Played([said("x", 0.0), said("x", 30.0, sample=1), said("x", 60.0, sample=2), said("y", 100.0)])
    (row,) = tabulate({"team": [team]}, "team")
    assert row.columns[RETURN].mean == pytest.approx((30 + 100) / 2)


def test_components_are_means_of_what_reports_them_and_none_per_agent_has_a_column() -> None:
    team = Played(
        [
            said("x", 50.0, structure=80.0, coherence=10.0, return_percent=50.0),
            said("x", 70.0, sample=1, structure=60.0, return_percent=70.0),
            said("y", 50.0, structure=10.0, **{"words/ann": 7.0}),
        ]
    )
    (row,) = tabulate({"team": [team]}, "team")
    assert list(row.columns) == ["structure", "coherence", RETURN]
    assert row.columns["structure"].mean == pytest.approx((70 + 10) / 2)
    assert row.columns["coherence"] == Interval(10.0, 10.0, 10.0)


def test_a_seed_counts_as_much_as_any_other_and_widens_the_interval() -> None:
    found = tabulate({"team": [played(0.0, 0.0, 0.0, seed=0), played(100.0, 100.0, 100.0, seed=1)]}, "team")
    assert found[0].columns[RETURN] == Interval(50.0, 0.0, 100.0)
    assert found[0].seeds == 2


def test_speed_and_time_are_means_over_seeds_and_absent_where_one_seed_has_none() -> None:
    fast, slow = played(1.0, tokens_per_second=200.0, seconds=2.0), played(1.0, tokens_per_second=100.0, seconds=4.0)
    (row,) = tabulate({"team": [fast, slow]}, "team")
    assert (row.columns[SPEED].mean, row.columns[TIME].mean) == (150.0, 3.0)
    (row,) = tabulate({"team": [fast, played(1.0)]}, "team")
    assert SPEED not in row.columns and TIME not in row.columns


def test_tokens_per_answer_are_those_of_all_agents_and_turns() -> None:
    one = Played([said("x", 0.0, (10, 20)), said("x", 0.0, (30, 20), sample=1), said("y", 0.0, (1, 2, 3, 4))])
    assert tokens_per_answer(one) == pytest.approx((30 + 50 + 10) / 3)


def test_a_row_says_how_many_times_the_tokens_of_the_team_it_had() -> None:
    twice = Played([said("x", 0.0, (10, 10)), said("y", 0.0, (5, 15))])
    found = tabulate({"long": [twice], "team": [Played([said("x", 0.0, (6, 4)), said("y", 0.0, (10,))])]}, "team")
    assert [(row.name, row.times) for row in found] == [("team", 1.0), ("long", 2.0)]


def test_training_is_a_mean_over_seeds() -> None:
    seeds = [played(1.0, seed=n, trained_tokens=100 * (n + 1), updates=4) for n in range(3)]
    (row,) = tabulate({"team": seeds}, "team")
    assert (row.trained_tokens, row.updates, row.seeds) == (200.0, 4.0, 3)


ANSWERS = Played(
    [
        said("x", 0.0, (1, 2), 0, {"answers": [7, 8], "reference": 9}, accuracy=0.0),
        said("x", 50.0, (3, 4), 1, {"answers": [9, 8], "reference": 9}, accuracy=50.0),
        said("x", 100.0, (5, 6), 2, {"answers": [9, 9], "reference": 9}, accuracy=100.0),
        said("y", 100.0, (1, 1), 0, {"answers": [4, None], "reference": 4}, accuracy=100.0),
        said("y", 0.0, (1, 1), 1, {"answers": [5, None], "reference": 4}, accuracy=0.0),
        said("y", 0.0, (1, 1), 2, {"answers": [None, None], "reference": 4}, accuracy=0.0),
        said("z", 0.0, (1, 1), 0, {"answers": [None, None], "reference": 4}, accuracy=0.0),
        said("z", 0.0, (1, 1), 1, {"answers": [3, 3], "reference": 4}, accuracy=0.0),
        said("z", 40.0, (1, 1), 2, {"answers": [4, 5], "reference": 4}, accuracy=50.0),
    ]
)


def test_best_of_n_takes_the_sample_with_the_highest_return_at_the_cost_of_all() -> None:
    found = rows(*tabulate({"team": [ANSWERS]}, "team", several=("team",)))
    best = found["team, best of 3 by the reward"]
    assert best.columns[RETURN].mean == pytest.approx((100 + 100 + 40) / 3)
    assert best.columns["accuracy"].mean == pytest.approx((100 + 100 + 50) / 3)
    assert best.tokens == pytest.approx((21 + 6 + 6) / 3) and best.times == pytest.approx(3.0)
    assert SPEED not in best.columns


def test_a_vote_takes_the_commonest_answer_the_earliest_of_equals() -> None:
    """x: 9 three times, 8 twice, so right. y: 4 and 5 once, 4 came first, so right. z: 3 twice, so wrong."""
    found = rows(*tabulate({"team": [ANSWERS]}, "team", several=("team",)))
    vote = found["team, vote of 3"]
    assert vote.columns[RETURN].mean == vote.columns["accuracy"].mean == pytest.approx(200 / 3)
    assert vote.tokens == pytest.approx(11.0)


def test_nobody_votes_where_answers_are_no_numbers_and_nothing_is_picked_of_one_sample() -> None:
    texts = Played([said("x", 0.0), said("x", 1.0, sample=1)])
    assert [row.name for row in tabulate({"team": [texts]}, "team", several=("team",))] == [
        "team",
        "team, best of 2 by the reward",
    ]
    assert [row.name for row in tabulate({"team": [played(1.0, 2.0)]}, "team", several=("team",))] == ["team"]
    assert [row.name for row in tabulate({"team": [texts]}, "team")] == ["team"]


def coded(example: str, *passed: int) -> list[dict[str, object]]:
    return [said(example, 0.0, sample=n, full_test_pass=float(one)) for n, one in enumerate(passed)]


def test_pass_at_k_is_unbiased_and_a_mean_over_examples() -> None:
    """x: 1 of 3 passed, so 1 - C(2,2)/C(3,2) = 2/3 for k = 2. y: none. z: 2 of 3, so 1."""
    team = Played([*coded("x", 0, 1, 0), *coded("y", 0, 0, 0), *coded("z", 1, 0, 1)])
    (row,) = tabulate({"team": [team]}, "team", ks=(1, 2, 3))
    assert row.columns["pass@1 %"].mean == pytest.approx(100 * (1 / 3 + 0 + 2 / 3) / 3)
    assert row.columns["pass@2 %"].mean == pytest.approx(100 * (2 / 3 + 0 + 1) / 3)
    assert row.columns["pass@3 %"].mean == pytest.approx(100 * 2 / 3)


def test_more_tries_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected k between 1 and 2, got 3"):
        tabulate({"team": [Played(coded("x", 0, 1))]}, "team", ks=(3,))
    with pytest.raises(ConfigError, match="pass@1: expected transcripts of a coding task"):
        tabulate({"team": [played(1.0)]}, "team", ks=(1,))


def test_differences_are_paired_by_example_and_tested_with_all_sign_flips() -> None:
    """Three differences of one sign: 2 of 8 sign flips are as far from 0."""
    team, other = played(50.0, 60.0, 70.0), played(40.0, 58.0, 67.0)
    found = rows(*tabulate({"team": [team], "other": [other]}, "team"))
    assert found["team"].versus is None
    versus = found["other"].versus
    assert versus is not None and versus.difference.mean == pytest.approx(-5.0) and versus.count == 3
    assert versus.p == found["other"].p == 0.25
    assert -10.0 <= versus.difference.low < -5.0 < versus.difference.high <= -2.0


def test_examples_are_paired_by_name_not_by_place() -> None:
    team = Played([said("x", 10.0), said("y", 90.0), said("z", 50.0)])
    for seed in (0, 1):  # the team's own seed, and another
        other = Played([said("z", 51.0), said("y", 91.0), said("x", 11.0)], seed)
        found = rows(*tabulate({"team": [team], "other": [other]}, "team"))["other"].versus
        assert found is not None and found.difference == Interval(1.0, 1.0, 1.0) and found.p == 0.25


def test_p_values_are_corrected_for_the_number_of_rows() -> None:
    """By Holm: the smallest times 2, then the other, but no less than the first."""
    team = played(50.0, 60.0, 70.0)
    found = rows(*tabulate({"team": [team], "worse": [played(40.0, 58.0, 67.0)], "same": [team]}, "team"))
    assert (found["worse"].p, found["same"].p) == (0.5, 1.0)


def test_the_difference_over_seeds_pairs_seeds_and_its_interval_holds_their_spread() -> None:
    """Seed 0 is 10 better on every example, seed 1 is 10 worse; given in any order."""
    team = [played(50.0, 60.0, seed=0), played(20.0, 30.0, seed=1)]
    other = [played(10.0, 20.0, seed=1), played(60.0, 70.0, seed=0)]
    found = rows(*tabulate({"team": team, "other": other}, "team"))["other"].versus
    assert found is not None and found.difference == Interval(0.0, -10.0, 10.0) and found.p == 1.0


def test_unequal_seeds_are_compared_by_their_means() -> None:
    found = rows(*tabulate({"team": [played(50.0, 60.0, seed=0)], "other": [played(51.0, 61.0, seed=7)]}, "team"))
    assert found["other"].versus is not None and found["other"].versus.difference == Interval(1.0, 1.0, 1.0)


def test_other_examples_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="other and team were not played on the same held-out examples"):
        tabulate({"team": [played(1.0, 2.0)], "other": [played(1.0)]}, "team")
    with pytest.raises(ConfigError, match="the seeds of team were not played on the same"):
        tabulate({"team": [played(1.0, 2.0), played(1.0)]}, "team")


def test_a_table_needs_what_it_is_about() -> None:
    with pytest.raises(ConfigError, match="expected team among what was played, found other"):
        tabulate({"other": [played(1.0)]}, "team")


def test_best_and_vote_at_equal_tokens_are_of_as_many_samples_as_the_team_can_pay_for() -> None:
    """The team says 20 tokens; 6 a sample buy 3 of 4, 10 buy 2, 40 buy none; 1 buys all 4 there are."""
    team = {"team": [Played([said("x", 0.0, (10, 10))])]}

    def labels(tokens: int) -> dict[str, float]:
        single = Played([said("x", 10.0 * n, (tokens,), n) for n in range(4)])
        return {
            row.name: row.columns[RETURN].mean
            for row in tabulate({**team, "single": [single]}, "team", equal=["single"])
        }

    assert labels(6)["single, best of 3 by the reward"] == 20.0
    assert labels(10)["single, best of 2 by the reward"] == 10.0
    assert labels(1)["single, best of 4 by the reward"] == 30.0
    assert list(labels(40)) == ["team", "single"]


def test_texts_are_picked_by_their_own_likelihood_where_every_token_shows_it() -> None:
    """Mean log-prob per token: -1.0 against -0.75, whatever the lengths and the returns."""

    def spoken(value: float, sample: int, *logprobs: float) -> dict[str, object]:
        turn = {"agent": "a", "round": 0, "text": "", "tokens": len(logprobs), "logprobs": list(logprobs)}
        return {**said("x", value, sample=sample), "turns": [turn]}

    records = [spoken(90.0, 0, -1.0), spoken(20.0, 1, -0.5, -1.0)]
    found = rows(*tabulate({"team": [Played(records)]}, "team", several=("team",)))
    assert found["team, likeliest of 2"].columns[RETURN].mean == 20.0 and found["team, likeliest of 2"].times == 2.0
    silent = [records[0], spoken(20.0, 1)]
    assert "team, likeliest of 2" not in rows(*tabulate({"team": [Played(silent)]}, "team", several=("team",)))


def seeded(*means: float, **about: float) -> list[Played]:
    return [played(mean - 1, mean + 1, seed=n, **about) for n, mean in enumerate(means)]


def test_noise_is_how_far_as_many_other_seeds_of_the_team_may_lie_from_these() -> None:
    """Means of 79, 80 and 81 scatter by 1: 4.303 sqrt(2 / 3) = 3.51 by Student's t."""
    near, far = seeded(77.0, 77.0, 77.0), seeded(70.0, 70.0, 70.0)
    found = rows(*tabulate({"team": seeded(79.0, 80.0, 81.0), "near": near, "far": far}, "team"))
    assert found["near"].floor == found["far"].floor == pytest.approx(3.513, abs=1e-3)
    assert found["near"].is_noise and not found["far"].is_noise and not found["team"].is_noise
    assert found["near"].noise["seeds"].low == -found["near"].noise["seeds"].high


def test_one_seed_shows_no_noise() -> None:
    found = rows(*tabulate({"team": seeded(80.0), "other": seeded(80.0)}, "team"))
    assert found["other"].floor is None and not found["other"].is_noise


def test_other_words_are_noise_of_what_was_trained_as_they_are() -> None:
    """Untrained, other words cost 4; trained, 1. One seed, so that there is no other noise."""
    everybody = {
        "team": seeded(80.0, updates=2),
        "untrained": seeded(40.0),
        "untrained, reworded": seeded(36.0),
        "team, reworded": seeded(79.0, updates=2),
        "tuned": seeded(78.0, updates=2),
    }
    pairs = {"untrained": "untrained, reworded", "team": "team, reworded"}
    found = rows(*tabulate(everybody, "team", reworded=pairs))
    assert found["untrained"].noise == {"words": Interval(-4.0, -4.0, -4.0)} and found["untrained"].floor == 4.0
    assert found["tuned"].noise == {"words": Interval(-1.0, -1.0, -1.0)} and not found["tuned"].is_noise
    assert found["team, reworded"].is_noise


def at(tokens: int, value: float) -> CurvePoint:
    return CurvePoint(tokens, tokens / 10, {"x0": value, "x1": value})


def test_at_equal_budgets_both_are_taken_where_they_had_spent_as_much() -> None:
    """The team: 30 before, 50 after 500 tokens, 80 after 1,000."""
    team = [played(80.0, 80.0, trained_tokens=1000, trained_seconds=100.0, curve=[at(0, 30.0), at(500, 50.0)])]

    def difference(**other: Any) -> tuple[float | None, float | None]:
        row = rows(*tabulate({"team": team, "other": [played(60.0, 60.0, **other)]}, "team"))["other"]
        budget = row.budgets["training tokens"]
        return budget.times, budget.difference and budget.difference.mean

    assert difference(trained_tokens=520) == (0.52, 10.0)  # it stopped where the team had 50
    assert difference(trained_tokens=1090) == (1.09, -20.0)
    assert difference() == (0.0, 30.0)  # untrained: beside the untrained team
    assert difference(trained_tokens=700) == (0.7, None)  # the team was not looked at there
    assert difference(trained_tokens=2000) == (2.0, None)
    assert difference(trained_tokens=2000, curve=[at(950, 55.0), at(1000, 57.0)]) == (2.0, -23.0)


def test_seconds_and_answering_tokens_are_budgets_of_their_own() -> None:
    team = played(80.0, 80.0, trained_tokens=100, trained_seconds=10.0)
    slow = played(70.0, 70.0, trained_tokens=100, trained_seconds=20.0, curve=[at(50, 60.0), at(100, 65.0)])
    budgets = rows(*tabulate({"team": [team], "slow": [slow]}, "team"))["slow"].budgets
    assert {kind: (b.times, b.difference and b.difference.mean) for kind, b in budgets.items()} == {
        "training tokens": (1.0, -10.0),
        "answering tokens": (1.0, -10.0),
        "training seconds": (2.0, -15.0),
    }
    long = Played([said(x, 70.0, (20,)) for x in ("x0", "x1")])
    assert (
        rows(*tabulate({"team": [team], "long": [long]}, "team"))["long"].budgets["answering tokens"].difference is None
    )


def test_budgets_are_equal_under_every_seed_or_not_at_all() -> None:
    team = [played(80.0, trained_tokens=100, seed=n) for n in range(2)]
    other = [played(70.0, trained_tokens=tokens, seed=n) for n, tokens in enumerate((100, 300))]
    found = rows(*tabulate({"team": team, "other": other, "one": other[:1]}, "team"))
    assert found["other"].budgets["training tokens"].difference is None
    assert found["one"].budgets["training tokens"].difference is None
