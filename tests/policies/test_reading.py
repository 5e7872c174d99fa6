"""What a model says before each sampled token: written out, by levels, in one pass; the same numbers and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import tiny
from fakes.kin import MODELS, build
from fakes.tiny import CPU, sample
from madrigal.maths.batch import Batch, make_batch
from madrigal.policies import forward as reading
from madrigal.policies import fused, llama
from madrigal.policies.internals import output_logits
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Lora
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
    logits = output_logits(model, how(model, batch))
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
    expected, slopes = read(model, batch, reading.hidden_in_one_pass)
    assert len(expected) == sum(len(s.turn.completion.token_ids) for s in samples)
    assert llama.supports(model)
    for written_out in (True, False):
        monkeypatch.setattr(llama, "supports", lambda model, answer=written_out: answer)
        logits, found = read(model, batch, reading.hidden_before_actions)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        for parameter, slope in slopes.items():
            assert (found[parameter] - slope).norm() < 1e-4 * slope.norm(), parameter


def test_adapters_are_read_with_the_gradients_of_the_librarys_code(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny.load(model_folder, lora=Lora(rank=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters().values():
            weight.copy_(0.2 * torch.randn_like(weight))
    batch, found = make_batch(forest(), 0, CPU), []
    for written_out in (True, False):
        monkeypatch.setattr(llama, "supports", lambda model, answer=written_out: answer)
        logits = output_logits(policy.model, reading.hidden_before_actions(policy.activate(), batch))
        slopes = torch.autograd.grad(logits.tanh().sum(), list(policy.parameters().values()))
        found.append((logits.detach(), slopes))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("tied", [True, False])
def test_padding_that_was_said_has_the_gradient_of_the_models_own_code(policy: LocalPolicy, tied: bool) -> None:
    """None. Its row is zero in a fresh model, where the slope of a norm is 1 / sqrt(eps)."""
    model = build(policy, "llama", pad_token_id=0, tie_word_embeddings=tied)
    assert not bool(model.model.embed_tokens.weight[0].any()) and llama.supports(model)
    batch = make_batch([sample((5, 6), (5, 0, 7, 9))], 0, CPU)
    (_, found), (_, expected) = (
        read(model, batch, how) for how in (reading.hidden_before_actions, reading.hidden_in_one_pass)
    )
    for name, slope in expected.items():
        assert (found[name] - slope).norm() <= 1e-4 * slope.norm(), name


def test_each_token_is_read_once(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """57 tokens of heads are read for 86 of prompts; the last token of an answer is never read."""
    model, batch, sizes = build(policy, "qwen3"), make_batch(forest(), 0, CPU), []
    whole = llama.read
    monkeypatch.setattr(
        llama, "read", lambda *given, **how: sizes.append(len(whole(*given).stream)) or whole(*given, **how)
    )
    reading.hidden_before_actions(model, batch)
    answers = sum(len(s.turn.completion.token_ids) - 1 for s in forest())
    assert sizes == [30 + 20 + 6 + (5 + 7 + 18 + 1 + 1) + answers]


def test_products_and_rows_written_out_have_the_gradient_of_the_composed_ones() -> None:
    both = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fused.gated, both)
    torch.testing.assert_close(fused.gated(both), torch.nn.functional.silu(both[:, :3]) * both[:, 3:])
    rows, parent = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True), torch.tensor([2, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda rows: fused.inherited(rows, parent), rows)
    torch.testing.assert_close(fused.inherited(rows, parent), rows[parent])


def test_the_norm_written_out_has_the_gradients_of_the_composed_one() -> None:
    """Of an input as wide as the weight, and of heads that have weights of their own."""
    for shape in ((3, 8), (5, 4, 8)):
        x, weight = torch.randn(shape, requires_grad=True), torch.randn(shape[1:], requires_grad=True)
        composed = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
        expected = torch.autograd.grad(composed.sin().sum(), (x, weight))
        found = torch.autograd.grad(fused.normed(x, weight, 1e-6).sin().sum(), (x, weight))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_matrices_beside_each_other_are_joined_without_a_copy(policy: LocalPolicy) -> None:
    for parts in ([torch.randn(2, 3), torch.randn(4, 3)], list(torch.split(torch.randn(6, 3), [2, 4]))):
        for part in parts:
            part.requires_grad_()
        whole = fused.joined(*parts)
        torch.testing.assert_close(whole, torch.cat(parts))
        assert (whole.data_ptr() == parts[0].data_ptr()) == (parts[0].untyped_storage().nbytes() > 24)
        slopes = torch.autograd.grad(whole.sin().sum(), parts)
        torch.testing.assert_close(list(slopes), [part.cos() for part in parts])
    model = build(policy, "qwen3")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    llama.pack(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    layer = llama.layer_weights(model.model.layers[0])
    assert layer.qkv.weight.data_ptr() == model.model.layers[0].self_attn.q_proj.weight.data_ptr()
    assert layer.gate_up.weight.data_ptr() == model.model.layers[0].mlp.gate_proj.weight.data_ptr()
