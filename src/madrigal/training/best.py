"""Which weights of a run are the best so far, by their return on the validation split; the test split has no say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Best:
    """The best validation return of a run so far; of equal ones the earliest.

    Attributes:
        step: after how many steps it was measured; -1 while nothing was.
        return_percent: the return, in percent of the best that the task states.
        seen: after how many steps validation was last measured.
        waited: evaluations since then without a better one.
    """

    step: int = -1
    return_percent: float = 0.0
    seen: int = -1
    waited: int = 0

    def after(self, step: int, return_percent: float) -> Best:
        """The best when one more evaluation was made.

        >>> Best().after(0, 20.0).after(10, 60.0).after(20, 50.0)
        Best(step=10, return_percent=60.0, seen=20, waited=1)
        """
        if self.step >= 0 and return_percent <= self.return_percent:
            return replace(self, seen=step, waited=self.waited + 1)
        return Best(step, return_percent, step)

    def state(self) -> dict[str, Any]:
        """As JSON, for a checkpoint."""
        return asdict(self)


def best_of_state(state: Mapping[str, Any] | None) -> Best:
    """The best that a checkpoint tells of; none where it tells of none."""
    return Best(**state) if state else Best()
