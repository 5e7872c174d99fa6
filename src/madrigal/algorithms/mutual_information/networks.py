"""Networks as dictionaries of tensors: how one is made, how it learns, how it is written down.

State in, state out: a step of learning makes a new network, so that a training step that is broken off leaves nothing
half changed, and a checkpoint is a JSON value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]
Json = dict[str, Any]


def layer(name: str, inputs: int, outputs: int, draw: torch.Generator) -> dict[str, Tensor]:
    """First weights of a linear layer, as they are usually drawn: uniform within 1/sqrt(inputs)."""
    uniform = torch.rand((outputs, inputs + 1), generator=draw, dtype=torch.float64) * 2 - 1
    matrix = uniform / math.sqrt(inputs)
    return {f"{name}.weight": matrix[:, :-1].clone(), f"{name}.bias": matrix[:, -1].clone()}


def linear(weights: Weights, name: str, x: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
    """W x + b with the weights of a layer; R and Q stand for its sizes."""
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


@dataclass(frozen=True, slots=True)
class Network:
    """Weights that learn, with all that Adam remembers of it.

    Attributes:
        weights: by name.
        first, second: Adam's moving averages of gradients and of their squares.
        count: steps made.
    """

    weights: Weights
    first: Weights
    second: Weights
    count: int = 0

    def to_json(self) -> Json:
        """A JSON value from which `network_from_json` makes the very same numbers."""
        parts = {"weights": self.weights, "first": self.first, "second": self.second}
        named = {part: {name: value.tolist() for name, value in of.items()} for part, of in parts.items()}
        return {**named, "count": self.count}


def fresh(weights: Weights) -> Network:
    """A network that has not learned yet."""
    blank = {name: torch.zeros_like(value) for name, value in weights.items()}
    return Network(weights, blank, blank)


def network_from_json(state: Json) -> Network:
    """The network that `Network.to_json` wrote down."""
    weights, first, second = (
        {name: torch.tensor(value, dtype=torch.float64) for name, value in state[part].items()}
        for part in ("weights", "first", "second")
    )
    return Network(weights, first, second, state["count"])


def stepped(network: Network, loss: Callable[[Weights], Tensor], lr: float) -> Network:
    """The network after one step of Adam down a loss of its weights.

        m' = 0.9 m + 0.1 g        v' = 0.999 v + 0.001 g^2
        w' = w - lr * m' / (1 - 0.9^t) / ( sqrt(v' / (1 - 0.999^t)) + 1e-8 )

    References:
        Kingma and Ba, 2015, "Adam", arXiv:1412.6980; its default settings.
    """
    count = network.count + 1
    leaves = {name: value.detach().requires_grad_() for name, value in network.weights.items()}
    slopes = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    first = {name: 0.9 * network.first[name] + 0.1 * slope for name, slope in slopes.items()}
    second = {name: 0.999 * network.second[name] + 0.001 * slope**2 for name, slope in slopes.items()}
    moved = {
        name: value.detach() - lr * first[name] / (1 - 0.9**count) / ((second[name] / (1 - 0.999**count)).sqrt() + 1e-8)
        for name, value in leaves.items()
    }
    return Network(moved, first, second, count)
