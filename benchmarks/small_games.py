"""Games small enough to enumerate, teams made of tables, and the exact worth of every answer; no command of its own.

Two agents speak at once and choose one of a few answers; whoever speaks is shown all earlier rounds. Every agent has an
own reward, whose mean over agents is the joint one, so that independent learners have something to learn from:

    sum      16 joint answers; each is paid for its own, and those of ann weigh three times as much as those of bob
    match    16 joint answers; both are paid where they say the same, by what it is
    shirk     9 joint answers; work pays both more than it costs, and the worker less than it costs
    later     two rounds of 9; what pays at once in the first spoils the second

What is played is `rollouts.tree`'s, with all its branchings; what is exact enumerates the same task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from madrigal.algorithms import Algorithm
from madrigal.maths.batch import PolicyOutput, make_batch, weighted_tokens
from madrigal.rollouts.play import GenerationRequest, StepRequest
from madrigal.rollouts.rewards import with_counterfactuals
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.types import Completion, Example, Group, Message, Messages, Point, Sample, Split, Step, Turn, joint_reward

Array = NDArray[np.float64]
Joint = tuple[int, ...]  # the answer of each agent; SILENT where it said nothing
SILENT = -1
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Game:
    """A task whose state is the joint answers so far.

    Attributes:
        answers: how many each agent has.
        pay: what the last of some joint answers earns each agent.
    """

    name: str
    answers: int
    pay: Callable[[Sequence[Joint]], tuple[float, ...]]
    horizon: int = 1
    agents: tuple[str, ...] = ("ann", "bob")
    best_return: float = 1.0
    rewards: str = "own"

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(split, {})]

    def reset(self, example: Example) -> tuple[Joint, ...]:
        return ()

    def acting(self, state: tuple[Joint, ...]) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: tuple[Joint, ...], agent: str, heard: Sequence[Turn]) -> Messages:
        seen = [tuple(answer % self.answers for answer in joint) for joint in state]  # silence looks like the last one
        return (Message("user", f"{agent}: {seen}"),)

    def step(self, state: tuple[Joint, ...], actions: Mapping[str, str]) -> Step[tuple[Joint, ...]]:
        after = (*state, tuple(int(actions[agent] or SILENT) for agent in self.agents))
        rewards = dict(zip(self.agents, self.pay(after), strict=True))
        return Step(after, rewards, "horizon" if len(after) == self.horizon else "")


def pay_sum(said: Sequence[Joint]) -> tuple[float, ...]:
    parts = ((0.0, 0.5, 1.0, 1.5, 0.0), (0.5, 0.1, 0.0, 0.3, 0.0))  # the last is silence
    return tuple(part[answer] for part, answer in zip(parts, said[-1], strict=True))


def pay_match(said: Sequence[Joint]) -> tuple[float, ...]:
    ann, bob = said[-1]
    return (((1.0, 0.7, 0.5, 0.3, 0.0)[ann] if ann == bob else 0.0),) * 2


def pay_shirk(said: Sequence[Joint]) -> tuple[float, ...]:
    """One unit of work brings each 0.875 and costs its worker 1.25: 0.25 for the team, -0.375 for the worker."""
    work = [max(0, answer) for answer in said[-1]]
    return tuple(0.875 * sum(work) - 1.25 * own for own in work)


def pay_later(said: Sequence[Joint]) -> tuple[float, ...]:
    """0 takes 0.15, 1 invests, 2 idles; then both are paid where they say the same, more where both have invested."""
    if len(said) == 1:
        return (0.15 * said[0].count(0),) * 2
    ann, bob = said[1]
    worth = (1.0, 0.6, 0.3, 0.0)[ann] if ann == bob else 0.0
    return (worth * (0.2, 0.5, 1.0)[said[0].count(1)],) * 2


GAMES = {
    game.name: game
    for game in (
        Game("sum", 4, pay_sum),
        Game("match", 4, pay_match),
        Game("shirk", 3, pay_shirk),
        Game("later", 3, pay_later, horizon=2),
    )
}


@dataclass(frozen=True)
class Exact:
    """What enumerating every course of play says of one team of tables.

    Attributes:
        value: J, the expected joint return.
        advantage: [R K] of each answer in each row: E[R | shown, answer] - E[R | shown], R the joint return to go.
        mass: [R K] the probability that play comes to the row and the answer is given there.
        gradient: [R K] of J with respect to the logits: mass * advantage.
    """

    value: float
    advantage: Array
    mass: Array
    state_value: Array

    @property
    def gradient(self) -> Array:
        return self.mass * self.advantage


class Courses:
    """Every course that a game can take: which rows of the tables are read, what is answered, what it returns."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.rows: dict[tuple[str, Messages], int] = {}
        found = list(self._from((), []))
        self.row, self.answer = (np.array([[turn[n] for turn in turns] for turns, _ in found]) for n in (0, 1))
        rewards = np.array([paid for _, paid in found])
        to_go = rewards[:, ::-1].cumsum(axis=1)[:, ::-1]
        self.to_go = to_go[:, [turn[2] for turn in found[0][0]]]  # [C turns] of the round of each turn
        self.total = to_go[:, 0]

    def _from(self, state: tuple[Joint, ...], turns: list[tuple[int, int, int]]) -> Any:
        game = self.game
        seats = [self.rows.setdefault((a, game.observe(state, a, ())), len(self.rows)) for a in game.agents]
        for joint in product(range(game.answers), repeat=len(seats)):
            step = game.step(state, {agent: str(n) for agent, n in zip(game.agents, joint, strict=True)})
            here = [*turns, *((row, n, len(state)) for row, n in zip(seats, joint, strict=True))]
            below = [(here, [])] if step.ending else self._from(step.state, here)
            yield from ((on, [joint_reward(step), *paid]) for on, paid in below)

    def chances(self, logits: Array) -> Array:
        return np.exp(log_softmax(logits)[self.row, self.answer].sum(axis=1))

    def value(self, logits: Array) -> float:
        """The expected joint return."""
        return float(self.chances(logits) @ self.total)

    def exact(self, logits: Array) -> Exact:
        """The advantage of every answer by exhaustive continuation, teammates and later rounds by their policies."""
        chances = self.chances(logits)
        mass, earned = np.zeros(logits.shape), np.zeros(logits.shape)
        for turn in range(self.row.shape[1]):
            place = self.row[:, turn], self.answer[:, turn]
            np.add.at(mass, place, chances)
            np.add.at(earned, place, chances * self.to_go[:, turn])
        state_value = earned.sum(axis=1) / mass.sum(axis=1)
        return Exact(float(chances @ self.total), earned / mass - state_value[:, None], mass, state_value)


