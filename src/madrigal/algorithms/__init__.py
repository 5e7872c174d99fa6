"""Algorithms: how experience branches, how credit is given, what is minimised. One small file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from madrigal.batch import Batch, PolicyOutput
from madrigal.branching import Branching
from madrigal.types import Group, Sample

M = TypeVar("M")


class Algorithm(Protocol[M]):
    """Three choices in one frozen record, which is also its configuration."""

    @property
    def branching(self) -> Branching:
        """How many siblings part, and where."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads `Batch.reference_logprobs`."""
        ...

    def begin(self) -> M:
        """The memory carried from step to step, a JSON value; it is saved with the checkpoint."""
        ...

    def credit(self, groups: Sequence[Group[object]], memory: M) -> tuple[list[list[Sample]], M]:
        """Turns groups into samples, in stages: each stage is one optimiser step, in this order."""
        ...

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        """The scalar to minimise on one micro-batch."""
        ...
