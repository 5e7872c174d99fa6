"""A learner in another process, which comes back by itself when that process is lost.

An update is a function of the learner's state and of what it is given. So what is kept here is the last state that was
saved, and all calls that changed it since: a learner that was lost is made anew, takes up that state and repeats the
calls, to the same weights. The run does not go back, and nothing is played again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from madrigal.cluster.host import Host, LostError, Place, Remote
from madrigal.learning.critic_learner import CriticLearner
from madrigal.learning.learner import Learner
from madrigal.policies.local import put_weights
from madrigal.types import TrainingError

LOSSES = 5  # of one learner during one call, after which the run ends
PAUSE = 2.0  # seconds before the third and every later try: machines that are gone must be missed first
AnyLearner = Learner | CriticLearner
Weights = Mapping[str, torch.Tensor]


class LearnerHolder:
    """A learner, as its own process holds it."""

    def __init__(self, learner: AnyLearner) -> None:
        self.learner = learner

    def do(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a method of the learner returns, "optimizer." ones too."""
        owner, _, name = method.rpartition(".")
        return getattr(self.learner.optimizer if owner else self.learner, name)(*args, **kwargs)

    def progress(self) -> tuple[int, int]:
        """How many optimizer steps were made in this process, and the version of the weights."""
        version = self.learner.policy.version if isinstance(self.learner, Learner) else 0
        return self.learner.optimizer.steps, version

    def weights(self) -> Weights:
        """What a policy speaks with, on the processor."""
        assert isinstance(self.learner, Learner)
        return {name: value.detach().cpu() for name, value in self.learner.policy.parameters().items()}


class RemoteLearner:
    """Stands for a learner of a policy or a critic, with its methods.

    Attributes:
        local: the learner of this process, which never learns: its policy is a copy of the one that does, to be saved,
            to tokenize, and to be handed to workers.
        lost: how often it was lost.
        seconds: that it was at work, its start included.
    """

    def __init__(
        self,
        local: AnyLearner,
        host: Host,
        place: Place,
        make: tuple[Any, ...],
        *,
        renewed: Callable[[str, Weights, int], None] = lambda *_: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Starts it.

        Args:
            make: a function that makes a `LearnerHolder`, and its arguments.
            renewed: is told of new weights of a policy, with their version.
            tell: is told when it was lost.
        """
        self.local, self.host, self.place, self.making = local, host, place, make
        self.renewed, self.tell = renewed, tell
        self.state_before: dict[str, Any] | None = None
        self.since: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.lost, self.seconds = 0, 0.0
        self.config = local.config
        self.optimizer = RemoteOptimizer(self)
        self._remote: Remote | None = None
        self._call("progress")

    def __getattr__(self, name: str) -> Any:
        """What it is made of: `policy`, `critic`, `need`, `reference`."""
        return getattr(self.local, name)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """See `Learner.update`, `CriticLearner.update`."""
        return self._change("update", *args, **kwargs)

    def read(self, rows: Any) -> Any:
        """See `CriticLearner.read`."""
        return self._call("do", "read", (rows,), {})

    def reference_logprobs(self, turns: Any) -> Any:
        """See `Learner.reference_logprobs`."""
        return self._call("do", "reference_logprobs", (turns,), {})

    def state(self) -> dict[str, Any]:
        """See `Learner.state`; if the learner is lost later, it goes on from here."""
        state: dict[str, Any] = self._call("do", "state", (), {})
        self.state_before, self.since = state, []
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """See `Learner.restore`."""
        self._call("do", "restore", (state,), {})
        self._follow()
        self.state_before, self.since = state, []
        if isinstance(self.local, Learner):  # a run that goes back need not count back
            self.state_before = {**state, "version": self.local.policy.version}

    def change(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method that changes the learner."""
        return self._change(method, *args, **kwargs)

    def _change(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            result = self._call("do", method, args, kwargs)
        except Exception:
            self.optimizer.steps, _ = self._call("progress")
            raise
        self.since.append((method, args, kwargs))
        self._follow()
        return result

    def _follow(self) -> None:
        """Gives the policy of this process the weights that have been learned."""
        self.optimizer.steps, version = self._call("progress")
        if isinstance(self.local, Learner):
            weights = self._call("weights")
            put_weights(self.local.policy, weights)
            self.local.policy.version = version
            self.renewed(self.local.policy.name, weights, version)

    def _call(self, method: str, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._tried(method, *args)
        finally:
            self.seconds += time.perf_counter() - began

    def _tried(self, method: str, *args: Any) -> Any:
        for tries in range(LOSSES):
            time.sleep(PAUSE if tries > 1 else 0)
            try:
                if self._remote is None:
                    self._remote = self._made()
                return self._remote.call(method, *args)
            except LostError as error:
                reason = error
                self.lost += 1
                if self._remote is not None:
                    self._remote.end()
                self._remote = None
                self.tell(
                    f"note: the learner of {self.place.name} was lost ({error}); a new one repeats the "
                    f"{len(self.since)} updates since the last checkpoint"
                )
        raise TrainingError(
            f"the learner of {self.place.name} was lost {LOSSES} times in one call ({reason}); look at the memory of "
            "its node, then go on with --resume"
        )

    def _made(self) -> Remote:
        remote = self.host.start(self.place, *self.making)
        if self.state_before is not None:
            remote.call("do", "restore", (self.state_before,), {})
        for call in self.since:
            remote.call("do", *call)
        return remote


class RemoteOptimizer:
    """What a run reads of an optimizer that works elsewhere.

    Attributes:
        peak: the learning rate.
        steps: how many were made.
    """

    def __init__(self, learner: RemoteLearner) -> None:
        self.learner, self.peak, self.steps = learner, learner.local.optimizer.peak, 0

    def forget(self) -> None:
        """See `Optimizer.forget`."""
        self.learner.change("optimizer.forget")