class Team:
    """A softmax policy for every agent and everything that it may be shown: a row of logits each."""

    def __init__(self, courses: Courses, logits: Array) -> None:
        self.courses, self.game, self.logits = courses, courses.game, logits.copy()
        self.judged = self.spoken = 0  # joint answers, and answers of single agents, so far

    def speak(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        self.spoken += len(wanted)
        return [self._answer(one) for one in wanted]

    def _answer(self, wanted: GenerationRequest) -> Completion:
        row = self.courses.rows[wanted.agent, wanted.prompt]
        logprobs, uniform = self.logprobs[row], wanted.seed % 10**9 / 10**9
        mass = accumulate(map(math.exp, logprobs))
        drawn = next((n for n, share in enumerate(mass) if share > uniform), len(logprobs) - 1)
        answer = logprobs.index(max(logprobs)) if wanted.greedy else drawn
        return Completion(str(answer), (row,), (answer,), (logprobs[answer],))

    def _judge(self, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        self.judged += len(requests)
        return [self.game.step(request.state, request.actions) for request in requests]

    def play(self, algorithm: Algorithm[Any], count: int, key: tuple[object, ...]) -> list[Group[Any]]:
        """Groups as the library plays them for this algorithm."""
        self.logprobs: list[list[float]] = log_softmax(self.logits).tolist()
        judge = with_counterfactuals(self._judge) if algorithm.needs.counterfactual_rewards else self._judge
        origins = [Point(f"x{n}", ()) for n in range(count)]
        return rollout_groups(self.game, Parallel(), origins, algorithm.branching, self.speak, judge, key)

    def ascent(self, stage: Sequence[Sample], algorithm: Algorithm[Any], count: int) -> Array:
        """[R K] minus the gradient of the algorithm's own loss; all agents speak equally often."""
        tokens = weighted_tokens(stage) / count / len(self.game.agents)  # of one agent's update, as the library counts
        batch = make_batch(stage, 0, CPU, total=float(count), tokens=tokens)
        logits = torch.tensor(self.logits, dtype=torch.float32, requires_grad=True)
        said = logits.log_softmax(-1)[[sample.prompt_ids[0] for sample in stage]].gather(1, batch.actions)
        (slope,) = torch.autograd.grad(algorithm.loss(PolicyOutput(said, batch.old_logprobs), batch), logits)
        return -slope.double().numpy()


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def start(courses: Courses, seed: int, spread: float = 1.0) -> Array:
    """[R K] the logits that a team of this seed starts from, normally distributed."""
    return np.random.default_rng(seed).normal(0.0, spread, (len(courses.rows), courses.game.answers))
