"""How a step's rewards are made: what is put around a task's judge, and in which order.

    weights        R = quality * Q + speed * S - cost * C, in every round          `reweight`
    fluency        R + fluency * F                                                 `with_fluency`
    differences    D_i = R(a) - R(a without i): each agent's own, in training      `difference_rewards`
    counterfactual what each agent's silence would have come to                    `with_counterfactuals`
    stop_above     an episode is solved above a joint reward, in training          `stopping`

    Q   the task's own reward
    S   - response / time_unit                                     response: the longest chain of turns that wait
    C   message * messages + word * words + redundancy * overlap
    F   mean log-prob per token of the joint action, mean over agents, in nats     read by a model that is handed in

All four add up over rounds, so that a return weighs the quality of all rounds against the time and the talk of all of
them. For this S is time lost, not a bonus for being fast: a bonus would be paid once more in every further round. A
task sees texts only; what talking costs is added to its steps here.

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: a joint reward of quality plus speed minus coordination cost, and a penalty for
    redundant communication. Its formula, weights and measures are not published: all of them here are ours.
    Wolpert, Tumer, 2001, "Optimal Payoff Functions for Members of Collectives", Advances in Complex Systems 4: rewards
    by difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any

from madrigal.rollouts.play import Judge, StepRequest
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Topology
from madrigal.settings import RewardWeights
from madrigal.types import AgentId, Step, Turn, joint_reward

Fluency = Callable[[Sequence[str]], Sequence[float]]  # the mean log-prob per token of each text, in nats


def rewarded(
    judge: Judge,
    task: Task[Any],
    topology: Topology,
    tradeoff: RewardWeights,
    *,
    fluency: Fluency | None = None,
    training: bool = False,
    counterfactual_rewards: bool = False,
    stop_above: float | None = None,
) -> Judge:
    """A task's judge with all that a run puts around it; the only place where judges are wrapped.

    From the inside out: weights, fluency, differences, counterfactuals, the threshold. So differences are of weighed
    rewards, and the threshold is one of what agents are paid.

    Args:
        judge: the task's own steps.
        fluency: measures how likely texts are, whatever the weight; None measures and pays none.
        training: pay by `tradeoff.share`; evaluation pays what the task pays, weighed.
        counterfactual_rewards: fill in `Step.counterfactual_rewards`, for algorithms that need it.
        stop_above: the joint reward of a round above which an episode ends as solved; None plays on.
    """
    judge = reweight(judge, tradeoff, topology, task)
    if fluency:
        judge = with_fluency(judge, task, fluency, tradeoff.fluency)
    if training and tradeoff.share == "difference":
        judge = difference_rewards(judge)
    if counterfactual_rewards:
        judge = with_counterfactuals(judge)
    return judge if stop_above is None else stopping(judge, stop_above)


def reweight(judge: Judge, tradeoff: RewardWeights, topology: Topology, task: Task[Any]) -> Judge:
    """A judge whose rewards are quality weighed against speed and cost, each of them among the metrics.

    Where agents earn rewards of their own, each is charged the same. The normalized return stays the task's own.
    """
    if replace(tradeoff, share="task", fluency=0.0) == RewardWeights():
        return judge

    def reweighted(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        return [
            _weighed(step, measure(request.turns, topology, tradeoff), tradeoff, task)
            for request, step in zip(requests, judge(requests), strict=True)
        ]

    return reweighted


def _weighed(step: Step[Any], talk: Talk, tradeoff: RewardWeights, task: Task[Any]) -> Step[Any]:
    quality, speed = joint_reward(step), -talk.response / tradeoff.time_unit
    cost = tradeoff.message * talk.messages + tradeoff.word * talk.words + tradeoff.redundancy * talk.overlap
    paid = tradeoff.speed * speed - tradeoff.cost * cost
    measured = {
        "quality": quality,
        "speed": speed,
        "cost": cost,
        "response": talk.response,
        "messages": float(talk.messages),
        "words": float(talk.words),
        "redundancy": talk.overlap,
    }
    return replace(
        step,
        rewards={agent: tradeoff.quality * reward + paid for agent, reward in step.rewards.items()},
        metrics={"return_percent": 100 * quality / task.best_return, **step.metrics, **measured},
    )


def with_fluency(judge: Judge, task: Task[Any], read: Fluency, weight: float) -> Judge:
    """A judge that reads how likely the joint action's texts are: among the metrics, and with its weight in the reward.

    All texts of a tick are read together. The normalized return stays the task's own.
    """

    def judged(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        steps = judge(requests)
        texts = list(dict.fromkeys(text for request in requests for text in request.actions.values()))
        known = dict(zip(texts, read(texts), strict=True))
        return [
            _fluent(step, {agent: known[text] for agent, text in request.actions.items()}, task, weight)
            for request, step in zip(requests, steps, strict=True)
        ]

    return judged


def _fluent(step: Step[Any], of_agents: Mapping[AgentId, float], task: Task[Any], weight: float) -> Step[Any]:
    mean = fmean(of_agents.values())
    own = {"return_percent": 100 * joint_reward(step) / task.best_return} if weight else {}
    measured = {"fluency": mean, **{f"fluency/{agent}": value for agent, value in of_agents.items()}}
    return replace(
        step,
        rewards={agent: reward + weight * mean for agent, reward in step.rewards.items()},
        metrics={**own, **step.metrics, **measured},
    )


@dataclass(frozen=True, slots=True)
class Talk:
    """What was measured of one round.

    Attributes:
        response: until the last word, in units of the clock.
        messages: turns with words in them.
        words: in all messages.
        overlap: how much messages repeat each other, from 0 to 1.
    """

    response: float
    messages: int
    words: int
    overlap: float


def measure(turns: Sequence[Turn], topology: Topology, tradeoff: RewardWeights) -> Talk:
    """What the turns of a round took and cost."""

    def duration(turn: Turn) -> float:
        return turn.completion.seconds if tradeoff.clock == "seconds" else float(turn.completion.tokens)

    texts = [turn.completion.text for turn in turns if turn.completion.text.strip()]
    words = sum(len(text.split()) for text in texts)
    return Talk(response(turns, topology, duration), len(texts), words, overlap(texts, tradeoff.ngram))


def response(turns: Sequence[Turn], topology: Topology, duration: Callable[[Turn], float]) -> float:
    """How long a round takes under decentralized execution: the longest chain of turns that wait for each other.

    A turn begins when the last that its agent hears has ended, as on the clock of play. Turns may be missing: what
    waited for them then begins earlier.
    """
    placed = [replace(turn, number=place) for place, turn in enumerate(turns)]
    ends: list[float] = []
    for turn in placed:
        heard = topology.hears(turn.agent, placed[: turn.number])
        ends.append(max((ends[one.number] for one in heard), default=0.0) + duration(turn))
    return max(ends, default=0.0)


def overlap(texts: Sequence[str], ngram: int = 2) -> float:
    """How much texts repeat each other: the mean over all pairs of the Jaccard overlap of their word n-grams.

        J = |A ∩ B| / |A ∪ B|

    Words are between white space, their case ignored; a text of fewer words is one n-gram. 0 for fewer than two texts.

        >>> overlap(["the cat sat", "The cat ran"])
        0.3333333333333333
    """
    sets = [_grams(text.casefold().split(), ngram) for text in texts]
    return fmean(len(a & b) / len(a | b) for a, b in combinations(sets, 2)) if len(sets) > 1 else 0.0


def _grams(words: Sequence[str], count: int) -> frozenset[tuple[str, ...]]:
    size = min(count, len(words))
    return frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def frontier(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """The places of those (quality, time) pairs that no other beats: at least as good and as fast, and better in one.

    >>> frontier([(0.9, 5.0), (0.5, 1.0), (0.8, 6.0)])
    (0, 1)
    """

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    return tuple(n for n, point in enumerate(points) if not any(beats(other, point) for other in points))


def with_counterfactuals(judge: Judge) -> Judge:
    """A judge whose steps also say what each agent's silence would have come to (`Step.counterfactual_rewards`).

    For every agent that spoke in a round the same joint action is judged once more, with the action "" for that agent
    and its turns taken out of what was said: a round of A speakers costs 1 + A judgements, all asked for together. The
    teammates' words stay, also those that answer to what is left out, so that only the direct effect is measured.
    """

    def with_and_without(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        silenced = [(n, agent) for n, request in enumerate(requests) for agent in _speakers(request)]
        steps = judge([*requests, *(_without(requests[n], agent) for n, agent in silenced)])
        rewards: list[dict[AgentId, float]] = [{} for _ in requests]
        for (n, agent), step in zip(silenced, steps[len(requests) :], strict=True):
            rewards[n][agent] = joint_reward(step)
        return [replace(steps[n], counterfactual_rewards=each) for n, each in enumerate(rewards)]

    return with_and_without


def _speakers(request: StepRequest[Any]) -> list[AgentId]:
    spoke = {turn.agent for turn in request.turns}
    return [agent for agent, text in request.actions.items() if text or agent in spoke]


def _without(request: StepRequest[Any], agent: AgentId) -> StepRequest[Any]:
    turns = tuple(turn for turn in request.turns if turn.agent != agent)
    return replace(request, actions={**request.actions, agent: ""}, turns=turns)


def difference_rewards(judge: Judge) -> Judge:
    """A judge that pays every agent what its words add to the joint action: a reward of its own, around any task.

        D_i = R(a) - R(a without i)

    What raises D_i raises R too, since the second term does not depend on what agent i says; and unlike R it is not
    moved by what others say beside it. An agent that was silent is paid 0. Costs what `with_counterfactuals` costs.
    """
    judge = with_counterfactuals(judge)
    return lambda requests: [replace(step, rewards=_differences(step)) for step in judge(requests)]


def _differences(step: Step[Any]) -> dict[AgentId, float]:
    whole = joint_reward(step)
    return {agent: whole - step.counterfactual_rewards.get(agent, whole) for agent in step.rewards}


def stopping(judge: Judge, threshold: float) -> Judge:
    """A judge that ends an episode as solved once the joint reward of a round exceeds a threshold."""
    return lambda requests: [
        replace(step, ending="solved") if not step.ending and joint_reward(step) > threshold else step
        for step in judge(requests)
    ]
