"""Counts floating-point operations of a transformer, and measures what a plain matrix product reaches.

Counted are the products with weights: 2 operations per weight and token forward, 6 forward and backward. Attention
scores, norms, softmax and the optimizer are left out, so the true rate is a little higher than the one shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Work:
    """What a part of a run has done.

    Attributes:
        tokens: positions that went through the layers.
        scored: positions for which logits were computed.
        seconds: wall time.
    """

    tokens: int = 0
    scored: int = 0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.scored + other.scored, self.seconds + other.seconds)


def rate(model: Any, work: Work, *, backward: bool = False) -> float:
    """GFLOP/s of some work; `backward` counts the gradient's two products too."""
    head = model.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2)
    operations = (6 if backward else 2) * (layers * work.tokens + head * work.scored)
    return operations / max(work.seconds, 1e-9) / 1e9


def product_rate(rows: int, inner: int, columns: int, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """GFLOP/s of a plain product of matrices of these sizes: the best of repeated calls."""
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    best = float("inf")
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        functional.linear(left, right)
        best = min(best, time.perf_counter() - began)
    return 2 * rows * inner * columns / best / 1e9


def products(model: Any, rows: int) -> dict[str, float]:
    """GFLOP/s of a large square product and of one that the model makes itself: `rows` tokens into the MLP."""
    width, mlp = model.config.hidden_size, model.config.intermediate_size
    return {
        "1024x1024x1024": product_rate(1024, 1024, 1024, model.dtype),
        f"{rows}x{width}x{mlp}": product_rate(rows, width, mlp, model.dtype),
    }
