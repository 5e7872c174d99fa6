"""Shapes and dtypes of the maths are checked at run time while tests run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from jaxtyping import TypeCheckError

from madrigal.maths import advantages, batch, losses

BT, B = torch.zeros(2, 3), torch.zeros(2)
WRONG = {
    "a row is not a table": lambda: advantages.group_mean(torch.zeros(3)),
    "integers are not returns": lambda: advantages.leave_one_out(torch.zeros(2, 3, dtype=torch.long)),
    "one advantage per token": lambda: losses.policy_gradient(BT, B),
    "old and new of one shape": lambda: losses.clipped_surrogate(BT, torch.zeros(2, 4), BT, 0.2),
    "reference of one shape": lambda: losses.k3(BT, torch.zeros(3, 2)),
    "a mask of truth values": lambda: losses.sum_per_sequence(BT, BT, B),
    "a mask of the terms' shape": lambda: losses.mean_per_token(BT, torch.ones(2, 2, dtype=torch.bool), 2.0),
    "entropy of the answer's shape": lambda: batch.PolicyOutput(BT, torch.zeros(2, 2)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_shape_or_dtype_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(TypeCheckError):
        call()


def test_a_right_shape_passes() -> None:
    assert losses.policy_gradient(BT, BT).shape == (2, 3)
    assert batch.PolicyOutput(BT, BT).entropy is BT
