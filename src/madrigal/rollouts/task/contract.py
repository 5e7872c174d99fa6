"""What every task promises: checked once by hand (`check_task`), and at every step of play (`check_step`)."""

from __future__ import annotations

import json
import math
import re
import sysconfig
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, get_args

from madrigal.rollouts.task.protocol import Rewards, Task, rewards_of
from madrigal.types import AgentId, Example, RewardError, Split, Step, TaskError, joint_reward

S = TypeVar("S")
SHOWN = 200  # characters of an answer that an error shows
# Code that a user did not write: the standard library, what is installed, this library.
_INSTALLED = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_LIBRARIES = ("<frozen ", *(f"{folder}/" for folder in (*_INSTALLED, Path(__file__).parents[1])))


def check_step(task: Task[Any], step: Step[S]) -> Step[S]:
    """The step with plain numbers, once its rewards, metrics and details are what a task promises.

    Numbers of numpy become those of Python.

    Raises:
        RewardError: if rewards are not one finite number per agent.
        TaskError: if a metric is no finite number, or the details cannot be written as JSON.
    """
    if set(step.rewards) != set(task.agents):
        raise RewardError(
            f"task {task.name}: expected one reward for each of {', '.join(task.agents)}, "
            f"got {len(step.rewards)}: {', '.join(map(str, step.rewards)) or 'none'}"
        )
    rewards = {}
    for agent, value in step.rewards.items():
        if (reward := plain_number(value)) is None:
            raise RewardError(
                f"task {task.name}: the reward of {agent} must be a finite number, got {_short(value)}; "
                "mend the reward, it is never replaced by a number"
            )
        rewards[agent] = reward
    _check_details(task, step.details)
    return replace(step, rewards=rewards, metrics=_plain_metrics(task, step.metrics))


def plain_number(value: object) -> float | None:
    """A real number as a finite float of Python; None for all else, truth values and numbers beyond floats included.

    >>> plain_number(3), plain_number(True), plain_number(10**400), plain_number(float("nan"))
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _plain_metrics(task: Task[Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    plain = {}
    for name, value in metrics.items():
        number = float(value) if isinstance(value, bool) else plain_number(value)
        if number is None or not isinstance(name, str):
            raise TaskError(
                f"task {task.name}: the metric {name!r} must be a finite number, got {_short(value)} "
                f"({type(value).__name__}); leave it out where there is none"
            )
        plain[name] = number
    return plain


def _check_details(task: Task[Any], details: Mapping[str, Any]) -> None:
    try:
        json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0]
        raise TaskError(
            f"task {task.name}: step details must be JSON values: {reason}; got {_short(details)}"
        ) from error


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of too many digits to be spelled
        text = f"a number beyond any float ({type(value).__name__})"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def answers_given(actions: Mapping[AgentId, str]) -> str:
    """The answers of a joint action on one line, for errors.

    >>> answers_given({"ann": "Yes.", "bob": ""})
    "; the answers were ann: 'Yes.', bob: ''"
    """
    return "; the answers were " + ", ".join(f"{agent}: {_short(text)}" for agent, text in actions.items())


def explain(error: BaseException) -> str:
    """One line: what was raised, and the file and line of the user's own code that led to it.

    Where none of the user's code took part, the line that raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {one_line(error)}{'' if isinstance(error, SyntaxError) else where}"


def one_line(error: BaseException) -> str:
    """What an error says, its line breaks made blanks."""
    return " ".join(str(error).split())


def oddity(task: Task[Any], step: Step[Any]) -> str:
    """What a step's rewards say against what the task declares of them, as one line; "" for nothing.

    A joint reward above `best_return` would be shown as more than 100 %; rewards that differ between agents although
    they are declared joint would be averaged.
    """
    reward = joint_reward(step)
    if reward > task.best_return + 1e-6 * max(1.0, abs(task.best_return)):
        return (
            f"task {task.name}: a joint answer earned {reward:g}, above best_return, {task.best_return:g}; returns are "
            "shown in percent of it: set best_return to the highest reward that one round can earn"
        )
    if rewards_of(task) == "joint" and len(set(step.rewards.values())) > 1:
        given = ", ".join(f"{agent}: {reward:g}" for agent, reward in step.rewards.items())
        return (
            f"task {task.name}: agents earned different rewards ({given}), but the task does not say so; give it the "
            'attribute rewards = "own" (or "zero-sum"), else their mean is what all are trained on'
        )
    return ""


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
    name, count = Counter(example.id for example in examples).most_common(1)[0]
    if count > 1:
        raise TaskError(f"task {task.name}: two examples of the {split} split have the id {name!r}")
    return examples


def check_agents(task: Task[Any]) -> None:
    """Refuses names of agents that could not name a folder, an adapter and a column, and strangers that are to answer.

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
    answering = getattr(task, "answering", ())
    if isinstance(answering, str) or not set(answering) <= set(task.agents):
        raise TaskError(
            f"task {task.name}: answering: expected a tuple of names out of {', '.join(task.agents)}, got {answering!r}"
        )


def check_task(task: Task[Any], *, answer: str = "An answer.") -> None:
    """The contract test: plays one example of each split by hand and raises on the first broken promise.

    Run it on an own task before training on it.

    Raises:
        TaskError: if the splits are empty or overlap, an observation is empty, `step` is not a function of its
            arguments, an episode outlives the horizon, or rewards differ between agents and the task does not say so.
        RewardError: if rewards are not one finite number per agent, or exceed `best_return`.
    """
    check_agents(task)
    if task.horizon < 1:
        raise TaskError(f"task {task.name}: the horizon must be at least 1, got {task.horizon}")
    best = plain_number(task.best_return)
    if best is None or best <= 0:
        raise TaskError(f"task {task.name}: best_return must be positive and finite, got {_short(task.best_return)}")
    if rewards_of(task) not in get_args(Rewards):
        kinds = " or ".join(get_args(Rewards))
        raise TaskError(f"task {task.name}: expected rewards to be {kinds}, got {_short(rewards_of(task))}")
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
        _check_rewards(task, state, dict.fromkeys(acting, "") | {acting[0]: answer})
        step = _check_rewards(task, state, dict.fromkeys(acting, answer))
        if step.ending:
            return
        state = step.state
    raise TaskError(outlived(task, example.id))


def _check_rewards(task: Task[Any], state: Any, actions: Mapping[AgentId, str]) -> Step[Any]:
    """The step of a joint action, which must come out twice alike and as the task declares it."""
    step, again = (check_step(task, task.step(state, actions)) for _ in range(2))
    if (step.rewards, step.metrics, step.ending) != (again.rewards, again.metrics, again.ending):
        raise TaskError(f"task {task.name}: step() gave two answers to one joint action; it must be pure")
    if complaint := oddity(task, step):
        raise RewardError(complaint)
    return step


def outlived(task: Task[Any], example: str) -> str:
    """The line for an episode that goes on after its last round."""
    return (
        f"task {task.name}: the episode of {example} did not end within {task.horizon} rounds; in the last one step() "
        "must return an ending"
    )
