"""A learner in another process, which comes back by itself when that process is lost.

An update is a function of the learner's state and of what it is given. So what is kept here is the last state that was
saved, and all calls that changed it since: a learner that was lost is made anew, takes up that state and repeats the
calls, to the same weights. The run does not go back, and nothing is played again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from madrigal.cluster.host import LostError, Remote, despite_losses
from madrigal.learning.critic_learner import CriticLearner
from madrigal.learning.learner import Learner
from madrigal.policies.local import put_weights

AnyLearner = Learner | CriticLearner
Weights = Mapping[str, torch.Tensor]


class LearnerHolder:
    """A learner, as its own process holds it, or as the first of several does (`learning.rank_group`)."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def do(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a method of the learner returns, "optimizer." ones too."""
        owner, _, name = method.rpartition(".")
        return getattr(self.learner.optimizer if owner else self.learner, name)(*args, **kwargs)

    def progress(self) -> tuple[int, int]:
        """How many optimizer steps were made in this process, and the version of the weights."""
        policy = getattr(self.learner, "policy", None)  # critics have none
        return self.learner.optimizer.steps, policy.version if policy else 0

    def state(self) -> dict[str, Any]:
        """All of its state, of whatever number of processes."""
        learner = self.learner
        state: dict[str, Any] = learner.state() if isinstance(learner, AnyLearner) else learner.whole_state()
        return state

    def weights(self) -> Weights:
        """What a policy speaks with, on the processor."""
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
        name: str,
        start: Callable[[], Remote],
        *,
        sharded: bool = False,
        renewed: Callable[[str, Weights, int], None] = lambda *_: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Starts it.

        Args:
            name: of the policy or critic.
            start: makes a `LearnerHolder` in another process.
            sharded: whether several processes hold it; these write their own shares of a checkpoint.
            renewed: is told of new weights of a policy, with their version.
            tell: is told when it was lost.
        """
        self.local, self.name, self.start, self.sharded = local, name, start, sharded
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
        return self.change("update", *args, **kwargs)

    def read(self, rows: Any) -> Any:
        """See `CriticLearner.read`."""
        return self._call("do", "read", (rows,), {})

    def reference_logprobs(self, turns: Any) -> Any:
        """See `Learner.reference_logprobs`."""
        return self._call("do", "reference_logprobs", (turns,), {})

    def state(self) -> dict[str, Any]:
        """See `Learner.state`; if the learner is lost later, it goes on from here."""
        state: dict[str, Any] = self._call("state")
        self.state_before, self.since = state, []
        if not self.sharded:
            return state
        rest = {**state, "optimizer": {"param_groups": state["optimizer"]["param_groups"]}}
        del rest["parameters"]
        return {**rest, "shards": lambda folder: self._call("do", "call", ("save", folder), {})}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Learner.restore`."""
        self._call("do", "restore", (state,), {})
        self._follow()
        self.state_before, self.since = state, []
        if isinstance(self.local, Learner):  # a run that goes back need not count back
            self.state_before = {**state, "version": self.local.policy.version}

    def end(self) -> None:
        """Ends its process."""
        if self._remote is not None:
            self._remote.end()
            self._remote = None

    def change(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method that changes the learner."""
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
            return despite_losses(partial(self._attempt, method, args), f"the learner of {self.name}")
        finally:
            self.seconds += time.perf_counter() - began

    def _attempt(self, method: str, args: tuple[Any, ...]) -> Any:
        try:
            if self._remote is None:
                self._remote = self._made()
            return self._remote.call(method, *args)
        except LostError as error:
            self.lost += 1
            self.end()
            self.tell(
                f"note: the learner of {self.name} was lost ({error}); a new one repeats the {len(self.since)} updates "
                "since the last checkpoint"
            )
            raise

    def _made(self) -> Remote:
        remote = self.start()
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
