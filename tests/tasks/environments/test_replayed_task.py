"""Environments that remember, played as tasks that do not: any prefix can start again, and episodes do not mix."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from madrigal.rollouts.task import check_task
from madrigal.tasks.environments.live import Pool, Scene
from madrigal.tasks.environments.opening import arguments_of, checked, guessed, seeded
from madrigal.tasks.environments.replay import Played, Replayed, Rules
from madrigal.types import AgentId, ConfigError, Example, Message, TaskError

AGENTS = ("ann", "bob")
made = itertools.count()


@dataclass
class Dice:
    """Both guess a die, thrown four times by Python's common generator; ann earns her guess, bob 0.5 less it."""

    fickle: bool = False
    throws: int = 0
    total: int = 0
    steps: int = 0

    def reset(self, example: Example, seed: int) -> Scene:
        self.number = next(made)
        return self._scene({})

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        self.steps += 1
        self.total += int(answers.get("ann", "0"))
        return self._scene({"ann": float(answers.get("ann", 0)), "bob": -float(answers.get("ann", 0)) + 0.5})

    def close(self) -> None:
        self.steps = -1

    def _scene(self, rewards: Mapping[AgentId, float]) -> Scene:
        self.throws += 1
        thrown = (self.number if self.fickle else 0) + random.randrange(6)
        if self.throws == 5:
            return Scene({}, rewards=rewards, ending="solved", metrics={"total": float(self.total)})
        text = Message("user", f"Throw {self.throws}: {thrown}, total {self.total}.")
        return Scene(dict.fromkeys(AGENTS, (text,)), dict.fromkeys(AGENTS, ("1", "2")), rewards)


def task(rules: Rules = Rules(rewards="own", horizon=9), **changes: Any) -> Replayed:  # noqa: B008
    return replace(Replayed("dice", AGENTS, rules, Dice, seeded("dice", AGENTS, rules)), **changes)


def played(task: Replayed, answers: str, example: int = 0) -> list[Any]:
    """Every step of an episode in which ann gives these answers."""
    state, steps = task.reset(task.examples("train")[example]), []
    for answer in answers:
        steps.append(task.step(state, dict.fromkeys(AGENTS, answer)))
        state = steps[-1].state
    return steps


def test_any_prefix_can_start_again_and_gives_equal_steps() -> None:
    one = task()
    steps = played(one, "1212")
    for n, step in enumerate(steps[:-1]):
        one.pool.close()  # nothing stands anywhere: all is played again
        again = one.step(step.state, dict.fromkeys(AGENTS, "1212"[n + 1]))
        assert again == steps[n + 1]
    other = one.step(steps[0].state, dict.fromkeys(AGENTS, "1"))  # a branch leaves the line as it is
    assert other.state.scene.shown["ann"][0].content.endswith("total 2.")
    assert one.step(steps[1].state, dict.fromkeys(AGENTS, "1")) == steps[2]


def test_a_line_of_play_steps_every_environment_once() -> None:
    lives = list[Dice]()
    one = task(make=lambda: lives.append(Dice()) or lives[-1])
    played(one, "1212")
    assert len(lives) == 1
    state = one.reset(one.examples("train")[1])
    for _ in range(3):  # siblings that part at the start
        one.step(state, dict.fromkeys(AGENTS, "1"))
    assert len(lives) == 4


def test_draws_of_interleaved_episodes_and_of_the_process_do_not_mix() -> None:
    one, alone = task(), [played(task(), "121", n) for n in (0, 1)]
    random.seed(7)
    expected = [random.random() for _ in range(6)]
    random.seed(7)
    states = [one.reset(one.examples("train")[n]) for n in (0, 1)]
    assert states[0].scene != states[1].scene  # by their seeds
    for place, answer in enumerate("121"):
        for n in (0, 1):
            step = one.step(states[n], dict.fromkeys(AGENTS, answer))
            assert step == alone[n][place]
            states[n] = step.state
            assert random.random() == expected[2 * place + n]


def test_the_pool_closes_what_waited_longest() -> None:
    lives = list[Dice]()
    one = task(make=lambda: lives.append(Dice()) or lives[-1], pool=Pool(2))
    for n in range(4):
        one.reset(one.examples("train")[n])
    assert [live.steps for live in lives] == [-1, -1, 0, 0]


def test_what_an_environment_pays_is_shared_out_as_the_rules_say() -> None:
    def rewards(kind: Any) -> list[float]:
        return list(played(task(Rules(rewards=kind, horizon=9)), "2")[0].rewards.values())

    assert rewards("own") == [2.0, -1.5]
    assert rewards("joint") == [0.5, 0.5]
    assert rewards("zero-sum") == [1.75, -1.75]


