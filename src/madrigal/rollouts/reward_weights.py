"""Quality against speed and coordination cost: a joint reward of three measured parts, around any task.

Knows: a task's reward, the turns of the round, how long they took and what they repeat.
Does not know: tasks, models, how anyone learns. A task sees texts only; what talking costs is added to its steps here.

    R = quality * Q + speed * S - cost * C                         in every round

    Q   the task's own reward
    S   - response / pace                                          response: the longest chain of turns that wait
    C   message * messages + word * words + redundancy * overlap

All three add up over rounds, so that a return weighs the quality of all rounds against the time and the talk of all of
them. For this S is time lost, not a bonus for being fast: a bonus would be paid once more in every further round.

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: a joint reward of quality plus speed minus coordination cost, and a penalty for
    redundant communication. Its formula, weights and measures are not published: all of them here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any, Literal

from madrigal.rollouts.play import Judge, Judger
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Topology
from madrigal.types import ConfigError, Step, Turn, joint_reward


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The weights of the joint reward, and its units; as it comes it is the task's own reward, and nothing is measured.

    Attributes:
        quality: weight of the task's own reward.
        speed: weight of the response time.
        cost: weight of the coordination cost.
        clock: what response time is counted in. "tokens" is what decentralised models would have to generate one
            after the other: the same on every machine and in every batch. "seconds" is as measured, batches included.
        pace: the response that costs 1 before its weight, in units of the clock.
        message: the cost of one message, that is of every turn with words in it.
        word: the cost of one word in a message.
        redundancy: the cost of messages that all say the same; see `overlap`.
        grams: how many words in a row must be the same to count as repeated.
        share: who is paid what in training: what the task says, or each agent the "difference" that its words make to
            all of this (see `without.paying_differences`).
    """

    quality: float = 1.0
    speed: float = 0.0
    cost: float = 0.0
    clock: Literal["tokens", "seconds"] = "tokens"
    pace: float = 100.0
    message: float = 0.1
    word: float = 0.001
    redundancy: float = 1.0
    grams: int = 2
    share: Literal["task", "difference"] = "task"

    def __post_init__(self) -> None:
        for name in ("quality", "speed", "cost", "message", "word", "redundancy"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"reward.{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 < self.pace < math.inf:
            raise ConfigError(f"reward.pace: expected a positive number of {self.clock}, got {self.pace}")
        if self.grams < 1:
            raise ConfigError(f"reward.grams: expected at least 1 word, got {self.grams}")


def weighed(judge: Judger, tradeoff: Tradeoff, topology: Topology, task: Task[Any]) -> Judger:
    """A judger whose rewards are quality weighed against speed and cost, each of them among the metrics.

    Where agents earn rewards of their own, each is charged the same. The normalised return stays the task's own.
    """
    if replace(tradeoff, share="task") == Tradeoff():
        return judge

    def judge_and_weigh(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
        steps = judge(requests)
        talks = [measure(request.turns, topology, tradeoff) for request in requests]
        return [_weighed(step, talk, tradeoff, task) for step, talk in zip(steps, talks, strict=True)]

    return judge_and_weigh


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


def measure(turns: Sequence[Turn], topology: Topology, tradeoff: Tradeoff) -> Talk:
    """What the turns of a round took and cost."""
    texts = [turn.completion.text for turn in turns if turn.completion.text.strip()]
    words = sum(len(text.split()) for text in texts)
    duration = _seconds if tradeoff.clock == "seconds" else _tokens
    return Talk(response(turns, topology, duration), len(texts), words, overlap(texts, tradeoff.grams))


def response(turns: Sequence[Turn], topology: Topology, duration: Callable[[Turn], float]) -> float:
    """How long a round takes under decentralised execution: the longest chain of turns that wait for each other.

    A turn begins when the last that its agent hears has ended, as on the clock of play. Turns may be missing: what
    waited for them then begins earlier.
    """
    ends: dict[int, float] = {}
    for place, turn in enumerate(turns):
        begins = max((ends[id(heard)] for heard in topology.hears(turn.agent, turns[:place])), default=0.0)
        ends[id(turn)] = begins + duration(turn)
    return max(ends.values(), default=0.0)


def overlap(texts: Sequence[str], grams: int = 2) -> float:
    """How much texts repeat each other: the mean over all pairs of the Jaccard overlap of their word n-grams.

        J = |A ∩ B| / |A ∪ B|

    Words are between white space, their case ignored; a text of fewer words is one n-gram. 0 for fewer than two texts.

        >>> overlap(["the cat sat", "The cat ran"])
        0.3333333333333333
    """
    sets = [_grams(text.casefold().split(), grams) for text in texts]
    return fmean(len(a & b) / len(a | b) for a, b in combinations(sets, 2)) if len(sets) > 1 else 0.0


def frontier(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """The places of those (quality, time) pairs that no other beats: at least as good and as fast, and better in one.

    >>> frontier([(0.9, 5.0), (0.5, 1.0), (0.8, 6.0)])
    (0, 1)
    """

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    return tuple(n for n, point in enumerate(points) if not any(beats(other, point) for other in points))


def _weighed(step: Step[Any], talk: Talk, tradeoff: Tradeoff, task: Task[Any]) -> Step[Any]:
    quality, speed = joint_reward(step), -talk.response / tradeoff.pace
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


def _grams(words: Sequence[str], count: int) -> frozenset[tuple[str, ...]]:
    size = min(count, len(words))
    return frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def _seconds(turn: Turn) -> float:
    return turn.completion.seconds


def _tokens(turn: Turn) -> float:
    return float(len(turn.completion.token_ids))
