"""Where a run works: in this process, or with its workers and learners on a cluster.

The loop asks a site for learners and for workers, and for the play of a step; all else it knows nothing of.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from madrigal import __version__
from madrigal.cluster.host import Host, Place
from madrigal.cluster.ray import ray_cluster
from madrigal.config import Experiment
from madrigal.learning.learners import Learners
from madrigal.learning.rank_group import start_ranks
from madrigal.learning.remote import LearnerHolder, RemoteLearner
from madrigal.policies.quiet import quiet_libraries
from madrigal.policies.team import Team
from madrigal.rollouts.play import Generate, Judge
from madrigal.rollouts.task import Task
from madrigal.settings import ClusterSeat, PolicyConfig
from madrigal.tasks.own import IN_MEMORY, CustomTask
from madrigal.training.learner_factory import make_critic, make_learner, make_learning
from madrigal.training.teams import make_policy, open_rollout_workers, pick_device, seat_names, use_threads
from madrigal.training.workers import RolloutWorker, Workers
from madrigal.types import AgentId, ConfigError, Group

if TYPE_CHECKING:
    from madrigal.learning.ranks import Ranks

Tell = Callable[[str], None]
Play = Callable[[int, Generate], list[Group[Any]]]


class Site(Protocol):
    """Where a run works.

    Attributes:
        lanes: shares of what is played that go side by side.
        planned: whether the plan of memory is of this site; it knows nothing of ranks.
    """

    @property
    def lanes(self) -> int: ...
    @property
    def planned(self) -> bool: ...

    def learning(self, run: Experiment, team: Team, *, in_turn: bool) -> Learners:
        """Everything that learns (`training.learner_factory.make_learning`)."""

    def rollout_workers(
        self, run: Experiment, task: Task[Any], team: Team, budget: int
    ) -> AbstractContextManager[tuple[Generate, Judge]]:
        """What answers and what judges (`training.teams.open_rollout_workers`)."""

    def played(self, play: Play, speak: Generate, steps: int) -> Callable[[int], list[Group[Any]]]:
        """The groups of any step, in order; `play` makes them with who is to speak."""


@dataclass(frozen=True, slots=True)
class OneProcess:
    """This process does it all, but for what other ranks hold of its learners.

    Attributes:
        ranks: processes over which learners are sharded.
    """

    ranks: Ranks | None = None
    lanes: ClassVar[int] = 1

    @property
    def planned(self) -> bool:
        return self.ranks is None

    def learning(self, run: Experiment, team: Team, *, in_turn: bool) -> Learners:
        return make_learning(run, team, in_turn=in_turn, ranks=self.ranks)

    def rollout_workers(
        self, run: Experiment, task: Task[Any], team: Team, budget: int
    ) -> AbstractContextManager[tuple[Generate, Judge]]:
        return open_rollout_workers(run, task, team, budget)

    def played(self, play: Play, speak: Generate, steps: int) -> Callable[[int], list[Group[Any]]]:
        return lambda step: play(step, speak)


@contextmanager
def open_site(run: Experiment, task: Task[Any], name: str, tell: Tell, ranks: Ranks | None = None) -> Iterator[Site]:
    """The site that the settings name, for as long as the context lasts.

    Args:
        name: of the run, which is no other's on a cluster.
        tell: is told when a part was lost and came back.
        ranks: processes over which learners are sharded.

    Raises:
        ConfigError: in one line, before any weight is loaded, if the cluster cannot be joined or has not what is asked.
    """
    if ranks is not None:
        if run.cluster.address:
            raise ConfigError(
                "--cluster: learners are sharded over the ranks of torchrun or live on a cluster; not both"
            )
        ranks.place(pick_device(run.team.device))
    if not run.cluster.address:
        yield OneProcess(ranks)
        return
    learners = check_cluster(run, task)
    with ray_cluster(run.cluster, name, learners, __version__) as host:
        site = ClusterSite(host, run, task, tell)
        try:
            yield site
        finally:
            for learner in site.learners.values():
                learner.end()


def check_cluster(run: Experiment, task: Task[Any]) -> int:
    """How many processes the learners of a run take.

    Raises:
        ConfigError: if its settings name others, or play ahead does not go with them.
    """
    names = list(seat_names(run.team, task.agents))
    need = run.algorithm.needs.critic
    if need is not None:
        names += ["critic-joint"] if need.sees == "joint" else [f"critic-{name}" for name in names]
    for name in run.cluster.seats:
        if name not in names:
            raise ConfigError(f"cluster.seats: nobody learns as {name}; learners are {', '.join(names)}")
    for setting, policy in run.team.outside.items():
        if policy.script.startswith(f"{IN_MEMORY}:"):
            raise ConfigError(
                f"{setting}.script: a function that was handed over in Python is in no other process of a cluster; "
                "write it into a file, as file.py:function"
            )
    if run.cluster.staleness:
        if run.algorithm.clip is None:
            raise ConfigError(
                "cluster.staleness: answers of older weights need a loss with a clipped ratio to their log-probs; set "
                "algorithm.clip, 0.2 say, or leave staleness at 0"
            )
        if any(policy.engine.kind != "local" for policy in (run.team.policy, *run.team.seats.values())):
            raise ConfigError(
                "cluster.staleness: play that runs ahead needs older weights again, which engines that hold copies "
                "refuse; leave staleness at 0, or take --engine local"
            )
        if run.team.partners.share:
            raise ConfigError("cluster.staleness: play with older selves does not run ahead; leave staleness at 0")
    return len(names) * run.cluster.ranks_per_learner if run.trains else 0


class ClusterSite:
    """Learners and workers live on a host; this process plays, gives credit, writes down and saves.

    Attributes:
        workers: those that answer and judge, once they are open.
        learners: by name.
    """

    planned = True

    def __init__(self, host: Host, run: Experiment, task: Task[Any], tell: Tell) -> None:
        self.host, self.tell, self.config = host, tell, run.cluster
        # A task that was handed over in Python lies in no file that a worker could open.
        own = isinstance(run.task, CustomTask) and run.task.path.startswith(f"{IN_MEMORY}:")
        self.sent = task if own else None
        self.agents = task.agents
        self.learners: dict[str, RemoteLearner] = {}
        self.workers: Workers | None = None
        self._early = list[tuple[Any, ...]]()
        self._ahead = ThreadPoolExecutor(1)  # its thread begins with the first play that runs ahead

    @property
    def lanes(self) -> int:
        return self.config.workers * self.config.lanes

    def learning(self, run: Experiment, team: Team, *, in_turn: bool) -> Learners:
        local, threads = make_learning(run, team), _threads(run)
        making: dict[str, tuple[Any, ...]] = {
            name: (hold_learner, run, self.agents, name, threads) for name in local.policies
        }
        need = local.critics.need
        making |= {
            name: (hold_critic, run, name, critic.critic.body.config, need, threads)
            for name, critic in local.critics.learners.items()
        }

        def start(name: str) -> RemoteLearner:
            seat = self.config.seats.get(name, ClusterSeat())
            place = Place(name, seat.node, self.config.gpus_per_learner)
            count = self.config.ranks_per_learner
            begin = partial(self.host.start, place) if count == 1 else partial(start_ranks, self.host, place, count)
            return RemoteLearner(
                local.by_name[name],
                name,
                partial(begin, *making[name]),
                sharded=count > 1,
                renewed=self._hand_over,
                tell=self.tell,
            )

        with ThreadPoolExecutor(max(1, len(making))) as pool:
            self.learners = dict(zip(making, pool.map(start, making), strict=True))
        remote: dict[str, Any] = self.learners  # with the methods of those that they stand for
        critics = replace(local.critics, learners={name: remote[name] for name in local.critics.learners})
        return replace(
            local, policies={name: remote[name] for name in local.policies}, critics=critics, elsewhere=not in_turn
        )

    def _hand_over(self, *weights: Any) -> None:
        if self.workers is None:
            self._early.append(weights)
        else:
            self.workers.hand_over(*weights)

    @contextmanager
    def rollout_workers(
        self, run: Experiment, task: Task[Any], team: Team, budget: int
    ) -> Iterator[tuple[Generate, Judge]]:
        count = self.config.workers
        threads = max(1, _threads(run) // ceil(count / max(1, self.host.nodes())))
        places = [Place(f"rollout worker {n + 1}", gpus=self.config.gpus_per_worker, calls=2) for n in range(count)]
        workers = Workers(self.host, places, (RolloutWorker, run, self.sent, budget, threads), self.tell)
        workers.start()
        self.workers = workers
        for weights in self._early:
            workers.hand_over(*weights)
        began, before = time.perf_counter(), {name: one.seconds for name, one in self.learners.items()}
        try:
            yield workers.speak, workers.judge
        finally:
            workers.close()
            self._ahead.shutdown(cancel_futures=True)
        wall = time.perf_counter() - began
        busy = {kind: seconds / count for kind, seconds in workers.seconds.items()}
        busy |= {f"learner {name}": one.seconds - before[name] for name, one in self.learners.items()}
        self.tell(f"note: busy: {', '.join(f'{name} {seconds / wall:.0%}' for name, seconds in busy.items())}")

    def played(self, play: Play, speak: Generate, steps: int) -> Callable[[int], list[Group[Any]]]:
        if not self.config.staleness:
            return lambda step: play(step, speak)
        assert self.workers is not None
        return PlayAhead(play, self.workers, steps, self.config.staleness, self._ahead)


@dataclass
class PlayAhead:
    """Plays the next steps while learners learn from this one.

    Every step is played with the weights that there were when it was asked for, whatever is learned meanwhile, so that
    a run depends on no clock.

    Attributes:
        ahead: how many steps play may be ahead of learning.
        pool: a single thread that plays them, one after the other.
    """

    play: Play
    workers: Workers
    steps: int
    ahead: int
    pool: ThreadPoolExecutor
    _coming: deque[tuple[int, Future[list[Group[Any]]]]] = field(default_factory=deque)

    def __call__(self, step: int) -> list[Group[Any]]:
        """The groups of a step, which was begun before unless the run has gone back."""
        if not self._coming or self._coming[0][0] != step:
            for _, future in self._coming:
                future.cancel()
            self._coming.clear()
        first = step + len(self._coming)
        for number in range(first, min(step + self.ahead + 1, self.steps)):
            speak = partial(self.workers.speak, handed=self.workers.handed)
            self._coming.append((number, self.pool.submit(self.play, number, speak)))
        return self._coming.popleft()[1].result()


def hold_learner(
    run: Experiment, agents: tuple[AgentId, ...], name: str, threads: int, ranks: Ranks | None = None
) -> LearnerHolder:
    """Makes the learner of a policy, in its own process, or in rank 0 of those that hold it."""
    _ready(run, threads, ranks)
    return LearnerHolder(make_learner(run, make_policy(run.team, agents, run.seed, name), ranks))


def hold_critic(
    run: Experiment, name: str, config: PolicyConfig, need: Any, threads: int, ranks: Ranks | None = None
) -> LearnerHolder:
    """Makes the learner of a critic, as `hold_learner`."""
    device = _ready(run, threads, ranks)
    return LearnerHolder(make_critic(run, name, config, device, need, ranks=ranks))


def _ready(run: Experiment, threads: int, ranks: Ranks | None) -> torch.device:
    """The device of a process that is to hold a learner, alone or with other ranks."""
    quiet_libraries()
    use_threads(threads)
    device = pick_device(run.team.device)
    if ranks is not None:
        ranks.place(device)
    return device


def _threads(run: Experiment) -> int:
    return run.threads or torch.get_num_threads()
