"""What the roles of a run on a cluster take: memory of each process, how long it is busy in a step, who waits for whom.

Workers share the play of a step; learners learn at the same time, each its own policy. With staleness 0 one waits for
the other:

    step = play + max_i learn_i         staleness 0
    step = max(play, max_i learn_i)     staleness 1 or more
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from madrigal.settings import ClusterConfig
from madrigal.training.memory import PROCESS, Body, lasting, parts_of
from madrigal.training.plan import Plan, body_seconds


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
    speaking = [_only_speaks(body) for body in plan.bodies if not (body.critic or body.reads)]
    times = {body.name: body_seconds(body, plan.batches) if _known(plan) else (0.0, 0.0) for body in plan.bodies}
    play = sum(times[body.name][0] for body in speaking) / min(config.workers, speaking[0].learned.prompts)
    here = [*speaking, *(body for body in plan.bodies if body.reads)]
    kept = sum(sum(lasting(body).values()) for body in here)
    kept += sum(body.older * 4.0 * body.trained for body in plan.bodies)
    return [
        Role("this process", 1, PROCESS + kept),
        Role("rollout worker", config.workers, parts_of(speaking, plan.batches, side_by_side=False).speaking, play),
        *(
            Role(f"learner {body.name}", 1, _learning(plan, body), times[body.name][1])
            for body in plan.bodies
            if body.trained
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


def _known(plan: Plan) -> bool:
    return plan.device.type == "cpu"


def _only_speaks(body: Body) -> Body:
    return replace(body, trained=0, reference=False, older=0)


def _learning(plan: Plan, body: Body) -> float:
    alone = replace(body, owns=True, older=0)  # an adapter has a copy of its model for itself
    return parts_of([alone], plan.batches, side_by_side=False).updating