def test_the_horizon_cuts_an_episode() -> None:
    steps = played(task(Rules(rewards="own", horizon=2, best_return=0.5)), "11")
    assert [step.ending for step in steps] == ["", "horizon"]
    assert steps[1].metrics == {"cut": 100.0, "return_percent": 100.0}  # both together earned 1.0, 0.5 each
    assert played(task(), "1212")[-1].metrics["cut"] == 0.0


def test_an_environment_that_is_no_function_of_its_seed_is_refused() -> None:
    fickle = task(make=lambda: Dice(fickle=True))
    with pytest.raises(TaskError, match="after 0 actions the environment did not show or pay what it did before"):
        checked(fickle)
    state = fickle.reset(fickle.examples("train")[0])
    fickle.pool.close()
    with pytest.raises(TaskError, match="expected one whose chance comes from its seed alone"):
        fickle.step(state, dict.fromkeys(AGENTS, "1"))
    check_task(checked(task()), answer="1")


def test_a_random_player_takes_the_other_seat_and_plays_alike_every_time() -> None:
    rules = Rules(rewards="zero-sum", horizon=9, best_return=4.0, test_against="random", tests=2)
    one = task(rules)
    assert [example.data["seat"] for example in one.examples("test")] == ["ann", "bob", "ann", "bob"]
    assert one.scripted(one.examples("test")[1]) == {"ann": "a script (random)"}
    for _ in range(2):
        state = one.reset(one.examples("test")[1])
        assert one.acting(state) == ("bob",)
        step = None
        while step is None or not step.ending:
            step = one.step(state, {"bob": "1"})
            state = step.state
        assert [dict(action)["ann"] for action in state.actions] == ["2", "1", "2", "2"]
        # 7 for ann, 4 x 0.5 - 7 for bob; less the mean of 1 each
        assert state.returns == {"ann": 6.0, "bob": -6.0}
        assert {name: step.metrics[name] for name in ("win", "loss", "return_percent")} == {
            "win": 0.0,
            "loss": 100.0,
            "return_percent": 0.0,
        }


def test_rules_are_guessed_of_what_drawn_answers_earn() -> None:
    assert guessed(task()).rewards == "own"

    class Even(Dice):
        def step(self, answers: Mapping[AgentId, str]) -> Scene:
            return replace(super().step(answers), rewards={"ann": 2.0, "bob": 2.0})

    class Duel(Dice):
        def step(self, answers: Mapping[AgentId, str]) -> Scene:
            return replace(super().step(answers), rewards={"ann": -2.0, "bob": 2.0})

    assert guessed(task(make=Even)) == replace(task().rules, rewards="joint", best_return=16.0)
    assert guessed(task(make=Duel)) == replace(task().rules, rewards="zero-sum", best_return=8.0, test_against="random")


def test_several_agents_work_on_one_answer_which_is_the_last_ones() -> None:
    class Riddle(Dice):
        def _scene(self, rewards: Mapping[AgentId, float]) -> Scene:
            scene = super()._scene(rewards)
            return replace(scene, shown={"bob": scene.shown["bob"]}) if scene.shown else scene

    one = task(Rules(horizon=9), make=Riddle, answering=("bob",))
    state = one.reset(one.examples("train")[0])
    assert one.acting(state) == AGENTS
    assert one.observe(state, "ann", ())[-1].content.endswith("You are ann. Help bob, who gives the answer.")
    assert "Help" not in one.observe(state, "bob", ())[-1].content
    assert one.step(state, {"ann": "1", "bob": "2"}).state.actions == ((("bob", "2"),),)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{1}", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ('{"render_mode": "human"}', "needs a display"),
    ],
)
def test_arguments_that_are_none_are_one_line(text: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        arguments_of(text)


@pytest.mark.parametrize("rules", [{"horizon": 0}, {"examples": 0}, {"tests": -1}])
def test_rules_that_leave_nothing_to_play_are_refused(rules: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"task.rules.{next(iter(rules))}: expected at least 1"):
        Rules(**rules)


def test_an_episode_that_is_over_before_it_begins_is_refused() -> None:
    class Stillborn(Dice):
        throws = 4

        def __init__(self) -> None:
            super().__init__(throws=4)

    with pytest.raises(TaskError, match="over before anybody could act"):
        task(make=Stillborn).reset(Example("x", {"seed": 1}))


def test_states_are_plain_values() -> None:
    import pickle

    one = task()
    state = played(one, "12")[-1].state
    again: Played = pickle.loads(pickle.dumps(state))
    assert again == state
    assert one.step(again, dict.fromkeys(AGENTS, "1")) == one.step(state, dict.fromkeys(AGENTS, "1"))
