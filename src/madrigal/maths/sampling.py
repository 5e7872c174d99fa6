"""The distribution that answers are drawn from, shared by the engines that sample and the learner that scores."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from madrigal.settings import Sampling
from madrigal.types import EngineError

BLOCK = 64
WIDER = 4  # of bfloat16 logits, many are equal
BELOW_ONE = 1 - 2**-23


def filtered_logits(
    logits: Float[Tensor, "*R V"], sampling: Sampling, keep: Int[Tensor, "*R"] | None = None
) -> Float[Tensor, "*R V"]:
    """Logits of the sampled distribution: temperature, then top-k, then top-p; what is cut becomes -inf.

    The cut is a constant of the gradient. `keep` names tokens that stay whatever the cut says: the tokens that were
    sampled, which rounding must not turn into impossible ones when the learner scores them.
    """
    scaled = logits.float()
    if sampling.temperature != 1.0:
        scaled = scaled / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p == 1.0:
        return scaled
    cut = _cut(logits.detach(), scaled.detach(), sampling)
    if keep is not None:
        cut = cut.scatter(-1, keep[..., None], False)
    return scaled.masked_fill(cut, float("-inf"))


def _cut(logits: Tensor, scaled: Tensor, sampling: Sampling) -> Tensor:
    """True where a token is left out. Of equal logits, those of lower index stay."""
    index = _candidates(logits, sampling)
    if index is None:
        return _cut_ranked(scaled, sampling)
    out = _cut_ranked(scaled.gather(-1, index), sampling)
    cut = torch.ones_like(logits, dtype=torch.bool).scatter(-1, index, out)
    return cut & (logits == logits)  # not a number is no small number: it stays, for the loss to show it


def _candidates(logits: Tensor, sampling: Sampling) -> Tensor | None:
    """The places of all tokens that top-k may keep, in rising order; None where it keeps all or nearly all.

    They are the same in sampling and in learning, for both look at the logits before the temperature.
    """
    # At least a block of them: sums of fewer numbers are rounded in another order.
    count = max(sampling.top_k, BLOCK)
    return _largest(logits, count) if sampling.top_k and count < logits.shape[-1] else None


def _cut_ranked(logits: Tensor, sampling: Sampling) -> Tensor:
    """The cut, by ranking all logits: slow and large for those of a whole vocabulary."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ranked = logits.gather(-1, order)
    if sampling.top_k:
        ranked = ranked.clone()
        ranked[..., sampling.top_k :] = float("-inf")
    probs = ranked.softmax(dim=-1)
    # A token stays while the probability of those before it has not reached top_p, so the first one always stays.
    before = probs.cumsum(dim=-1) - probs
    out = (before >= sampling.top_p) | (ranked == float("-inf"))
    return torch.zeros_like(out).scatter(-1, order, out)


def _largest(logits: Tensor, count: int) -> Tensor:
    """The places of the `count` largest logits, in rising order. `topk` itself picks any of those that are equal.

    Where a few times as many hold all that equal the last one, ranking those is a fraction of the work. On a GPU the
    processor would have to wait for the answer.
    """
    wide = min(WIDER * count, logits.shape[-1])
    if logits.is_cpu:
        values, index = logits.topk(wide, dim=-1)
        if bool((values[..., -1] < values[..., count - 1]).all()):
            index = index.sort(dim=-1).values
            order = logits.gather(-1, index).argsort(dim=-1, descending=True, stable=True)[..., :count]
            return index.gather(-1, order).sort(dim=-1).values
    least = logits.topk(count, dim=-1).values[..., -1:]
    above, level = logits > least, logits == least
    room = count - above.sum(dim=-1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=-1, dtype=torch.int32) <= room))
    rank = torch.arange(1, count + 1, dtype=torch.int32, device=logits.device).expand(*logits.shape[:-1], count)
    place = torch.searchsorted(chosen.cumsum(dim=-1, dtype=torch.int32), rank.contiguous())
    return place.clamp_max(logits.shape[-1] - 1)  # beyond it if not a number


def draw(
    logits: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], sampling: Sampling
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """Draws one token per row by inverting the cumulative distribution at `uniform`, a number in [0, 1) per row.

    One number per row, from the row's own seed, makes a row's answer independent of the rows beside it.

    Returns:
        The tokens, and their log-probs in nats under the sampled distribution.
    """
    index = _candidates(logits, sampling)
    if index is not None:
        logits = logits.gather(-1, index)
    probs = filtered_logits(logits, sampling).softmax(dim=-1)
    places = (probs.argmax(dim=-1) if sampling.greedy else _invert(probs, uniform))[:, None]
    tokens = places if index is None else index.gather(-1, places)
    return tokens[:, 0], probs.gather(-1, places)[:, 0].log()


def check_finite(numbers: Tensor, owner: str) -> None:
    """Refuses log-probs of drawn tokens, or values, that are not finite: then the model's output was not.

    Raises:
        EngineError: naming the model's owner, "policy ann".
    """
    if not bool(numbers.isfinite().all()):
        raise EngineError(
            f"{owner}: the model's output is not finite (NaN or infinity), so that no token can be drawn or scored; "
            "its weights have diverged, or overflow in this precision: load an earlier checkpoint, or try "
            "team.policy.dtype float32"
        )


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """The first outcomes whose cumulative mass exceeds `uniform`: first the block, then the place in it.

    Adding up a whole vocabulary one by one takes as long as computing the probabilities; adding up blocks does not.
    """
    size = probs.shape[-1]
    width = BLOCK if size % BLOCK == 0 else size
    blocks = probs.view(len(probs), -1, width)
    block, rest = _find(blocks.sum(dim=-1), uniform[:, None], scale=True)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, width))[:, 0]
    place, _ = _find(inside, rest, scale=False)
    return (block * width + place)[:, 0]


def _find(mass: Tensor, target: Tensor, *, scale: bool) -> tuple[Tensor, Tensor]:
    """The first place where the cumulative mass exceeds a target, and what of the target lies in that place.

    The target is a share of the whole mass if `scale` is set; it is kept below the whole mass, whatever was lost in
    rounding, so that it always falls on a place of mass > 0.
    """
    total = mass.cumsum(dim=-1)
    whole = total[:, -1:]
    target = torch.minimum(target * whole if scale else target, whole * BELOW_ONE).clamp_min(0)
    place = torch.searchsorted(total, target, right=True).clamp_max(mass.shape[-1] - 1)  # beyond it if not a number
    return place, target - (total.gather(-1, place) - mass.gather(-1, place))
