"""Critics: a language model that says one number where it would say a word.

All that reads policies (prompts once for all their answers, the written-out Llama) reads critics too, with the scalar
head applied to the last hidden states in the place of the model's own output layer. After the token from which a policy
would draw the next one, the critic says what return it expects from there on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from madrigal.maths.batch import Batch
from madrigal.maths.sampling import check_finite
from madrigal.policies.forward import Reader, call
from madrigal.policies.local import LocalPolicy, Lora, PolicyConfig, load_policy
from madrigal.types import ConfigError


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """The critic, of algorithms that learn with one; others leave it unused.

    Attributes:
        model: any that a policy may have; "" is the model of the policy it judges, of the first one if it judges all.
        lora: train an adapter and the head only. On the model of a policy that is an adapter itself, the critic shares
            that policy's copy of it; else it has a copy of its own.
        lr: the peak learning rate; None is the policies' own, as in CoLLM (5e-6 both); C3's critics have 5e-5 beside
            1e-6. All else about the optimiser is as for the policies.
    """

    model: str = ""
    lora: Lora = field(default_factory=Lora)
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise ConfigError(f"critic.lr: expected a positive number, or None for the policies' own, got {self.lr}")


class ScalarHead(nn.Module):
    """One number for each token, from what the model makes of it: V = w . h, in float32. At the start it says 0."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width, device=device))

    def forward(self, hidden: Float[Tensor, "*R D"]) -> Float[Tensor, "*R 1"]:
        return functional.linear(hidden.float(), self.weight)


@dataclass(slots=True, eq=False)
class Critic:
    """A model with a scalar head.

    Attributes:
        body: the model below the head, or an adapter on one; it never speaks.
        head: the number of each token.
    """

    body: LocalPolicy
    head: ScalarHead

    @property
    def name(self) -> str:
        return self.body.name

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in a fixed order: the head, and all of the body that it looks at."""
        body = self.body.parameters() if self.body.adapter else dict(self.body.model.base_model.named_parameters())
        return {"head": self.head.weight, **body}

    def values(self, batch: Batch, read: Reader) -> Float[Tensor, "B T"]:
        """What it expects before each token of each answer, in units of reward; 0 in padding.

        The value before the first token has read the prompt alone, each later one also the answer so far; the last
        token of the answer is never read.
        """
        found = read(self.body.activate(), batch, self.head)[:, 0]
        check_finite(found.detach(), f"critic {self.name}")
        blank = torch.zeros(batch.mask.shape, dtype=found.dtype, device=found.device)
        return blank.masked_scatter(batch.mask, found)

    def outputs(self, ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """What its head says after each token of padded rows."""
        return call(self.body.activate(), self.head, input_ids=ids, attention_mask=mask.long(), use_cache=False)[..., 0]


def load_critic(name: str, config: PolicyConfig, device: torch.device, *, base: Any = None, seed: int = 0) -> Critic:
    """Makes a critic of a model; its head says 0 of everything.

    Args:
        base: with `config.lora`, a model (or PEFT model) loaded before, to put the adapter on.
        seed: of the adapter's first weights.
    """
    body = load_policy(name, config, device, base=base, seed=seed)
    return Critic(body, ScalarHead(body.model.get_output_embeddings().in_features, body.device))
