"""What a task promises: at the first look, at every step, and what is said of a broken promise."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.play import judge_of
from madrigal.rollouts.play import EpisodeRun, drive, play
from madrigal.rollouts.task import SingleRound, Task, check_step, check_task, joint
from madrigal.rollouts.topology import Parallel
from madrigal.tasks.guarded import Guarded
from madrigal.types import Completion, Example, Message, Messages, Point, RewardError, Split, Step, TaskError, Turn

ADA, BOB = Example("ada", {"word": "sun"}), Example("bob", {"word": "moon"})
Said = Mapping[str, str]


@dataclass(frozen=True)
class Odd:
    """A task that keeps its promises for the contract test's answer, and does what it is told for any other."""

    act: Callable[[], Step[Any]]
    name: str = "odd"
    agents: tuple[str, ...] = ("one", "two")
    horizon: int = 2
    best_return: float = 1.0

    def examples(self, split: Split) -> Sequence[Example]:
        return [ADA] if split == "train" else [BOB]

    def reset(self, example: Example) -> Example:
        return example

    def acting(self, state: Example) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: Example, agent: str, heard: Sequence[Turn]) -> Messages:
        return (Message("user", "Go."),)

    def step(self, state: Example, actions: Said) -> Step[Any]:
        return self.act() if "real" in actions.values() else step_of()


def step_of(rewards: Mapping[str, Any] | None = None, **more: Any) -> Step[Any]:
    return Step(ADA, rewards or joint(("one", "two"), 0.5), **{"ending": "horizon", **more})


def played(task: Task[Any]) -> Any:
    """One episode in which everybody says "real"."""
    game = EpisodeRun(play(task, Parallel(), Point("ada", task.reset(ADA))), ())

    judge = judge_of(task)

    return drive([game], lambda wanted: [Completion("real")] * len(wanted), judge)[0]


def leave() -> Step[Any]:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (lambda: step_of(ending=""), "episode of ada did not end within 2 rounds"),
        (leave, "step raised SystemExit: 0 .*test_contract.py.* on example ada; the answers were one: 'real'"),
        (
            lambda: json.loads("real"),
            r"raised JSONDecodeError.*\(test_contract.py, line \d+\).*one: 'real', two: 'real'",
        ),
        (lambda: step_of(metrics={"m": None}), "the metric 'm' must be a finite number, got None"),
        (lambda: step_of(metrics={"m": float("nan")}), "the metric 'm' must be a finite number, got nan"),
        (lambda: step_of(metrics={"m": 10**5000}), "the metric 'm' must be a finite number, got a number beyond"),
        (lambda: step_of(details={"words": {"real"}}), "details must be JSON values: .*set"),
        (lambda: step_of(details={"n": float("inf")}), "details must be JSON values"),
        (lambda: step_of({"one": 10**400, "two": 0}), "the reward of one must be a finite number"),
    ],
)
def test_a_promise_broken_by_a_real_answer_is_one_line(act: Callable[[], Step[Any]], problem: str) -> None:
    task = Guarded(Odd(act))
    check_task(task)
    with pytest.raises((TaskError, RewardError), match=problem) as refusal:
        played(task)
    assert "\n" not in str(refusal.value) and refusal.value.args[0].startswith("task odd: ")


@pytest.mark.parametrize("method", ["reset", "observe", "acting"])
def test_no_method_of_a_task_leaves_the_process(method: str) -> None:
    def leaving(*_: object) -> Any:
        raise SystemExit

    task = Odd(step_of)
    object.__setattr__(task, method, leaving)
    with pytest.raises(TaskError, match=f"{method}.* raised SystemExit"):
        played(Guarded(task))


def test_half_a_character_in_a_prompt_is_one_line() -> None:
    task = Guarded(replace(ONE, prompt=lambda example, agent: "\ud83d"))
    with pytest.raises(TaskError, match="observe, for one, raised UnicodeEncodeError"):
        check_task(task)


def test_numbers_of_numpy_become_plain_ones() -> None:
    step = check_step(
        Odd(step_of), step_of(joint(("one", "two"), np.float32(0.5)), metrics={"m": np.int64(3), "b": True})
    )
    assert (step.rewards, step.metrics) == ({"one": 0.5, "two": 0.5}, {"m": 3.0, "b": 1.0})
    assert {type(value) for value in (*step.rewards.values(), *step.metrics.values())} == {float}


ONE = SingleRound("one", ("one", "two"), (ADA,), (BOB,), lambda example, agent: "Go.", lambda example, said: 1.0)


def first_only(example: Example, said: Said) -> dict[str, float]:
    return {"one": float(bool(said["one"])), "two": float(bool(said["two"])) / 2}


