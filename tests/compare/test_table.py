"""Every number of the table, from transcripts made by hand."""

from __future__ import annotations

import pytest

from fakes.made import played, said
from madrigal.compare.rows import RETURN, SPEED, TIME, Played, Row, tabulate, tokens_per_answer
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
    best = found["team, best of 3"]
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
    assert [row.name for row in tabulate({"team": [texts]}, "team", several=("team",))] == ["team", "team, best of 2"]
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
