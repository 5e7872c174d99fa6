"""Rollout workers: processes that answer and judge, each with all policies of the team and the task."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Lock
from typing import Any

import torch

from madrigal.cluster.host import Host, LostError, Place, Remote, Shared, despite_losses
from madrigal.config import Experiment
from madrigal.policies.local import put_weights
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.play import GenerationRequest, StepRequest
from madrigal.rollouts.task import Task
from madrigal.training.checks import open_checked_task
from madrigal.training.teams import make_team, open_rollout_workers, use_threads
from madrigal.types import Completion, EngineError, Step


@dataclass(frozen=True, slots=True)
class Handed:
    """Weights of a policy on their way to workers.

    Attributes:
        number: of the hand-over; none has the number of another.
        version: of the weights.
        weights: the tensors by name.
    """

    number: int
    version: int
    weights: Shared


class RolloutWorker:
    """A worker, as its own process holds it: opens the task, loads the team, answers and judges.

    Every call says which weights are to speak, so that neither a new worker nor a late message can use others.
    """

    def __init__(self, run: Experiment, task: Task[Any] | None, budget: int, threads: int) -> None:
        """`task` is given where no settings can open it."""
        quiet_libraries()
        use_threads(threads)
        self._open = ExitStack()
        opened = self._open.enter_context(open_checked_task(run)) if task is None else task
        self.team = make_team(run.team, opened.agents, run.seed)
        self._speak, self._judge = self._open.enter_context(open_rollout_workers(run, opened, self.team, budget))
        self._held = dict[str, int]()

    def answer(self, requests: Sequence[GenerationRequest], handed: Mapping[str, Handed]) -> list[Completion]:
        """Answers with the weights that were handed over; a policy that is not named has those that it began with."""
        for policy in self.team.policies:
            one = handed.get(policy.name)
            if one is not None and self._held.get(policy.name) != one.number:
                put_weights(policy, one.weights.get())
                policy.version = one.version
                self._held[policy.name] = one.number
            if one is None and policy.name in self._held:
                raise EngineError(f"a rollout worker has newer weights of {policy.name} than it was asked for")
        return list(self._speak(requests))

    def judge(self, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        """The task's own steps."""
        return list(self._judge(requests))


class Workers:
    """All rollout workers of a run.

    A call goes as a whole to one that is idle, so that what comes back does not depend on which; one that is lost is
    made anew and asked again, and says the same: an answer is a function of prompt, seed and weights.

    Attributes:
        handed: the newest weights, by policy.
        lost: how many were lost.
        seconds: by "answer" and "judge", how long workers were at work in all.
    """

    def __init__(
        self,
        host: Host,
        places: Sequence[Place],
        make: tuple[Any, ...],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.host, self.places, self.making, self.tell = host, places, make, tell
        self.handed: Mapping[str, Handed] = {}
        self.lost, self.seconds = 0, {"answer": 0.0, "judge": 0.0}
        self._closed, self._numbers = False, count(1)
        self._remotes: list[Remote | None] = [None] * len(places)
        self._locks = [Lock() for _ in places]
        # A worker may judge for one lane while it answers for another, but not answer for two at once.
        self._idle = {kind: queue.Queue[int]() for kind in self.seconds}
        for number in range(len(places)):
            for idle in self._idle.values():
                idle.put(number)

    def start(self) -> None:
        """Makes them all, at the same time."""
        with ThreadPoolExecutor(len(self.places)) as pool:
            list(pool.map(self._remote, range(len(self.places))))

    def close(self) -> None:
        """Answers nobody from now on: play that ran ahead ends at its next request."""
        self._closed = True

    def hand_over(self, policy: str, weights: Mapping[str, torch.Tensor], version: int) -> None:
        """From now on these weights speak for a policy."""
        shared = self.host.share({name: value.detach().cpu() for name, value in weights.items()})
        self.handed = {**self.handed, policy: Handed(next(self._numbers), version, shared)}

    def speak(
        self, requests: Sequence[GenerationRequest], handed: Mapping[str, Handed] | None = None
    ) -> Sequence[Completion]:
        """Answers; with the newest weights, unless others are named."""
        found: Sequence[Completion] = self._call("answer", requests, self.handed if handed is None else handed)
        return found

    def judge(self, requests: Sequence[StepRequest[Any]]) -> Sequence[Step[Any]]:
        """The task's own steps."""
        found: Sequence[Step[Any]] = self._call("judge", requests)
        return found

    def _call(self, kind: str, *args: Any) -> Any:
        number = self._idle[kind].get()
        began = time.perf_counter()
        try:
            return despite_losses(partial(self._attempt, number, kind, args), self.places[number].name)
        finally:
            self.seconds[kind] += time.perf_counter() - began
            self._idle[kind].put(number)

    def _attempt(self, number: int, kind: str, args: tuple[Any, ...]) -> Any:
        if self._closed:
            raise EngineError("the rollout workers have been closed")
        remote = None
        try:
            remote = self._remote(number)
            return remote.call(kind, *args)
        except LostError as error:
            self._drop(number, remote, error)
            raise

    def _remote(self, number: int) -> Remote:
        with self._locks[number]:
            remote = self._remotes[number]
            if remote is None:
                remote = self._remotes[number] = self.host.start(self.places[number], *self.making)
            return remote

    def _drop(self, number: int, remote: Remote | None, error: LostError) -> None:
        """Forgets a worker that is lost, unless another call has done so."""
        with self._locks[number]:
            if remote is not None and self._remotes[number] is not remote:
                return
            self._remotes[number] = None
        if remote is not None:
            remote.end()
        self.lost += 1
        self.tell(f"note: {self.places[number].name} was lost ({error}); a new one takes its place")
