"""Algorithms: how experience branches, how credit is given, what is minimized.

`group` holds all that compare answers with siblings and nothing else, as settings of `group_relative`; `actor_critic`
those with a critic; the others have a file each. What several share: `answer_groups` (what is compared with what),
`objective` (what is minimized, and in which steps), `scores` (what was read of turns), `checks` (what settings may be).
`influence` holds parts of `maporl`, `buffers` and `mutual_information` those of `pmic`, `role_classifier` that of
`role_information`; `catalog` names all algorithms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import tyro

from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

M = TypeVar("M")
Name = tyro.conf.Suppress[str]  # of the preset that a record started from: in files, not on the command line


@dataclass(frozen=True, slots=True)
class CriticNeed:
    """The critic that an algorithm learns with.

    Attributes:
        sees: "own" is one critic per agent, which reads that agent's prompt; "joint" is a central one, which reads
            what all agents of the round were shown, in training only.
        at: "token" asks for a value before each token of an answer, "turn" for one value of the prompt.
        weight: of the value loss.
        clip: PPO's range around the old values, beyond which the value loss is pessimistic; None does not clip.
    """

    sees: Literal["own", "joint"]
    at: Literal["token", "turn"]
    weight: float = 0.5
    clip: float | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What an algorithm asks of a run; checked before anything is loaded.

    Attributes:
        reference: log-probs of the policy as it was at the start: read by the "loss" (`Batch.reference_logprobs`), by
            "credit" (`TurnScores.ref_logprobs`), or not at all.
        critic: a learned estimate of returns (`TurnScores.values`).
        rewards: the task's rewards must be of this kind: one "own" number per agent, or "zero-sum"; "any" will do.
        agents, rounds: the fewest that the task must have.
        minibatches: the parts into which the episodes of a training step are dealt; there must be one for each.
        all_learn: no policy may be frozen, because agents learn in turns (`algorithm.alternate`): in the turn of one
            that does not learn, nobody would.
        reads_own: credit reads each agent's own reward, not only the joint one.
        counterfactual_rewards: credit reads what each agent's silence would have come to: every joint action is judged
            once more for each agent (`Step.counterfactual_rewards`).
        embeddings: credit reads prompts and answers as vectors (`TurnScores.prompt_embedding`,
            `TurnScores.answer_embedding`).
        otherwise: the setting that would do without what a task lacks, for the message that refuses the task:
            "set algorithm.within to all". "" where only another task will do.
    """

    reference: Literal["", "loss", "credit"] = ""
    critic: CriticNeed | None = None
    rewards: Literal["any", "own", "zero-sum"] = "any"
    agents: int = 1
    rounds: int = 1
    minibatches: int = 1
    all_learn: bool = False
    reads_own: bool = False
    embeddings: bool = False
    counterfactual_rewards: bool = False
    otherwise: str = ""


class Algorithm(Protocol[M]):
    """Three choices in one frozen record, which is also its configuration.

    One whose memory has numbers worth a look also has a `report`, see `Reporting`.
    """

    @property
    def name(self) -> str:
        """What the catalog, files of runs and reports call it."""
        ...

    @property
    def clip(self) -> float | None:
        """The range of the ratio to the log-probs at sampling in its loss; None does not clip."""
        ...

    @property
    def branching(self) -> Branching:
        """How many siblings part, and where."""
        ...

    @property
    def needs(self) -> Needs:
        """What the run must have: critics, a reference policy, rewards of a kind."""
        ...

    def begin(self) -> M:
        """The memory carried from step to step, a JSON value; it is saved with the checkpoint."""
        ...

    def credit(self, groups: Sequence[Group[object]], memory: M) -> tuple[list[list[Sample]], M]:
        """Turns groups into samples, in stages: each stage is one optimizer step, in this order.

        What critics, the reference policy and encoders say of a turn it finds in `Turn.scores`.
        """
        ...

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        """The scalar to minimize on one micro-batch."""
        ...


@runtime_checkable
class Reporting(Protocol):
    """An algorithm that carries numbers worth a look from step to step: baselines, bounds, sizes of buffers."""

    def report(self, memory: Any) -> Mapping[str, float]:
        """Numbers of the memory that `credit` returned, by name."""
        ...


def reported(algorithm: Algorithm[Any], memory: Any) -> dict[str, float]:
    """What is logged of an algorithm's memory after a step, as `algorithm/<name>`; nothing of most."""
    if not isinstance(algorithm, Reporting):
        return {}
    return {f"algorithm/{name}": value for name, value in algorithm.report(memory).items()}
