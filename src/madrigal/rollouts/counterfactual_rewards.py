"""What a joint action is worth without one agent's words: judged again by the task, with the other words as they were.

Knows: joint actions and who judges them. Does not know: tasks, what a reward is made of, how credit is given.

References:
    Wolpert, Tumer, 2001, "Optimal Payoff Functions for Members of Collectives", Advances in Complex Systems 4: rewards
    by difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from madrigal.rollouts.play import Judge, Judger
from madrigal.types import AgentId, Step, joint_reward


def leaving_one_out(judge: Judger) -> Judger:
    """A judger whose steps also say what each agent's silence would have come to (`Step.without`).

    For every agent that spoke in a round the same joint action is judged once more, with the action "" for that agent
    and its turns taken out of what was said: a round of A speakers costs 1 + A judgements, all asked for together. The
    teammates' words stay, also those that answer to what is left out, so that only the direct effect is measured.
    """

    def judge_all(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
        asked = [(n, agent) for n, request in enumerate(requests) for agent in _speakers(request)]
        steps = list(judge([*requests, *(_silenced(requests[n], agent) for n, agent in asked)]))
        found: list[dict[AgentId, float]] = [{} for _ in requests]
        for (n, agent), step in zip(asked, steps[len(requests) :], strict=True):
            found[n][agent] = joint_reward(step)
        return [replace(step, without=each) for step, each in zip(steps[: len(requests)], found, strict=True)]

    return judge_all


def paying_differences(judge: Judger) -> Judger:
    """A judger that pays every agent what its words add to the joint action: a reward of its own, around any task.

        D_i = R(a) - R(a without i)

    What raises D_i raises R too, since the second term does not depend on what agent i says; and unlike R it is not
    moved by what others say beside it. An agent that was silent is paid 0. Costs what `leaving_one_out` costs.
    """
    leaving = leaving_one_out(judge)

    def judge_all(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
        return [replace(step, rewards=_differences(step)) for step in leaving(requests)]

    return judge_all


def _differences(step: Step[Any]) -> dict[AgentId, float]:
    whole = joint_reward(step)
    return {agent: whole - step.without.get(agent, whole) for agent in step.rewards}


def _speakers(request: Judge[Any]) -> list[AgentId]:
    spoke = {turn.agent for turn in request.turns}
    return [agent for agent, text in request.actions.items() if text or agent in spoke]


def _silenced(request: Judge[Any], agent: AgentId) -> Judge[Any]:
    turns = tuple(turn for turn in request.turns if turn.agent != agent)
    return replace(request, actions={**request.actions, agent: ""}, turns=turns)
