"""Calibration: bins, errors and ranks by hand, and what must hold of any scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.verifier.calibration import area_under_curve, calibration, expected_calibration_error, reliability

LABELLED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)


def test_four_answers_by_hand() -> None:
    """Bins of 0.5: scores 0.1, 0.3 (half right) and 0.8, 1.0 (half right): |0.5 - 0.2| and |0.5 - 0.9|."""
    found = calibration([0.1, 0.3, 0.8, 1.0], [False, True, False, True], bins=2)
    assert [(b.low, b.high, b.count, b.score, b.right) for b in found.bins] == [
        (0.0, 0.5, 2, pytest.approx(0.2), 0.5),
        (0.5, 1.0, 2, pytest.approx(0.9), 0.5),
    ]
    assert found.ece == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.64 + 0.0) / 4)
    assert found.auc == 0.75  # of four pairs one is the wrong way round
    assert (found.base, found.accuracy, found.answers) == (0.5, 0.5, 4)


def test_edges_of_bins() -> None:
    counts = [one.count for one in reliability([0.0, 0.0999, 0.1, 0.9, 1.0], [True] * 5)]
    assert counts == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_an_empty_bin_has_no_mean_and_does_not_count() -> None:
    bins = reliability([0.05], [True])
    assert math.isnan(bins[5].score) and math.isnan(bins[5].right)
    assert expected_calibration_error(bins) == pytest.approx(0.95)


def test_ranks() -> None:
    assert area_under_curve([0.1, 0.9], [False, True]) == 1.0
    assert area_under_curve([0.9, 0.1], [False, True]) == 0.0
    assert area_under_curve([0.5, 0.5, 0.5], [False, True, True]) == 0.5
    assert area_under_curve([0.5, 0.6], [True, True]) is None


@given(LABELLED)
def test_the_area_is_the_share_of_pairs_in_order(labelled: list[tuple[float, bool]]) -> None:
    scores, right = [s for s, _ in labelled], [r for _, r in labelled]
    pairs = [(a, b) for a, ra in labelled for b, rb in labelled if ra and not rb]
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs) if pairs else None
    assert area_under_curve(scores, right) == (None if expected is None else pytest.approx(expected))


@given(LABELLED)
def test_numbers_are_shares(labelled: list[tuple[float, bool]]) -> None:
    scores, right = [s for s, _ in labelled], [r for _, r in labelled]
    found = calibration(scores, right)
    assert sum(one.count for one in found.bins) == len(scores)
    assert all(0 <= value <= 1 for value in (found.ece, found.brier, found.accuracy, found.base))
    assert found.ece**2 <= found.brier + 1e-9  # the mean of |right - score| over bins is below the root mean square


@given(st.lists(st.booleans(), min_size=1))
def test_an_oracle_is_perfect(right: list[bool]) -> None:
    found = calibration([float(label) for label in right], right)
    assert (found.ece, found.brier, found.accuracy) == (0.0, 0.0, 1.0)


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(ValueError, match="one score for each of at least one answer, got 0"):
        calibration([], [])
