"""Agents made of tables: the whole line of play, credit and update in milliseconds, without a language model.

Every prompt that an agent meets has a row of logits, one per action; an answer is one token, the action. Critics are
tables too: a value per prompt, or per set of prompts where they see all agents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from statistics import fmean
from typing import Any

import torch
from jaxtyping import config
from torch import Tensor
from torch.optim import Adam

from fakes.play import judge_of
from madrigal.algorithms import Algorithm
from madrigal.learning.critics import visible_turns
from madrigal.maths.batch import Batch, PolicyOutput, make_batch
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.rewards import with_counterfactuals
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Topology
from madrigal.rollouts.tree import map_turns, rollout_groups, walk
from madrigal.types import Completion, Episode, Group, Messages, Point, Sample, Turn, TurnScores

ROWS = 64
HELD = 12  # steps over which a climb is to hold what it reached


@dataclass
class Table:
    """One agent: a softmax policy over `actions`, one row of logits per prompt."""

    actions: int
    lr: float
    rows: dict[Messages, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logits = torch.zeros(ROWS, self.actions, requires_grad=True)
        self.optimizer = Adam([self.logits], lr=self.lr)
        self.logprobs: list[list[float]] = self.logits.log_softmax(-1).tolist()

    def row(self, prompt: Messages) -> int:
        return self.rows.setdefault(prompt, len(self.rows))

    def answer(self, wanted: GenerationRequest) -> Completion:
        row = self.row(wanted.prompt)
        logprobs, uniform = self.logprobs[row], (wanted.seed % 10**9) / 10**9
        mass = list(accumulate(map(math.exp, logprobs)))
        drawn = next((n for n, share in enumerate(mass) if share > uniform), self.actions - 1)
        action = logprobs.index(max(logprobs)) if wanted.greedy else drawn
        return Completion(str(action), (row,), (action,), (logprobs[action],))

    def update(self, samples: Sequence[Sample], algorithm: Algorithm[Any]) -> None:
        batch = make_batch(samples, 0, torch.device("cpu"))
        rows = torch.tensor([sample.turn.completion.prompt_ids[0] for sample in samples])
        if algorithm.needs.reference == "loss":
            blank = torch.zeros(ROWS, self.actions).log_softmax(-1)[rows]
            batch = replace(batch, reference_logprobs=blank.gather(1, batch.actions))
        self.optimizer.zero_grad()
        algorithm.loss(self._score(rows, batch), batch).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.logprobs = self.logits.log_softmax(-1).tolist()

    def _score(self, rows: Tensor, batch: Batch) -> PolicyOutput:
        logprobs = self.logits[rows].log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1, keepdim=True)
        return PolicyOutput(logprobs.gather(1, batch.actions), entropy.detach())


@dataclass
class Values:
    """Critics: what they see of a turn has a value, which moves towards the returns that were credited."""

    joint: bool
    rate: float = 0.2
    table: dict[object, float] = field(default_factory=dict)
    prompts: dict[Messages, int] = field(default_factory=dict)

    def key(self, turn: Turn, episode: Episode[Any]) -> object:
        if not self.joint:
            return turn.agent, turn.prompt
        shown = tuple((other.agent, other.prompt) for other in visible_turns(episode, turn).values())
        return turn.agent, shown

    def read(self, groups: Sequence[Group[Any]]) -> tuple[list[Group[Any]], dict[int, object]]:
        """The groups with scores, and by the number of each answer what is seen of it."""
        keys = {turn.number: self.key(turn, episode) for _, episode, turn in walk(groups)}
        return map_turns(lambda turn: self.scored(turn, keys[turn.number]), groups), keys

    def scored(self, turn: Turn, key: object) -> Turn:
        """Prompts and actions are embedded as the binary digits of their numbers."""
        prompt = self.prompts.setdefault(turn.prompt, len(self.prompts))
        embeddings = digits(prompt, 6), digits(int(turn.completion.text), 2)
        return replace(turn, scores=TurnScores((self.table.get(key, 0.0),), (-0.6931,), *embeddings))

    def learn(self, samples: Sequence[Sample], keys: Mapping[int, object]) -> None:
        for sample in samples:
            key, target = keys[sample.turn.number], (sample.token_returns or (sample.return_,))[0]
            self.table[key] = self.table.get(key, 0.0) + self.rate * (target - self.table.get(key, 0.0))


def digits(number: int, count: int) -> tuple[float, ...]:
    return tuple(float(number >> place & 1) for place in range(count))


def stretches(groups: Sequence[Group[Any]]) -> list[Episode[Any]]:
    found = []
    for group in groups:
        for episode in group.episodes:
            found += [episode, *(stretches([episode.then]) if episode.then is not None else [])]
    return found


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Shapes of batches are checked in other tests; of thousands of tiny ones that takes as long as all else."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)


@unchecked_shapes()
def climb(
    task: Task[Any],
    topology: Topology,
    algorithm: Algorithm[Any],
    *,
    steps: int,
    seed: int = 0,
    prompts: int = 4,
    actions: int = 2,
    lr: float = 0.1,
    enough: float = math.inf,
) -> list[float]:
    """Learns a task by tables; returns the mean joint reward of a round in every step.

    Args:
        enough: ends when the mean of the last `HELD` steps is as high.
    """
    tables = {agent: Table(actions, lr) for agent in task.agents}
    need, keys = algorithm.needs.critic, dict[int, object]()
    scored = need is not None or algorithm.needs.embeddings or algorithm.needs.reference == "credit"
    values = Values(need is not None and need.sees == "joint")
    memory, rewards = algorithm.begin(), list[float]()

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [tables[one.agent].answer(one) for one in wanted]

    judge = judge_of(task)

    judging = with_counterfactuals(judge) if algorithm.needs.counterfactual_rewards else judge
    for step in range(steps):
        origins = [Point(f"x{n}", task.reset(task.examples("train")[0])) for n in range(prompts)]
        groups = rollout_groups(task, topology, origins, algorithm.branching, speak, judging, (seed, step))
        if scored:
            groups, keys = values.read(groups)
        stages, memory = algorithm.credit(groups, memory)
        for stage in stages:
            for agent, table in tables.items():
                mine = [sample for sample in stage if sample.turn.agent == agent]
                if mine:
                    table.update(mine, algorithm)
        if need is not None:
            values.learn([sample for stage in stages for sample in stage], keys)
        played = [one for episode in stretches(groups) for one in episode.steps]
        rewards.append(sum(sum(one.rewards.values()) / len(one.rewards) for one in played) / len(played))
        if step >= HELD and fmean(rewards[-HELD:]) >= enough:
            break
    return rewards
