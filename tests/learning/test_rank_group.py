"""Several processes of a learner as one remote object."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from madrigal.cluster.host import LostError
from madrigal.learning.rank_group import RankGroup
from madrigal.learning.ranks import RankLostError


@dataclass
class Process:
    """A rank that serves until it is ended; the loss is seen a moment later. Its answers are those that are set."""

    answers: dict[str, Any] = field(default_factory=dict)
    ended: Event = field(default_factory=Event)
    waiting: int = 0
    ends: int = 0

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "serve":
            self.waiting += 1
            self.ended.wait()
            time.sleep(0.05)
            self.waiting -= 1
            raise LostError("ended")
        answer = self.answers.get(method)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def address(self) -> str:
        return "127.0.0.1"

    def end(self) -> None:
        self.ends += 1
        self.ended.set()


def group(*remotes: Process) -> RankGroup:
    return RankGroup(remotes, lambda *_: pytest.fail("made in the process of rank 0 alone"), ())


def waits(process: Process) -> bool:
    deadline = time.monotonic() + 5
    while not process.waiting and time.monotonic() < deadline:
        time.sleep(0.001)
    return process.waiting == 1


def test_when_it_has_ended_nobody_waits_for_any_of_them() -> None:
    lead, one, two = Process(), Process(), Process()
    whole = group(lead, one, two)
    assert waits(one) and waits(two)
    whole.end()
    assert (one.waiting, two.waiting) == (0, 0), "what asks a cluster that has been shut down ends this process"
    assert [process.ends for process in (lead, one, two)] == [1, 1, 1]


def test_the_loss_of_one_ends_rank_0() -> None:
    lead, one = Process(), Process()
    group(lead, one)
    assert waits(one) and not lead.ends
    one.ended.set()
    assert lead.ended.wait(5)


def test_what_rank_0_says_of_a_lost_rank_is_a_loss_of_the_learner() -> None:
    with pytest.raises(LostError, match="a rank of the learner has ended"):
        group(Process({"lead": RankLostError("a rank of the learner has ended")}), Process())
