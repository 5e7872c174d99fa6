"""The distribution that answers are drawn from, shared by the engines that sample and the learner that scores.

Knows: logits. Does not know: models, batches of episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from madrigal.types import ConfigError, EngineError

BLOCK = 64
BELOW_ONE = 1 - 2**-23


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature: divides the logits; 1.0 samples the model's own distribution.
        top_p: keep the smallest set of most likely tokens whose probability reaches this; 1.0 keeps all.
        top_k: keep this many most likely tokens; 0 keeps all.
        max_new_tokens: the longest answer, end token included.
        greedy: take the most likely token instead of drawing one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    greedy: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"sampling.temperature: expected more than 0 and finite, got {self.temperature}; for the most likely "
                "answer set greedy"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"sampling.top_p: expected more than 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise ConfigError(f"sampling.top_k: expected 0 (keep all) or more, got {self.top_k}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"sampling.max_new_tokens: expected at least 1, got {self.max_new_tokens}")


def warp(
    logits: Float[Tensor, "*R V"], sampling: Sampling, keep: Int[Tensor, "*R"] | None = None
) -> Float[Tensor, "*R V"]:
    """Logits of the sampled distribution: temperature, then top-k, then top-p; what is cut becomes -inf.

    The cut is a constant of the gradient. `keep` names tokens that stay whatever the cut says: the tokens that were
    sampled, which rounding must not turn into impossible ones when the learner scores them.
    """
    logits = logits.float()
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p == 1.0:
        return logits
    cut = _cut(logits.detach(), sampling)
    if keep is not None:
        cut = cut.scatter(-1, keep[..., None], False)
    return logits.masked_fill(cut, float("-inf"))


def _cut(logits: Tensor, sampling: Sampling) -> Tensor:
    """True where a token is left out. Of equal logits, those of lower index stay."""
    # At least a block of them: sums of fewer numbers are rounded in another order.
    count = max(sampling.top_k, BLOCK)
    if not sampling.top_k or count >= logits.shape[-1]:
        return _cut_ranked(logits, sampling)
    index = _largest(logits, count)
    out = _cut_ranked(logits.gather(-1, index), sampling)
    cut = torch.ones_like(logits, dtype=torch.bool).scatter(-1, index, out)
    return cut & (logits == logits)  # not a number is no small number: it stays, for the loss to show it


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
    """The places of the `count` largest logits, in rising order. `topk` itself picks any of those that are equal."""
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
    probs = warp(logits, sampling).softmax(dim=-1)
    tokens = probs.argmax(dim=-1) if sampling.greedy else _invert(probs, uniform)
    return tokens, probs.gather(-1, tokens[:, None])[:, 0].log()


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
