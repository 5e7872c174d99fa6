"""Self-play of zero-sum games with role-conditioned advantages (RAE), as in SPIRAL.

    A_{G,p}(tau) = R_p(tau) - b_{G,p}                          R_p the whole return of role p in game G
    b_{G,p}     <- alpha b_{G,p} + (1 - alpha) R_p(tau)        after every episode; b starts at 0
    grad J = E[ sum_p sum_{t in turns of p} A_{G,p}(tau) grad log pi(y_t | s_t, p, G) ]

A role that has the better of a game wins more often than it loses, whatever it says. A baseline of its own takes that
away: what is left is what the play was worth. One policy may hold both seats (team.shared); each turn is then credited
with the advantage of the role that took it. Nothing is divided by lengths or by a standard deviation.

References:
    Liu et al., 2025, "SPIRAL", Algorithm 1, arXiv:2506.24119, and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.checks import check_share, check_usual
from madrigal.algorithms.objective import Reduction, objective, optimizer_steps
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, Episode, Group, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, float]  # "game/role" -> baseline


@dataclass(frozen=True, slots=True)
class SelfPlay:
    """SPIRAL's role-conditioned advantages.

    The baselines move after every episode, in the order of the groups, as in the public code; each role moves its own,
    also where the game was over before its first turn. A role whose turns show no tokens was played by somebody who
    does not learn, and is left out. An advantage depends on earlier episodes of the same step too. A step's games make
    one update, in which the ratio to the policy that played them is 1, so that there is nothing to clip; the public
    code makes two, with a clip range of 0.2.

    Attributes:
        width: episodes of each deal; they are not compared with each other, so one will do.
        alpha: how much of the old baseline is kept; the paper has 0.95.
        role_baseline: False credits the return itself; the paper's ablation, whose reasoning collapses.
        update_first: move the baseline, then subtract it, as in the paper's Algorithm 1. The reward judges itself a
            little then, which comes to alpha times the advantage and changes nothing else. False subtracts the baseline
            from before the episode, as in the public code: unbiased.
        skip_zero: leave out turns with advantage 0, as the public code does; they cost time and teach nothing.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; the paper has 0.
    """

    name: Name = "self_play"
    width: int = 1
    alpha: float = 0.95
    role_baseline: bool = True
    update_first: bool = False
    skip_zero: bool = True
    kl: float = 0.0
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_usual(self.width, kl=self.kl, least=1)
        check_share("alpha", self.alpha, "the paper has 0.95")

    @property
    def clip(self) -> None:
        """Nothing is clipped: a step's games make one update, in which all ratios are 1."""

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", rewards="zero-sum", agents=2, reads_own=True)

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Compares what each role came to with what it usually comes to in that game."""
        samples: list[Sample] = []
        for group in groups:
            for episode in group.episodes:
                for agent in group.agents:
                    learned, memory = self._samples(episode, agent, memory)
                    samples += learned
        return optimizer_steps(samples, "episode"), memory

    def report(self, memory: Memory) -> dict[str, float]:
        """The baseline of each role: what it usually comes to in its game, in units of reward."""
        return {f"baseline/{key.removeprefix('/')}": value for key, value in memory.items()}

    def _samples(self, episode: Episode[object], role: AgentId, memory: Memory) -> tuple[list[Sample], Memory]:
        turns = [turn for turn in episode.turns if turn.agent == role]
        if not all(turn.completion.token_ids for turn in turns):  # a partner's, or scripted: nobody learns from them
            return [], memory
        value = sum(step.rewards[role] for step in episode.steps)
        key = f"{game_of(episode)}/{role}"
        before = memory.get(key, 0.0)
        moved = moving_average(before, value, self.alpha)
        baseline = (moved if self.update_first else before) if self.role_baseline else 0.0
        advantage = value - baseline
        learned = [] if self.skip_zero and advantage == 0 else turns
        return [Sample(turn, advantage, value) for turn in learned], {**memory, key: moved}

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=None, kl=self.kl, reduction=self.reduction)


def moving_average(before: float, value: float, alpha: float) -> float:
    """The baseline after one more return.

    >>> moving_average(0.0, 1.0, alpha=0.95)
    0.050000000000000044
    """
    return alpha * before + (1 - alpha) * value


def game_of(episode: Episode[object]) -> str:
    """The game that an episode is of, as its task says in the details of a step; "" where a task has only one."""
    details: Mapping[str, object] = episode.steps[-1].details
    return str(details.get("game", ""))
