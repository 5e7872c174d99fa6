"""Settings of `madrigal verifier`: what a verifier is made of, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from madrigal.settings import Lora, OptimizerConfig, PolicyConfig
from madrigal.types import ConfigError


@dataclass(frozen=True, slots=True)
class Body:
    """What a verifier is made of.

    Attributes:
        model: a model that a policy may have.
        rank, alpha: of the adapter that is trained beside the head; rank 0 trains the model itself, which is what a
            starter model needs.
        max_length: tokens of question and answer; what an answer has beyond is not read.
        pad_token: what to pad with where the tokenizer names nothing.
    """

    model: str = "starter:small"
    rank: int = 16
    alpha: int = 32
    max_length: int = 550
    pad_token: str = ""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.max_length < 2:
            raise ConfigError("verifier: expected an adapter of rank 0 or more, and a max_length of 2 tokens or more")

    @property
    def policy(self) -> PolicyConfig:
        return PolicyConfig(model=self.model, lora=Lora(self.rank, self.alpha), pad_token=self.pad_token)


@dataclass(frozen=True, slots=True)
class Training:
    """How a verifier is trained.

    Attributes:
        lr: peak learning rate. The starter models, a thousand times smaller than the paper's, need 3e-3.
        epochs: passes over the answers.
        batch: answers read at once; memory depends on it, the result to rounding only.
        accumulate: such batches per optimizer step.
        warmup: optimizer steps of linear rise.
        tokens: which tokens of an answer bear its label: "all" as in the paper, or the "last" alone. Early tokens of
            short answers say nothing yet, and their noise is most of the gradient of a starter model.
        schedule: of the rate after that. Not found; linear decay is what the library of the public code does unasked.
        seed: of the order of the answers and the first weights.
    """

    lr: float = 2e-4
    epochs: int = 1
    batch: int = 4
    accumulate: int = 2
    warmup: int = 5
    tokens: Literal["all", "last"] = "all"
    schedule: Literal["linear", "constant"] = "linear"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.accumulate) < 1:
            raise ConfigError("verifier training: expected at least 1 epoch, batch and accumulated batch")

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(lr=self.lr, weight_decay=0.0, warmup=self.warmup, lr_schedule=self.schedule)
