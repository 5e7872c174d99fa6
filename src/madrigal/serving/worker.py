"""A thread that owns a team: what many clients ask is played in one lock-step, with one call per policy and tick.

Who asks while others are being answered joins at the next tick, and who has left is dropped there; in a stream, whose
words are told as they are decoded, at the next token. A job that fails fails alone.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madrigal.rollouts.play import EpisodeRun, Generate, Judge, Lockstep, Play, heard
from madrigal.serving.protocol import certain, until_stop
from madrigal.types import AgentId, Completion, Episode, MadrigalError, Turn

GATHER = 0.005  # seconds that a team with nothing to do waits for more after the first: clients come in swarms


@dataclass(frozen=True, slots=True)
class Words:
    """What an agent has said so far of a turn that is not over; "" when it is asked.

    Attributes:
        text: which the whole turn will begin with.
    """

    agent: AgentId
    round: int
    text: str


Event = Words | Turn | Episode[Any] | Exception


class FullError(MadrigalError):
    """There is no room for more jobs.

    Attributes:
        seconds: after which there may be some.
    """

    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(f"{waiting} answers are waited for already, and no more may be; ask again in {seconds} s")
        self.seconds = seconds


class ClosedError(MadrigalError):
    """The worker takes on nothing more."""

    def __init__(self) -> None:
        super().__init__("the server is about to end")


@dataclass(eq=False)
class Job:
    """A play that somebody waits for.

    Attributes:
        tell: called with every turn as it is spoken, and at last with the episode or an error; from any thread.
        stop: texts before which every agent's words are cut.
        stream: whether to tell of words, too, while a turn is spoken.
        left: nobody waits for it any more.
    """

    run: EpisodeRun
    tell: Callable[[Event], None]
    stop: tuple[str, ...] = ()
    stream: bool = False
    left: bool = False

    @property
    def moves(self) -> Play:
        """Its play, told of. Tokens are listened to where that is of use: it takes the time to read each."""
        return heard(self.run.moves, self.hear, self.overhear if self.stream or self.stop else None)

    def overhear(self, agent: AgentId, round: int, text: str) -> bool:
        """Tells of words that will stay; nobody need write what comes after a stop, or for whom has left."""
        words, over = certain(text, self.stop)
        if self.stream and not self.left:
            self.tell(Words(agent, round, words))
        return not (over or self.left)

    def hear(self, turn: Turn) -> Completion:
        """Cuts the words of a turn, and tells of it; teammates hear what is left."""
        said = turn.completion
        text = until_stop(said.text, self.stop)
        if text != said.text:
            said = replace(said, text=text, pieces=(), finish="stop")
        self.tell(replace(turn, completion=said))
        return said


class Worker:
    """Plays jobs until it is closed.

    Args:
        speak, judge: what plays need; called in the worker's thread only.
        playing: jobs that are played together.
        waiting: jobs that may wait for a place.
    """

    def __init__(self, speak: Generate, judge: Judge, *, playing: int = 64, waiting: int = 256) -> None:
        self.places, self.room = playing, waiting
        self._together = Lockstep(speak, judge)
        self._playing: dict[int, Job] = {}
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._tick_seconds = 1.0
        self._thread = threading.Thread(target=self._work, name="team", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Jobs that are being played, and jobs that wait."""
        return len(self._playing), len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes on all of these jobs, or none.

        Raises:
            FullError: if there is no room for them.
            ClosedError: if the worker is about to end.
        """
        with self._changed:
            if self._closing:
                raise ClosedError
            if len(self._playing) + len(self._waiting) + len(jobs) > self.places + self.room:
                rounds = math.ceil((len(self._waiting) + 1) / self.places)
                raise FullError(len(self._waiting), max(1, math.ceil(rounds * self._tick_seconds)))
            self._waiting += jobs
            self._changed.notify()

    def drop(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these any more: they leave before the next tick. Those that are over do not mind."""
        with self._changed:
            for job in jobs:
                job.left = True
            self._waiting = [job for job in self._waiting if not job.left]

    def close(self, seconds: float) -> bool:
        """Takes on nothing more, and ends after the present tick; whether it did in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while not self._closing:
            self._admit()
            began = time.monotonic()
            for number, result in self._tick().items():
                self._playing.pop(number).tell(result)
            self._tick_seconds = time.monotonic() - began
        for job in (*self._playing.values(), *self._waiting):
            job.tell(ClosedError())

    def _admit(self) -> None:
        """Waits for something to do; who has left goes, and who waits comes in as far as there are places."""
        with self._changed:
            idle = not self._playing and not self._waiting
            self._changed.wait_for(lambda: self._waiting or self._playing or self._closing)
        if idle:
            time.sleep(GATHER)
        with self._changed:
            for number in [number for number, job in self._playing.items() if job.left]:
                self._together.leave(number)
                del self._playing[number]
            free = self.places - len(self._playing)
            coming, self._waiting = self._waiting[:free], self._waiting[free:]
        for job in coming:
            run = replace(job.run, moves=job.moves)
            self._playing[self._together.join(run)] = job

    def _tick(self) -> Mapping[int, Episode[Any] | Exception]:
        """One tick of all; where it fails, one of each alone, so that only who is at fault fails."""
        with contextlib.suppress(Exception):
            return self._together.tick()
        ended: dict[int, Episode[Any] | Exception] = {}
        for number in list(self._playing):
            try:
                ended |= self._together.tick([number])
            except Exception as error:  # noqa: BLE001 (who waits for it is told)
                self._together.leave(number)
                ended[number] = error
        return ended
