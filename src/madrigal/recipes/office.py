"""The recipe of the office on starter models: five roles, a joint reward of quality, speed and coordination cost.

The roles, the parts of the reward and the kind of credit are those of arXiv:2512.24609; none of its numbers is
published. All numbers here are ours.
"""

from __future__ import annotations

from dataclasses import replace

from madrigal.algorithms.group import LEAVE_ONE_OUT_TEAM
from madrigal.config import Experiment
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.maths.sampling import Sampling
from madrigal.recipes.embedded import CAREFUL, STARTER
from madrigal.rollouts.reward_weights import Tradeoff
from madrigal.tasks.office.services import Office


def office() -> Experiment:
    """Planner, writer, coder, tester and reviewer at one board, on posts and programs in turn.

    They speak at once and meet at the board. One after the other, models this small copy what they have just heard.
    """
    return Experiment(
        recipe="office",
        task=Office(),
        team=STARTER,
        algorithm=replace(LEAVE_ONE_OUT_TEAM, kl=0.01),
        # A round of starter models lasts about 70 tokens and costs about 0.6: together some 0.08 of the best quality 1.
        reward=Tradeoff(speed=0.05, cost=0.08),
        sampling=Sampling(max_new_tokens=128),
        optimiser=CAREFUL,
        evaluation=EvaluationConfig(examples=40),
        steps=60,
        prompts=8,
        threads=1,
    )