def test_rewards_above_the_best_are_refused_by_hand_and_told_once_in_play() -> None:
    def length(example: Example, said: Said) -> float:
        return float(len(said["one"]))

    with pytest.raises(RewardError, match="earned 10, above best_return, 1"):
        check_task(replace(ONE, reward=length))
    task = Guarded(Odd(lambda: step_of(joint(("one", "two"), 24.5))))
    with pytest.warns(UserWarning, match=r"earned 24.5, above best_return, 1;"):
        played(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert played(task).steps[0].rewards == {"one": 24.5, "two": 24.5}


def test_rewards_that_differ_must_be_declared() -> None:
    task = Odd(lambda: step_of({"one": 1.0, "two": 0.0}))
    with pytest.raises(RewardError, match=r'different rewards \(one: 1, two: 0\).* rewards = "own"'):
        check_task(task, answer="real")
    with pytest.warns(UserWarning, match="different rewards"):
        played(Guarded(task))
    object.__setattr__(task, "rewards", "mine")
    with pytest.raises(TaskError, match="expected rewards to be joint or own or zero-sum, got 'mine'"):
        check_task(task)
    object.__setattr__(task, "rewards", "own")
    check_task(task, answer="real")


def test_one_round_pays_each_agent_its_own() -> None:
    task = replace(ONE, reward=first_only, rewards="own")
    check_task(task)
    assert task.step(ADA, {"one": "x", "two": "y"}).rewards == {"one": 1.0, "two": 0.5}
    with pytest.raises(RewardError, match=r"a finite number for each of one, two, got .*1.0"):
        replace(task, reward=lambda example, said: {"one": 1.0}).step(ADA, {})
    with pytest.raises(RewardError, match=r'must return one finite number.*set rewards="own"'):
        replace(ONE, reward=first_only).step(ADA, {"one": "x", "two": "y"})


def test_a_reward_may_log_its_parts() -> None:
    task = replace(ONE, reward=lambda example, said: (0.5, {"rouge": 0.25, "length": 3}))
    assert check_step(task, task.step(ADA, {})).metrics == {"reward": 0.5, "rouge": 0.25, "length": 3.0}


def short(example: Example, said: Said) -> float:
    return 1.0


def near(example: Example, said: Said) -> tuple[float, dict[str, float]]:
    return 0.5, {"words": 7}


@pytest.mark.parametrize("reward", [[(0.25, short), (0.5, near)], {"short": (0.25, short), "near": (0.5, near)}])
def test_several_rewards_are_weighed_added_and_logged(reward: Any) -> None:
    step = replace(ONE, reward=reward).step(ADA, {})
    assert step.rewards == {"one": 0.5, "two": 0.5}
    assert step.metrics == {"reward": 0.5, "short": 1.0, "near": 0.5, "near/words": 7}


@pytest.mark.parametrize("reward", [[], [(1, 2)], {"a": (short, 1.0)}, "short", [short, (2.0, short)]])
def test_rewards_that_are_no_functions_with_weights_are_refused(reward: Any) -> None:
    with pytest.raises((RewardError, TypeError), match="reward: "):
        check_task(replace(ONE, reward=reward))


def test_a_prompt_may_be_a_chat() -> None:
    chat: Any = [{"role": "system", "content": "Be brief."}, Message("user", "Go.")]
    task = replace(ONE, prompt=lambda example, agent: chat)
    heard = (Turn("two", (), Completion("Hi.")),)
    assert task.observe(ADA, "one", ()) == (Message("system", "Be brief."), Message("user", "Go."))
    assert task.observe(ADA, "one", heard)[-1] == Message("user", "Go.\ntwo said: Hi.")
    own = replace(task, quote=lambda turn, listener: f"{listener}, hear {turn.completion.text}")
    assert own.observe(ADA, "one", heard)[-1].content == "Go.\none, hear Hi."
    assert replace(task, quote=lambda turn, listener: "").observe(ADA, "one", heard)[-1].content == "Go."
    with pytest.raises(TaskError, match="prompt: expected a text, or messages"):
        replace(ONE, prompt=lambda example, agent: [{"role": "boss"}]).observe(ADA, "one", ())  # type: ignore[arg-type]


def test_the_line_of_an_error_is_that_of_the_users_file(tmp_path: Path) -> None:
    code = "import json\n\n\ndef reward(example, said):\n    return json.loads(said['one'])\n"
    (tmp_path / "mine.py").write_text(code)
    space: dict[str, Any] = {}
    exec(compile(code, str(tmp_path / "mine.py"), "exec"), space)
    with pytest.raises(RewardError, match=r"JSONDecodeError: .*\(mine.py, line 5\).*one: 'no JSON'"):
        replace(ONE, reward=space["reward"]).step(ADA, {"one": "no JSON", "two": ""})
