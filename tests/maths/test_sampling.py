"""The sampled distribution: cuts by hand, frequencies against probabilities, and edges of the draw."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.maths.sampling import BLOCK, _cut_ranked, draw, filtered_logits
from madrigal.settings import Sampling
from madrigal.types import ConfigError

PROBS = (0.4, 0.3, 0.2, 0.1)
LOGITS = torch.tensor([PROBS]).log()


def kept(sampling: Sampling, logits: Tensor = LOGITS) -> list[int]:
    return filtered_logits(logits, sampling)[0].isfinite().nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("sampling", "tokens"),
    [
        (Sampling(), [0, 1, 2, 3]),
        (Sampling(top_k=2), [0, 1]),
        (Sampling(top_k=9), [0, 1, 2, 3]),
        (Sampling(top_p=0.3), [0]),
        (Sampling(top_p=0.5), [0, 1]),
        (Sampling(top_p=0.75), [0, 1, 2]),
        (Sampling(top_p=1e-9), [0]),
        (Sampling(top_k=2, top_p=0.55), [0]),  # within the top 2 the first holds 4/7 = 0.571
        (Sampling(top_k=2, top_p=0.6), [0, 1]),
        (Sampling(temperature=0.5, top_p=0.5), [0]),  # 0.16 / 0.30 = 0.533
        (Sampling(temperature=100.0, top_p=0.5), [0, 1]),
    ],
)
def test_what_a_cut_keeps(sampling: Sampling, tokens: list[int]) -> None:
    assert kept(sampling) == tokens


@pytest.mark.parametrize("top_k", [1, 8, 50, BLOCK, 200])
@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
@pytest.mark.parametrize(("scale", "step"), [(1.0, 0.0), (30.0, 0.0), (3.0, 0.5)], ids=["flat", "peaked", "tied"])
def test_the_largest_are_cut_as_if_all_were_ranked(top_k: int, top_p: float, scale: float, step: float) -> None:
    """Bit by bit, also where many logits are equal: [B T V] as the learner scores them."""
    logits = scale * torch.randn(8, 3, 1001, generator=torch.Generator().manual_seed(top_k))
    if step:
        logits = (logits / step).round() * step
    sampling = Sampling(top_k=top_k, top_p=top_p)
    expected = logits.masked_fill(_cut_ranked(logits, sampling), -math.inf)
    assert torch.equal(filtered_logits(logits, sampling), expected)
    assert int(expected.isfinite().sum(-1).max()) <= top_k


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "sampling", [Sampling(0.7, top_k=50), Sampling(0.7, 0.9, 200), Sampling(top_k=5, greedy=True)], ids=str
)
def test_draws_of_few_candidates_are_draws_of_all_tokens(sampling: Sampling, dtype: torch.dtype) -> None:
    """The largest are taken before any work over the vocabulary: the same tokens, log-probs to rounding."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(200, 2048, generator=generator)).to(dtype)
    uniform = torch.rand(200, generator=generator)
    probs = filtered_logits(logits, sampling).softmax(-1)
    expected = probs.argmax(-1) if sampling.greedy else (probs.double().cumsum(-1) <= uniform[:, None]).sum(-1)
    tokens, logprobs = draw(logits, uniform, sampling)
    assert tokens.tolist() == expected.tolist()
    torch.testing.assert_close(logprobs, probs.gather(-1, tokens[:, None])[:, 0].log())


def test_a_logit_that_is_no_number_is_never_cut_out_of_sight() -> None:
    logits = torch.randn(3, 1001, generator=torch.Generator().manual_seed(0))
    logits[0, 7], logits[1] = math.nan, math.nan
    assert filtered_logits(logits, Sampling(top_k=5)).softmax(-1).isnan().all(-1).tolist() == [True, True, False]


def test_temperature_divides_before_the_cut_renormalizes() -> None:
    probs = filtered_logits(LOGITS, Sampling(temperature=0.5, top_k=3)).softmax(-1)[0].tolist()
    assert probs == pytest.approx([16 / 29, 9 / 29, 4 / 29, 0])


def test_of_equal_logits_the_first_stay() -> None:
    assert kept(Sampling(top_k=2), torch.zeros(1, 4)) == [0, 1]


def test_order_of_the_vocabulary_does_not_matter() -> None:
    swapped = LOGITS[:, [3, 1, 0, 2]]
    assert kept(Sampling(top_k=2), swapped) == [1, 2]


def test_keep_spares_the_sampled_token_only() -> None:
    logits = filtered_logits(LOGITS, Sampling(top_k=1), keep=torch.tensor([3]))
    assert logits[0].isfinite().tolist() == [True, False, False, True]


def test_a_cut_is_a_constant_of_the_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    filtered_logits(logits, Sampling(top_k=2)).log_softmax(-1)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([3 / 7, -3 / 7, 0, 0])


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.7), Sampling(top_k=3), Sampling(top_p=0.8), Sampling(1.5, 0.9, 3)]
)
def test_frequencies_are_probabilities(sampling: Sampling) -> None:
    """Pearson's chi-square of 20,000 draws stays below 16.3, the 0.1 % point at 3 degrees of freedom."""
    count = 20_000
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = draw(LOGITS.expand(count, -1), uniform, sampling)
    probs = filtered_logits(LOGITS, sampling).softmax(-1)[0]
    seen = torch.bincount(tokens, minlength=4)
    live = probs > 0
    assert seen[~live].sum() == 0, "a cut token was drawn"
    expected = probs[live] * count
    assert float(((seen[live] - expected) ** 2 / expected).sum()) < 16.3
    torch.testing.assert_close(logprobs, probs.log()[tokens])


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8),
    st.floats(0, 1, exclude_max=True, width=32),
    st.floats(0.1, 1),
    st.integers(0, 4),
)
def test_a_drawn_token_is_always_possible(logits: list[float], uniform: float, top_p: float, top_k: int) -> None:
    sampling = Sampling(top_p=top_p, top_k=top_k)
    (token,), (logprob,) = draw(torch.tensor([logits]), torch.tensor([uniform]), sampling)
    assert int(token) in kept(sampling, torch.tensor([logits]))
    assert math.isfinite(float(logprob))


@pytest.mark.parametrize("size", [3, 1000, 50_000])
def test_the_largest_number_below_one_never_falls_off_the_end(size: int) -> None:
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(1))
    logits[0, -1] = -math.inf
    below_one = torch.nextafter(torch.ones(1), torch.zeros(1))
    tokens, logprobs = draw(logits, below_one, Sampling())
    assert int(tokens[0]) < size - 1 and math.isfinite(float(logprobs[0]))


def test_greedy_takes_the_likeliest_whatever_the_number() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0], [2.0, 0.0, -1.0]])
    tokens, logprobs = draw(logits, torch.tensor([0.999, 0.999]), Sampling(greedy=True))
    assert tokens.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[[0, 1], [1, 0]])


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"max_new_tokens": 0},
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"sampling.{next(iter(settings))}"):
        Sampling(**settings)  # type: ignore[arg-type]
