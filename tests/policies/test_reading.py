"""What a model says before each sampled token: written out, by levels, in one pass; the same numbers and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.kin import MODELS, build
from fakes.tiny import CPU, sample
from madrigal.maths.batch import Batch, make_batch
from madrigal.policies import cpu, fused
from madrigal.policies import forward as reading
from madrigal.policies.local import LocalPolicy
from madrigal.types import Sample

Read = Callable[[Any, Batch], Tensor]


def forest() -> list[Sample]:
    """Two families of prompts of a second round and one prompt alone, answers of 1 to 9 tokens, siblings and none."""
    torch.manual_seed(0)
    draw = torch.randint(5, 50, (400,)).tolist()
    first, second, alone = tuple(draw[:30]), tuple(draw[30:50]), tuple(draw[50:57])
    prompts = [(*first, *draw[60:65]), (*first, *draw[65:72]), (*second, *draw[72:90]), (*second, draw[90]), alone]
    lengths = (3, 1, 9, 2, 1, 5, 7)
    return [sample(prompts[n % 5], tuple(draw[100 + 10 * n : 100 + 10 * n + lengths[n]])) for n in range(7)]


def read(model: Any, batch: Batch, how: Read) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and the gradient of a fixed sum of them."""
    model.zero_grad()
    logits = how(model, batch)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    (logits * weights).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("samples", [forest(), forest()[:1], forest()[1:2]], ids=["forest", "one answer", "one token"])
def test_three_ways_to_read_give_the_same_logits_and_gradients(
    policy: LocalPolicy, name: str, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build(policy, name), make_batch(samples, 0, CPU)
    assert len(batch.prompts) == (2 if len(samples) > 1 else 1)
    expected, slopes = read(model, batch, reading.logits_in_one_pass)
    assert len(expected) == sum(len(s.turn.completion.token_ids) for s in samples)
    assert cpu.supports(model)
    for written_out in (True, False):
        monkeypatch.setattr(cpu, "supports", lambda model, answer=written_out: answer)
        logits, found = read(model, batch, reading.logits_before_actions)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        for parameter, slope in slopes.items():
            assert (found[parameter] - slope).norm() < 1e-4 * slope.norm(), parameter


@pytest.mark.parametrize("tied", [True, False])
def test_padding_that_was_said_has_the_gradient_of_the_models_own_code(policy: LocalPolicy, tied: bool) -> None:
    """None. Its row is zero in a fresh model, where the slope of a norm is 1 / sqrt(eps)."""
    model = build(policy, "llama", pad_token_id=0, tie_word_embeddings=tied)
    assert not bool(model.model.embed_tokens.weight[0].any()) and cpu.supports(model)
    batch = make_batch([sample((5, 6), (5, 0, 7, 9))], 0, CPU)
    (_, found), (_, expected) = (
        read(model, batch, how) for how in (reading.logits_before_actions, reading.logits_in_one_pass)
    )
    for name, slope in expected.items():
        assert (found[name] - slope).norm() <= 1e-4 * slope.norm(), name


def test_each_token_is_read_once(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """57 tokens of heads are read for 86 of prompts; the last token of an answer is never read."""
    model, batch, sizes = build(policy, "qwen3"), make_batch(forest(), 0, CPU), []
    whole = cpu.read
    monkeypatch.setattr(cpu, "read", lambda *given: sizes.append(len(whole(*given).stream)) or whole(*given))
    reading.logits_before_actions(model, batch)
    answers = sum(len(s.turn.completion.token_ids) - 1 for s in forest())
    assert sizes == [30 + 20 + 6 + (5 + 7 + 18 + 1 + 1) + answers]


def test_products_and_rows_written_out_have_the_gradient_of_the_composed_ones() -> None:
    both = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fused.gated, both)
    torch.testing.assert_close(fused.gated(both), torch.nn.functional.silu(both[:, :3]) * both[:, 3:])
    rows, parent = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True), torch.tensor([2, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda rows: fused.inherited(rows, parent), rows)
    torch.testing.assert_close(fused.inherited(rows, parent), rows[parent])


def test_the_norm_written_out_has_the_gradient_of_the_composed_one() -> None:
    x = torch.randn(3, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fused.normed(x, 1e-6), x)
    torch.testing.assert_close(fused.normed(x, 1e-6), x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt())
