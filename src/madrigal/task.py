"""The Task protocol: a Dec-POMDP over text, and the contract test that every task must pass.

Knows: who acts, what each agent observes, what a joint action is worth.
Does not know: policies, sampling, training, who hears what within a round (that is a topology).
"""

from __future__ import annotations

import json
import math
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from madrigal.types import (
    AgentId,
    Example,
    Message,
    Messages,
    RewardError,
    Split,
    Step,
    TaskError,
    Turn,
)

S = TypeVar("S")


Rewards = Literal["joint", "own", "zero-sum"]


class Task(Protocol[S]):
    """A cooperative game over text, as a decentralised POMDP: agents see prompts, answer, and share what follows.

    Every method is pure: the same arguments give the same answer, and nothing is remembered between calls, so that
    any episode can start again from any of its points. Services (a sandbox, an expert model) are given to the task
    when it is made.

    Attributes:
        name: how logs and tables call it.
        agents: the seats, in order.
        horizon: the largest number of rounds H.
        best_return: the highest joint reward that one round can earn; tables show returns in percent of it.
        rewards: may be left out; see `rewards_of`.
    """

    @property
    def name(self) -> str: ...
    @property
    def agents(self) -> tuple[AgentId, ...]: ...
    @property
    def horizon(self) -> int: ...
    @property
    def best_return(self) -> float: ...

    def examples(self, split: Split) -> Sequence[Example]:
        """The data set; "train" and "test" share no example."""
        ...

    def reset(self, example: Example) -> S:
        """The initial state of an example."""
        ...

    def acting(self, state: S) -> tuple[AgentId, ...]:
        """Who acts in this state: everyone, or the player to move."""
        ...

    def observe(self, state: S, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        """What an agent is shown: its own history and what it heard from teammates in this round."""
        ...

    def step(self, state: S, actions: Mapping[AgentId, str]) -> Step[S]:
        """Transition and reward of one joint action."""
        ...


class Wrapper:
    """What every wrapper of a task passes on as it is; how the task is played, each wrapper says itself."""

    __slots__ = ()
    task: Task[Any]

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return tuple(self.task.agents)

    @property
    def horizon(self) -> int:
        return self.task.horizon

    @property
    def best_return(self) -> float:
        return self.task.best_return

    @property
    def rewards(self) -> Rewards:
        return rewards_of(self.task)

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        return scripted_in(self.task, example)


def rewards_of(task: Task[Any]) -> Rewards:
    """What kind of rewards a task gives: the same for all agents, one of its own for each, or summing up to zero.

    A task says so in an attribute `rewards`; without one its reward is taken to be joint.
    """
    kind: Rewards = getattr(task, "rewards", "joint")
    return kind


def scripted_in(task: Task[Any], example: Example) -> Mapping[AgentId, str]:
    """Whom a task plays itself in an example, and how such a player is called: an opponent, say.

    A task says so in a method `scripted`; without one it plays nobody.
    """
    scripted: Callable[[Example], Mapping[AgentId, str]] | None = getattr(task, "scripted", None)
    return scripted(example) if scripted else {}


def joint(agents: Sequence[AgentId], reward: float) -> dict[AgentId, float]:
    """Gives every agent the same reward: the cooperative case."""
    return dict.fromkeys(agents, reward)


Reward = Callable[[Example, Mapping[AgentId, str]], float]
Prompt = Callable[[Example, AgentId], str]


@dataclass(frozen=True)
class SingleRound:
    """The shortest way to an own task: agents, examples, prompts and a joint reward; every episode is one round.

        >>> task = SingleRound(
        ...     name="greet",
        ...     agents=("polite", "brief"),
        ...     train=(Example("ada", {"name": "Ada"}),),
        ...     test=(Example("bob", {"name": "Bob"}),),
        ...     prompt=lambda example, agent: f"Be {agent}. Greet {example.data['name']}.",
        ...     reward=lambda example, said: float(example.data["name"] in said["polite"]),
        ... )
        >>> task.step(task.reset(task.test[0]), {"polite": "Dear Bob", "brief": "Hi"}).rewards
        {'polite': 1.0, 'brief': 1.0}

    Attributes:
        prompt: what one agent is shown of an example.
        reward: the joint reward of one joint action; a finite number, at most `best_return`.
    """

    name: str
    agents: tuple[AgentId, ...]
    train: Sequence[Example]
    test: Sequence[Example]
    prompt: Prompt
    reward: Reward
    best_return: float = 1.0
    horizon: int = field(default=1, init=False)

    def examples(self, split: Split) -> Sequence[Example]:
        return self.train if split == "train" else self.test

    def reset(self, example: Example) -> Example:
        return example

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        lines = [self.prompt(state, agent)]
        lines += [f"{turn.agent} said: {turn.completion.text}" for turn in heard]
        return (Message("user", "\n".join(lines)),)

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        value = finite_reward(self.reward, state, actions)
        return Step(state, joint(self.agents, value), ending="horizon", metrics={"reward": value})


def finite_reward(reward: Reward, example: Example, actions: Mapping[AgentId, str]) -> float:
    """Calls a user's reward function once and accepts nothing but one finite number.

    Raises:
        RewardError: if the function raises, or returns anything but a finite number.
    """
    name = getattr(reward, "__qualname__", repr(reward))
    try:
        value = reward(example, actions)
    except (Exception, SystemExit) as error:  # nobody may end a run without a word
        raise RewardError(
            f"the reward function {name} raised {explain(error)} on example {example.id}; "
            "it must return one finite number for every joint answer"
        ) from error
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RewardError(
            f"the reward function {name} must return one finite number, got {value!r} "
            f"({type(value).__name__}) on example {example.id}"
        )
    return float(value)


def explain(error: BaseException) -> str:
    """One line: what was raised, and the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{'' if isinstance(error, SyntaxError) else where}"


def check_step(task: Task[Any], step: Step[Any]) -> None:
    """Refuses a step whose rewards are not one finite number per agent.

    Raises:
        RewardError: naming the task, what was expected and what came.
    """
    if set(step.rewards) != set(task.agents):
        raise RewardError(
            f"task {task.name}: expected one reward for each of {', '.join(task.agents)}, "
            f"got {len(step.rewards)}: {', '.join(step.rewards) or 'none'}"
        )
    for agent, value in step.rewards.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise RewardError(
                f"task {task.name}: the reward of {agent} must be a finite number, got {value!r}; "
                "mend the reward, it is never replaced by a number"
            )


def check_examples(task: Task[Any], split: Split) -> Sequence[Example]:
    """Returns the examples of a split.

    Raises:
        TaskError: if there are none, or two share an id.
    """
    examples = task.examples(split)
    if not len(examples):
        raise TaskError(f"task {task.name}: the {split} split is empty; give it at least one example")
    strange = next((e for e in examples if not isinstance(e, Example) or not isinstance(e.id, str)), None)
    if strange is not None:
        raise TaskError(f"task {task.name}: expected Example(id, data) with a text as id, got {strange!r:.80}")
    ids = [example.id for example in examples]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise TaskError(f"task {task.name}: two examples of the {split} split have the id {twice!r}")
    return examples


def check_agents(task: Task[Any]) -> None:
    """Refuses names of agents that could not name a folder, an adapter and a column.

    Raises:
        TaskError: naming the agent.
    """
    if len(task.agents) != len(set(task.agents)) or not task.agents:
        raise TaskError(f"task {task.name}: agents must be distinct and at least one, got {task.agents}")
    for agent in task.agents:
        if not isinstance(agent, str) or not re.fullmatch(r"[A-Za-z]\w*", agent):
            raise TaskError(
                f"task {task.name}: the name of an agent must be a letter, then letters, digits or _, got {agent!r}"
            )


def check_task(task: Task[Any], *, answer: str = "An answer.") -> None:
    """The contract test: plays one example of each split by hand and raises on the first broken promise.

    Run it on an own task before training on it.

    Raises:
        TaskError: if the splits are empty or overlap, an observation is empty, `step` is not a function of its
            arguments, or an episode outlives the horizon.
        RewardError: if rewards are not one finite number per agent.
    """
    check_agents(task)
    if task.horizon < 1:
        raise TaskError(f"task {task.name}: the horizon must be at least 1, got {task.horizon}")
    if not task.best_return > 0:
        raise TaskError(f"task {task.name}: best_return must be positive, got {task.best_return}")
    shared = {e.id for e in check_examples(task, "train")} & {e.id for e in check_examples(task, "test")}
    if shared:
        raise TaskError(f"task {task.name}: {len(shared)} examples are in both splits, {min(shared)!r} first")
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        _check_episode(task, task.examples(split)[0], answer)


def _check_episode(task: Task[Any], example: Example, answer: str) -> None:
    state = task.reset(example)
    for _ in range(task.horizon):
        acting = task.acting(state)
        if not acting or not set(acting) <= set(task.agents):
            raise TaskError(f"task {task.name}: acting() must name agents of the task, got {acting}")
        for agent in acting:
            messages = task.observe(state, agent, ())
            if not messages or not messages[-1].content.strip():
                raise TaskError(f"task {task.name}: agent {agent} is shown nothing on example {example.id}")
        actions = dict.fromkeys(acting, answer)
        step, again = task.step(state, actions), task.step(state, actions)
        check_step(task, step)
        if (step.rewards, step.metrics, step.ending) != (again.rewards, again.metrics, again.ending):
            raise TaskError(f"task {task.name}: step() gave two answers to one joint action; it must be pure")
        try:
            json.dumps(step.details)
        except TypeError as error:
            raise TaskError(f"task {task.name}: step details must be JSON values: {error}") from error
        if step.ending:
            return
        state = step.state
    raise TaskError(f"task {task.name}: the episode of {example.id} did not end within {task.horizon} rounds")
