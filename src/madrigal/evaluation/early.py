"""Alarms while a run goes on: what makes the rest of it worthless, seen from the second step on.

`alarms` compares windows and needs fifteen steps; on a large model these are hours. Here single steps are compared, so
that only what is far off raises an alarm; the thresholds are ours. Each alarm is raised once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.series import number_in

Record = Mapping[str, Any]
SLOWER = "lower the learning rate (5e-6 fits most models whose every weight is trained), or raise the KL weight"


@dataclass(frozen=True, slots=True)
class EarlyThresholds:
    """When to raise an alarm early; every default is ours.

    Attributes:
        unlearned: steps in a row in which every answer has advantage 0.
        kl: a policy has left its reference whose KL rises by so many nats per token from one step to the next.
        far: or that is so many nats per token away from it.
        rise: entropy has jumped up that is so many times what it was in the first step, and `nats` above it.
        fall: entropy has jumped down that is below this part of what it was in the step before, and `nats` below it.
        nats: the least change of entropy that is a jump.
    """

    unlearned: int = 3
    kl: float = 0.5
    far: float = 1.5
    rise: float = 1.35
    fall: float = 0.5
    nats: float = 0.5


class EarlyAlarms:
    """Looks at the records of steps as they come. Remembers the first entropy, the last step, and what was raised.

    Args:
        best: the most that a round can return; infinity where it is not known.
    """

    def __init__(self, best: float = math.inf, limits: EarlyThresholds = EarlyThresholds()) -> None:
        self.best, self.limits = best, limits
        self.first: dict[str, float] = {}
        self.last: Record = {}
        self.unlearned = 0
        self.raised: set[tuple[str, str]] = set()

    def __call__(self, record: Record) -> list[Alarm]:
        """What the newest record shows that was not shown before."""
        self.unlearned = self.unlearned + 1 if record.get("group/equal") == 1.0 else 0
        found = [*self._unlearned(), *self._outside(record), *self._jumps(record)]
        self.last = record
        step = record.get("step")
        fresh = [(key, what) for key, what in found if key not in self.raised]
        self.raised |= {key for key, _ in fresh}
        return [
            Alarm(name, "warning", step if isinstance(step, int) else None, f"{owner}{what}")
            for (name, owner), what in fresh
        ]

    def _unlearned(self) -> Iterator[tuple[tuple[str, str], str]]:
        if self.unlearned >= self.limits.unlearned:
            yield (
                ("nothing to learn from", ""),
                f"in {self.unlearned} steps in a row every answer earned what its siblings earned (advantage 0); "
                "look at the transcripts, pay for parts, take easier or harder examples, or raise width or temperature",
            )

    def _outside(self, record: Record) -> Iterator[tuple[tuple[str, str], str]]:
        reward, percent = number_in(record, "reward"), number_in(record, "component/return_percent")
        share = percent if percent is not None else None if reward is None else 100 * reward / self.best
        if share is not None and share > 100.0001:
            yield (
                ("return out of range", ""),
                f"the mean return is {share:.4g} % of the best that the task states; correct its best_return or reward",
            )

    def _jumps(self, record: Record) -> Iterator[tuple[tuple[str, str], str]]:
        for key in record:
            parts = key.split("/")
            value = number_in(record, key)
            if len(parts) != 3 or parts[0] != "update" or value is None:
                continue
            owner, before = f"policy {parts[1]}: ", number_in(self.last, key)
            if parts[2] == "kl" and (value > self.limits.far or self._leapt(before, value)):
                came = "" if before is None else f", {before:.3g} in the step before"
                yield ("KL jump", owner), f"KL is {value:.3g} nats per token{came}; {SLOWER}"
            if parts[2] == "entropy":
                yield from self._entropy(owner, self.first.setdefault(key, value), before, value)

    def _leapt(self, before: float | None, value: float) -> bool:
        return before is not None and value - before > self.limits.kl

    def _entropy(
        self, owner: str, first: float, before: float | None, value: float
    ) -> Iterator[tuple[tuple[str, str], str]]:
        limits = self.limits
        if value > limits.rise * first and value - first > limits.nats:
            text = f"entropy rose from {first:.3g} to {value:.3g} nats: answers become random; {SLOWER}"
            yield ("entropy jump", owner), text
        if before is not None and value < limits.fall * before and before - value > limits.nats:
            text = f"entropy fell from {before:.3g} to {value:.3g} nats in one step: answers become all alike; {SLOWER}"
            yield ("entropy jump", owner), text
