"""Per-token terms by hand, their gradients, and reducers that never see padding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.maths.losses import (
    clipped_surrogate,
    entropy,
    k3,
    mean_per_token,
    policy_gradient,
    sum_per_sequence,
    value_error,
)


def test_policy_gradient_by_hand() -> None:
    terms = policy_gradient(torch.tensor([[-1.0, -2.0], [-0.5, -3.0]]), torch.tensor([[2.0, 2.0], [-1.0, -1.0]]))
    assert terms.tolist() == [[2.0, 4.0], [-0.5, -3.0]]


def test_the_surrogate_at_ratio_one_has_the_policy_gradient() -> None:
    start = -torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    advantages = torch.tensor([[2.0], [-1], [0], [0.5]]).expand(4, 5)
    plain, clipped = start.clone().requires_grad_(), start.clone().requires_grad_()
    policy_gradient(plain, advantages).sum().backward()
    clipped_surrogate(clipped, start, advantages, 0.2).sum().backward()
    torch.testing.assert_close(clipped.grad, plain.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.5, 1.0, -1.2, 0.0),  # a good answer, already likelier: no more push
        (0.5, 1.0, -0.5, -0.5),  # a good answer made unlikelier: pushed back
        (0.5, -1.0, 0.8, 0.0),  # a bad answer, already unlikelier: no more push
        (1.5, -1.0, 1.5, 1.5),  # a bad answer made likelier: pushed back
        (1.1, 2.0, -2.2, -2.2),  # within the range
    ],
)
def test_the_clip_is_pessimistic_on_both_sides(ratio: float, advantage: float, loss: float, slope: float) -> None:
    logprobs = torch.tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    term = clipped_surrogate(logprobs, torch.tensor([[-1.0]]), torch.tensor([[advantage]]), 0.2)
    term.sum().backward()
    assert logprobs.grad is not None
    assert (term.item(), logprobs.grad.item()) == pytest.approx((loss, slope), abs=1e-6)


def test_value_error_by_hand() -> None:
    values, returns = torch.tensor([[1.0, 3.0]], requires_grad=True), torch.tensor([[4.0, 2.5]])
    terms = value_error(values, returns, torch.zeros(1, 2), None)
    terms.sum().backward()
    assert terms.tolist() == [[4.5, 0.125]]
    assert values.grad is not None and values.grad.tolist() == [[-3.0, 0.5]]


@pytest.mark.parametrize(
    ("value", "wanted", "loss", "slope"),
    [
        (1.1, 2.0, 0.405, -0.9),  # within the range
        (1.5, 2.0, 0.32, 0.0),  # already closer by more than the range: no more push; (1.2 - 2)^2 / 2
        (0.5, 2.0, 1.125, -1.5),  # moved away: pushed back, as far as it is
        (2.5, 2.0, 0.32, 0.0),  # overshot: what it was pushed by still counts for more
        (1.5, 1.0, 0.125, 0.5),  # left a value that was right
    ],
)
def test_the_clip_of_values_is_pessimistic(value: float, wanted: float, loss: float, slope: float) -> None:
    """What was said before is 1, the range 0.2."""
    values = torch.tensor([[value]], requires_grad=True)
    term = value_error(values, torch.tensor([[wanted]]), torch.tensor([[1.0]]), 0.2)
    term.sum().backward()
    assert values.grad is not None
    assert (term.item(), values.grad.item()) == pytest.approx((loss, slope), abs=1e-6)


def test_k3_by_hand() -> None:
    value = k3(torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]]))
    assert value.item() == pytest.approx(0.5 + math.log(2) - 1, abs=1e-6)


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_k3_is_never_negative_and_zero_at_equality(one: float, other: float) -> None:
    here, there = torch.tensor([[one]], dtype=torch.float64), torch.tensor([[other]], dtype=torch.float64)
    assert k3(here, there).item() >= -1e-12
    assert k3(here, here).item() == 0


@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_entropy_of_the_uniform_is_log_v(size: int) -> None:
    assert entropy(torch.full((2, size), 3.0)).tolist() == pytest.approx([math.log(size)] * 2, abs=1e-5)


def test_impossible_tokens_add_no_entropy() -> None:
    cut = torch.tensor([[0.0, 0.0, -math.inf], [5.0, -math.inf, -math.inf]])
    assert entropy(cut).tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)


@pytest.mark.parametrize("junk", [0.0, 1e30, math.inf, math.nan])
def test_padding_never_matters(junk: float) -> None:
    terms = torch.tensor([[1.0, 2.0, junk], [4.0, junk, junk]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    total = sum_per_sequence(terms, mask, torch.tensor([0.5, 0.5]))
    (total + mean_per_token(terms, mask, tokens=3.0)).backward()
    assert total.item() == 3.5
    assert mean_per_token(terms, mask, tokens=3.0).item() == pytest.approx(7 / 3)
    assert terms.grad is not None
    share = 1 / 2 + 1 / 3
    torch.testing.assert_close(terms.grad, torch.tensor([[share, share, 0], [share, 0, 0]]))


@given(st.integers(0, 1000))
def test_one_batch_of_eight_equals_eight_batches_of_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    terms = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(8, 6, generator=generator) < 0.5

    weights = torch.rand(8, generator=generator, dtype=torch.float64)

    def in_pieces(size: int) -> tuple[Tensor, Tensor]:
        pieces = list(zip(terms.split(size), mask.split(size), weights.split(size), strict=True))
        tokens = max(1.0, float(mask.sum()))
        return (
            torch.stack([sum_per_sequence(t, m, w) for t, m, w in pieces]).sum(),
            torch.stack([mean_per_token(t, m, tokens) for t, m, _ in pieces]).sum(),
        )

    torch.testing.assert_close(in_pieces(1), in_pieces(8))
