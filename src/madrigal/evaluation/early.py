"""Alarms while a run goes on: what makes the rest of it worthless, seen within two or three steps.

`alarms` compares windows and needs fifteen steps; on a large model these are hours. Here single steps are compared, so
that only what is far off raises an alarm; the thresholds are ours. Each alarm is raised once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.series import number_in

Record = Mapping[str, Any]
Raised = tuple[str, str, str]  # the alarm's name, whose it is ("" for the whole run), its text

NO_ADVANTAGE_STEPS = 3  # in a row, with advantage 0 in every answer
# Nats per token: above the step before a jump; away from the reference. In two steps in a row, because the estimate of
# a single step may be one token that the reference finds a thousand times as likely.
KL_RISE, KL = 0.5, 1.5
ENTROPY_RISE = 1.35  # times what it was in the first step
ENTROPY_FALL = 0.5  # part of what it was in the step before
ENTROPY_NATS = 0.5  # the least change that is a jump
PERCENT = 100.0001  # of the best return: rounding aside
JUMPS = ("KL jump", "entropy jump")  # after which a run may go back; see `optimizer.step_backs`
SLOWER = "lower the learning rate (5e-6 fits most models whose every weight is trained), or raise the KL weight"


class EarlyAlarms:
    """Looks at the records of steps as they come. Remembers the first entropy, the last steps, and what was raised.

    Args:
        best: the most that a round can return; infinity where it is not known.
    """

    def __init__(self, best: float = math.inf) -> None:
        self.best = best
        self.first_entropy: dict[str, float] = {}
        self.last: Record = {}
        self.last_but_one: Record = {}
        self.no_advantage_steps = 0
        self.raised: set[tuple[str, str]] = set()

    def __call__(self, record: Record) -> list[Alarm]:
        """The alarms of the newest record that were not raised before."""
        none = record.get("group/zero_advantage_fraction") == 1.0
        self.no_advantage_steps = self.no_advantage_steps + 1 if none else 0
        found = [*self._no_advantage(), *self._out_of_range(record), *self._jumps(record)]
        self.last, self.last_but_one = record, self.last
        fresh = [one for one in found if one[:2] not in self.raised]
        self.raised |= {(name, owner) for name, owner, _ in fresh}
        step = record.get("step")
        return [
            Alarm(name, "warning", step if isinstance(step, int) else None, f"{owner}{text}")
            for name, owner, text in fresh
        ]

    def jump(self, record: Record) -> Alarm | None:
        """The first jump of the newest record, whether or not one like it was raised before."""
        self.raised.clear()
        return next((alarm for alarm in self(record) if alarm.name in JUMPS), None)

    def _no_advantage(self) -> Iterator[Raised]:
        if self.no_advantage_steps >= NO_ADVANTAGE_STEPS:
            text = f"in {self.no_advantage_steps} steps in a row every answer earned what its siblings earned"
            remedy = "pay for parts, take easier or harder examples, or raise width or temperature"
            yield "nothing to learn from", "", f"{text} (advantage 0); look at the transcripts, {remedy}"

    def _out_of_range(self, record: Record) -> Iterator[Raised]:
        reward, percent = number_in(record, "reward"), number_in(record, "component/return_percent")
        if percent is None and reward is not None:
            percent = 100 * reward / self.best
        if percent is not None and percent > PERCENT:
            text = f"the mean return is {percent:.4g} % of the best that the task states"
            yield "return out of range", "", f"{text}; correct its best_return or reward"

    def _jumps(self, record: Record) -> Iterator[Raised]:
        for key in record:
            value, before = number_in(record, key), number_in(self.last, key)
            match key.split("/"):
                case "update", policy, "kl" if value is not None:
                    yield from _kl(f"policy {policy}: ", number_in(self.last_but_one, key), before, value)
                case "update", policy, "entropy" if value is not None:
                    yield from _entropy(f"policy {policy}: ", self.first_entropy.setdefault(key, value), before, value)


def _kl(owner: str, first: float | None, before: float | None, value: float) -> Iterator[Raised]:
    """Args: the KL in three steps, the newest last; None where there was none."""
    if before is None:
        return
    least = min(before, value)
    if least > KL or (first is not None and least - first > KL_RISE):
        came = "" if first is None else f", from {first:.3g}"
        yield "KL jump", owner, f"KL is {before:.3g} and {value:.3g} nats per token in two steps{came}; {SLOWER}"


def _entropy(owner: str, first: float, before: float | None, value: float) -> Iterator[Raised]:
    if value > ENTROPY_RISE * first and value - first > ENTROPY_NATS:
        text = f"entropy rose from {first:.3g} to {value:.3g} nats: answers become random"
        yield "entropy jump", owner, f"{text}; {SLOWER}"
    if before is not None and value < ENTROPY_FALL * before and before - value > ENTROPY_NATS:
        text = f"entropy fell from {before:.3g} to {value:.3g} nats in one step: answers become all alike"
        yield "entropy jump", owner, f"{text}; {SLOWER}"
