"""Critics: a language model with a scalar head in the place of its output layer.

All that reads policies (prompts once for all their answers, the written-out Llama) reads critics too, with that head
applied to the last hidden states. The value after a token is the return that is expected from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from madrigal.maths.batch import Batch, scattered
from madrigal.maths.sampling import check_finite
from madrigal.policies.forward import Reader, last_hidden
from madrigal.policies.local import LocalPolicy, load_policy
from madrigal.settings import PolicyConfig


class ScalarHead(nn.Module):
    """A value for each token: V = w . h, of its last hidden state h, in float32. At the start it is 0."""

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
        """The value before each token of each answer, in units of reward; 0 in padding.

        The value before the first token has read the prompt alone, each later one also the answer so far; the last
        token of the answer is never read.
        """
        values: Tensor = self.head(read(self.body.activate(), batch))[:, 0]
        check_finite(values.detach(), f"critic {self.name}")
        return scattered(batch.mask, values)

    def outputs(self, ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """The output of its head after each token of padded rows."""
        hidden = last_hidden(self.body.activate(), input_ids=ids, attention_mask=mask.long(), use_cache=False)
        values: Tensor = self.head(hidden)
        return values[..., 0]


def load_critic(name: str, config: PolicyConfig, device: torch.device, *, base: Any = None, seed: int = 0) -> Critic:
    """Makes a critic of a model; all its values are 0.

    Args:
        base: with `config.lora`, a model (or PEFT model) loaded before, to put the adapter on.
        seed: of the adapter's first weights.
    """
    body = load_policy(name, config, device, base=base, seed=seed)
    return Critic(body, ScalarHead(body.model.get_output_embeddings().in_features, body.device))
