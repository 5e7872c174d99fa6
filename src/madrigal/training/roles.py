"""What the roles of a run on a cluster take: memory of each process, how long it is busy in a step, who waits for whom.

Workers share the play of a step; learners learn at the same time, each its own policy. With staleness 0 one waits for
the other:

    step = play + max_i learn_i         staleness 0
    step = max(play, max_i learn_i)     staleness 1 or more
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from madrigal.settings import ClusterConfig
from madrigal.training.memory import PROCESS, Body, lasting, parts_of
from madrigal.training.plan import Plan, processes_of
from madrigal.training.seconds import body_seconds


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process.

    Attributes:
        count: how many there are of it.
        memory: bytes of each.
        seconds: that each is busy in a step, 0 where it is not known.
    """

    name: str
    count: int
    memory: float
    seconds: float = 0.0


def roles_of(plan: Plan, config: ClusterConfig) -> list[Role]:
    """The driver, the rollout workers, and a learner for each policy and critic that learns."""
    worker, *learners = processes_of(plan.bodies, config)

    def busy(body: Body) -> tuple[float, float]:
        return body_seconds(body, plan.batches, plan.card) if plan.timed else (0.0, 0.0)

    play = sum(busy(body)[0] for body in worker) / min(config.workers, worker[0].learned.prompts)
    kept = sum(sum(lasting(body).values()) for body in (*worker, *(body for body in plan.bodies if body.reads)))
    kept += sum(body.older * 4.0 * body.trained for body in plan.bodies)
    return [
        Role("this process", 1, PROCESS + kept),
        Role("rollout worker", config.workers, parts_of(worker, plan.batches, side_by_side=False).speaking, play),
        *(
            Role(
                f"learner {body.name}",
                body.ranks,
                parts_of([body], plan.batches, side_by_side=False).updating,
                busy(body)[1],
            )
            for (body,) in learners
        ),
    ]


def step_seconds(roles: Sequence[Role], config: ClusterConfig) -> float:
    """Of one step, 0 where it is not known."""
    play = max((role.seconds for role in roles if role.name == "rollout worker"), default=0.0)
    learn = max((role.seconds for role in roles if role.name.startswith("learner ")), default=0.0)
    return max(play, learn) if config.staleness else play + learn


def traffic(plan: Plan, config: ClusterConfig) -> float:
    """Bytes of weights that are sent in a step: of every policy that learns, here and from here to every worker."""
    sent = sum(body.trained * (4 if body.adapter else body.itemsize) for body in plan.bodies if not body.critic)
    return float(sent * (1 + config.workers))
