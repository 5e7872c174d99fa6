"""Chores for equals: all agents see one list and choose at once; what counts is what exactly one of them does.

An example: {"jobs": ["dig the garden", "wash the car", ...], "kind": "dig|wash|..."}. Every agent is shown the same
words, and nothing says who does what. It answers with what it will see to: "car, dog".

    R = done * (1 - haste * max(0, longest - 1/A) / (1 - 1/A))

    done      share of the jobs that exactly one agent chose: what two do counts no more than what is left
    longest   the largest part of the list that one agent chose; 1/A of it costs nothing, all of it costs `haste`

Dividing the list evenly earns 1, and one agent that does everything 1 - haste. Agents that answer alike earn 0. Agents
that draw from one distribution, whatever it is, independently of each other, earn no more than (1 - 1/A)^(A-1): 1/2
for two. Each job is taken with one probability p by everybody, and A p (1-p)^(A-1) is largest at p = 1/A. To pass that
bound is to have divided the work. The things to be seen to are the same in all examples, in another order each time:
the work can be divided by thing, by the order of the list, or in other ways.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.embedded.grammar import draw_kind, example_set
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, Turn

# What there is to be seen to, and what there may be to do about it.
VERBS = {
    "house": ("clean", "paint", "heat", "lock"),
    "garden": ("dig", "water", "rake", "weed"),
    "car": ("wash", "park", "load", "sell"),
    "dog": ("feed", "walk", "brush", "call"),
}
NONE = "none"
NUM_EXAMPLES: Mapping[Split, int] = {"train": 200, "validation": 25, "test": 50}


@dataclass(frozen=True, slots=True)
class Chores:
    """Agents with equal prompts who share a list of jobs.

    Attributes:
        agents: the seats.
        jobs: on the list, 2 to 4, one for each thing.
        haste: what it costs if one agent does everything, as a share of what was done.
    """

    agents: tuple[AgentId, ...] = ("ann", "bob")
    jobs: int = 2
    haste: float = 0.25

    def __post_init__(self) -> None:
        if not 2 <= self.jobs <= len(VERBS):
            raise ConfigError(f"task.jobs: expected 2 to {len(VERBS)}, got {self.jobs}")
        if not 2 <= len(set(self.agents)) == len(self.agents) <= self.jobs:
            raise ConfigError(
                f"task.agents: expected at least 2 different names, and at most as many as jobs ({self.jobs}), got "
                f"{', '.join(self.agents) or 'none'}"
            )
        if not 0 <= self.haste <= 1:
            raise ConfigError(f"task.haste: expected 0 to 1, got {self.haste}")


@dataclass(frozen=True)
class ChoresTask:
    """The task of such settings, one round; the state is the example itself."""

    config: Chores
    name: str = "chores"
    best_return: float = 1.0
    horizon: int = 1

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split, self.config.jobs)

    def reset(self, example: Example) -> Example:
        if not example.data["jobs"]:
            raise ValueError("expected at least one job, got none")
        return example

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        lines = [f"{len(self.agents)} of you share these jobs: {', '.join(state.data['jobs'])}.", "Which are yours?"]
        said = [f"Somebody said: {turn.completion.text}" for turn in heard]
        return (Message("user", "\n".join([*lines, *said])),)

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        things = [job.split()[-1] for job in state.data["jobs"]]
        chosen = {agent: things_in(actions.get(agent, ""), things) for agent in self.agents}
        takers = [sum(thing in own for own in chosen.values()) for thing in things]
        done = takers.count(1) / len(things)
        fair = 1 / len(self.agents)
        longest = max(map(len, chosen.values())) / len(things)
        reward = done * (1 - self.config.haste * max(0.0, longest - fair) / (1 - fair))
        metrics = {
            "return_percent": 100 * reward,
            "done": 100 * done,
            "twice": 100 * sum(count > 1 for count in takers) / len(things),
            "left": 100 * takers.count(0) / len(things),
            **{f"share/{agent}": 100 * len(own) / len(things) for agent, own in chosen.items()},
            # Of what an agent chose, how much stood in the first half of the list.
            **{
                f"early/{agent}": 100 * sum(things.index(thing) < len(things) / 2 for thing in own) / len(own)
                for agent, own in chosen.items()
                if own
            },
        }
        return Step(state, joint(self.agents, reward), "horizon", metrics, {"chosen": chosen})

    def demonstrations(self) -> Demonstrations:
        """Everybody chooses each job or not by the toss of a coin: what may be said, and nothing of who says it."""
        return {example.id: self._tossed(example) for example in self.examples("train")}

    def _tossed(self, example: Example) -> dict[AgentId, list[str]]:
        rng = random.Random(derive("chores", example.id))
        things = [job.split()[-1] for job in example.data["jobs"]]
        tossed = {agent: [thing for thing in things if rng.random() < 0.5] for agent in self.agents}
        return {agent: [", ".join(own) or NONE] for agent, own in tossed.items()}


def things_in(text: str, things: Sequence[str]) -> list[str]:
    """What a text names of some things, each once, in the order of the list; anything else is left out.

    >>> things_in("Dog, car and dog. No house, no cat!", ["house", "car", "dog"])
    ['house', 'car', 'dog']
    """
    said = set(re.findall(r"\w+", text.lower()))
    return [thing for thing in things if thing in said]


@cache
def examples(split: Split, jobs: int) -> tuple[Example, ...]:
    """Lists whose jobs, in whatever order, belong to the split."""
    verbs = dict(islice(VERBS.items(), jobs))

    def drawn(rng: random.Random) -> str:
        return "|".join(map(rng.choice, verbs.values()))

    def problem(rng: random.Random, split: Split) -> dict[str, Any]:
        kind = draw_kind(rng, split, drawn)
        listed = [f"{verb} the {thing}" for verb, thing in zip(kind.split("|"), verbs, strict=True)]
        rng.shuffle(listed)
        return {"jobs": listed, "kind": kind}

    return example_set("chores", split, NUM_EXAMPLES[split], problem)
