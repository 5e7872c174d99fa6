"""A team that speaks when it is told to, behind a server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fakes.play import Voice
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import Completion


class Gate(Voice):
    """A voice that waits for a word before it speaks.

    Attributes:
        begun: counts ticks that have begun.
        open: counts ticks that may go on.
    """

    def __init__(self, **script: str) -> None:
        super().__init__(script)
        self.begun, self.open = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        self.begun.release()
        assert self.open.acquire(timeout=10)
        return [replace(one, prompt_ids=(1, 2), token_ids=(3,)) for one in super().__call__(wanted)]


@dataclass(frozen=True)
class GatedTeam(TrainedTeam):
    """A team whose words come of a voice, and not of its policies."""

    voice: Gate = None  # type: ignore[assignment]

    def speaker(self) -> Generate:
        return self.voice
