"""Environments of PettingZoo as tasks: what is shown, what an answer does; the package's own loop is the measure."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from fakes import zoo
from fakes.runs import tiny_run, trained
from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import from_json, to_json
from madrigal.recipes.environments import environment_experiment
from madrigal.rollouts.task import check_task
from madrigal.runs.log import read_lines
from madrigal.settings import Sampling
from madrigal.tasks.catalog import open_task
from madrigal.tasks.environments.pettingzoo import PettingZoo, open_pettingzoo
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.tasks.environments.spaces import read_action
from madrigal.types import ConfigError, TaskError

OWN = Rules(rewards="own", horizon=20)


def sums(name: str = "Sum", **settings: Any) -> Replayed:
    return open_pettingzoo(PettingZoo(f"fakes.zoo:{name}", **{"rules": OWN, **settings}))


def played(task: Replayed, answers: Any, example: int = 0) -> list[Any]:
    """Every step of an episode; `answers` says what each agent that acts answers, of the scene."""
    state, steps = task.reset(task.examples("train")[example]), []
    while not steps or not steps[-1].ending:
        steps.append(task.step(state, {agent: answers(state.scene, agent) for agent in task.acting(state)}))
        state = steps[-1].state
    return steps


def drawn(seed: int) -> Any:
    draws = random.Random(seed)
    return lambda scene, agent: draws.choice(scene.moves[agent])


def test_parallel_agents_act_at_once_and_earn_what_the_package_pays() -> None:
    task = sums()
    for example in range(4):
        steps = played(task, drawn(example), example)
        env = zoo.Sum()
        env.reset(seed=task.examples("train")[example].data["seed"])
        for step in steps:
            actions = {agent: int(text) for agent, text in step.state.actions[-1]}
            assert set(actions) == set(env.agents)  # right is gone in the last round
            _, rewards, _, _, _ = env.step(actions)
            assert step.rewards == {agent: rewards.get(agent, 0.0) for agent in zoo.TEAM}
        assert len(steps) == 3 and not env.agents and steps[-1].ending == "horizon"


def test_agents_in_turn_earn_what_the_packages_own_loop_is_told() -> None:
    task = sums("Nim")
    for example in range(4):
        steps = played(task, drawn(example), example)
        actions = [int(text) for step in steps for _, text in step.state.actions[-1]]
        np.random.seed(task.examples("train")[example].data["seed"])
        env, told, given = zoo.Nim(), dict.fromkeys(zoo.Nim.possible_agents, 0.0), iter(actions)
        env.reset()
        for agent in env.agent_iter():
            _, reward, terminated, truncated, _ = env.last()
            told[agent] += reward
            env.step(None if terminated or truncated else next(given))
        assert next(given, None) is None
        assert steps[-1].state.returns == pytest.approx(told)
        assert steps[-1].ending == "solved"
        assert all(sum(step.rewards.values()) == pytest.approx(0) for step in steps)  # each pays at once


def test_every_prefix_can_start_again() -> None:
    for name in ("Sum", "Nim"):
        task = sums(name)
        steps = played(task, drawn(3))
        for before, step in pairwise(steps):
            task.pool.close()
            assert task.step(before.state, dict(step.state.actions[-1])) == step


def test_an_observation_is_told_with_the_moves_that_are_legal() -> None:
    task = sums("Nim", arguments='{"sticks": 1}')
    state = task.reset(task.examples("train")[0])
    assert task.acting(state) == ("first",)
    assert task.observe(state, "first", ())[0].content == (
        "You are first.\nobservation: 1\nMoves: 1.\n\nSolve it step by step. End with: The answer is N."
    )
    for given in ({"first": "I take [1]."}, {"first": "I take [1].", "second": "2"}):  # only who is to move counts
        assert task.step(state, given).rewards == {"first": 0.9, "second": -0.9}


@pytest.mark.parametrize("answer", ["2", "[7]", "none", "", "0", "-1", "1.5"])
def test_an_answer_that_names_no_legal_action_loses(answer: str) -> None:
    task = sums("Nim", arguments='{"sticks": 1}')
    step = task.step(task.reset(task.examples("train")[0]), {"first": answer})
    assert step.rewards == {"first": -1.0, "second": 0.0} and step.ending == "failed"
    assert step.metrics["legal"] == 0.0


def test_a_penalty_of_a_zero_sum_game_is_paid_to_the_others() -> None:
    task = sums("Nim", penalty=1.5, rules=replace(OWN, rewards="zero-sum"))
    assert task.step(task.reset(task.examples("train")[0]), {"first": "?"}).rewards == {"first": -1.5, "second": 1.5}


def test_who_answers_illegally_is_told_and_asked_again() -> None:
    task = sums(retries=1, penalty=0.25)
    state = task.reset(task.examples("train")[0])
    step = task.step(state, {"left": "9", "right": "1"})
    assert step.rewards == {"left": -0.25, "right": 0.0} and not step.ending
    assert task.acting(step.state) == ("left",)  # what right chose stands
    assert task.observe(step.state, "left", ())[0].content.startswith(
        "That was no legal move. Try again.\nYou are left."
    )
    goal = int(step.state.scene.shown["left"][0].content.split("[")[1][0])
    fit = task.step(step.state, {"left": str(max(0, goal - 1))})
    assert fit.rewards["left"] == float(goal in (1, 2, 3)) and set(task.acting(fit.state)) == set(zoo.TEAM)
    assert task.step(fit.state, {"left": "9", "right": "1"}).ending == "failed"  # once only


def test_a_random_action_may_stand_in_for_an_illegal_one() -> None:
    task = sums("Nim", illegal="random", penalty=0.0)
    steps = played(task, lambda scene, agent: "?")
    assert steps[-1].ending == "solved" and steps[-1].metrics["legal"] == 0.0
    again = played(task, lambda scene, agent: "?")
    assert again == steps


def test_a_user_may_tell_the_observation(tmp_path: Path) -> None:
    file = tmp_path / "telling.py"
    file.write_text("def tell(seen, agent, info):\n    return f'Together you need {seen[0]}, {agent}.'\n")
    task = sums(observe=f"{file}:tell")
    content = task.observe(task.reset(task.examples("train")[0]), "left", ())[0].content
    assert content.startswith("You are left.\nTogether you need ") and "Moves: 0, 1, 2." in content


def test_actions_of_several_numbers_are_read_from_brackets() -> None:
    task = sums("Steering")
    state = task.reset(task.examples("train")[0])
    assert "Answer with 2 numbers in brackets, as in [0 0]" in task.observe(state, "left", ())[0].content
    assert not task.step(state, {"left": "[0.5 -1]", "right": "so: [1, 1]"}).ending
    space = zoo.Steering().action_space("left")
    assert read_action(space, "[2 0]", None) is None and read_action(space, "[1]", None) is None
    np.testing.assert_allclose(read_action(space, "from [0 0] to [0.5, -1]", None), [0.5, -1.0])


@pytest.mark.parametrize(
    ("settings", "error", "line"),
    [
        ({"environment": "fakes.zoo:Restless"}, TaskError, "did not show or pay what it did before"),
        ({"environment": "fakes.zoo:Camera"}, ConfigError, "40x40x3 numbers is too long .* --task.observe"),
        ({"environment": "fakes.zoo:Windowed"}, ConfigError, "fakes.zoo:Windowed: RuntimeError: No available video"),
        ({"environment": "fakes.zoo:TEAM"}, ConfigError, "expected a function TEAM in fakes.zoo, found "),
        ({"environment": "fakes.zoo:dict"}, ConfigError, "expected a function dict in fakes.zoo, found none"),
        ({"environment": "nowhere.py:make"}, ConfigError, "there is no file nowhere.py"),
        ({"environment": "builtins:dict"}, ConfigError, "expected an environment of PettingZoo, got {}"),
        ({"environment": "classic/tictacto_v3"}, ConfigError, "did you mean classic/tictactoe_v3"),
        ({"environment": "classic/tictactoe_v3", "mode": "parallel"}, ConfigError, "unknown environment of PettingZoo"),
        (
            {"environment": "fakes.zoo:Sum", "arguments": '{"x": 1}'},
            ConfigError,
            "unexpected keyword argument|takes no",
        ),
        ({"environment": "fakes.zoo:Sum", "observe": "nowhere.py:tell"}, ConfigError, "there is no file nowhere.py"),
    ],
)
def test_what_cannot_be_played_is_one_line(settings: Mapping[str, Any], error: type[Exception], line: str) -> None:
    with pytest.raises(error, match=line) as refusal:
        open_pettingzoo(PettingZoo(**settings))
    assert "\n" not in str(refusal.value)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task.retries: expected 0 or more, got -1"):
        PettingZoo("x", retries=-1)
    with pytest.raises(ConfigError, match=r"task.penalty: expected 0 or more, got nan"):
        PettingZoo("x", penalty=float("nan"))


def test_what_never_ends_is_cut_at_the_horizon() -> None:
    steps = played(sums("Endless", rules=replace(OWN, horizon=5)), drawn(0))
    assert len(steps) == 5 and steps[-1].ending == "horizon" and steps[-1].metrics["cut"] == 100.0


def test_an_environment_keeps_the_contract_and_its_experiment_fits_its_rewards() -> None:
    for name, kind, algorithm in (("Sum", "own", "independent_grpo"), ("Nim", "zero-sum", "self_play")):
        run = environment_experiment(PettingZoo(f"fakes.zoo:{name}"))
        assert isinstance(run.task, PettingZoo)
        assert (run.task.rules.rewards, run.algorithm.name) == (kind, algorithm)
        assert from_json(to_json(run)) == run
        with open_task(replace(run.task, rules=replace(run.task.rules, best_return=3.0))) as task:
            check_task(task, answer="1")


def test_two_steps_of_training(model_folder: Path, tmp_path: Path) -> None:
    task = PettingZoo(
        "fakes.zoo:Nim", arguments='{"sticks": 3}', illegal="random", penalty=0.1, rules=Rules("zero-sum")
    )
    run = tiny_run(model_folder, task, SelfPlay(width=2), sampling=Sampling(max_new_tokens=1))
    lines = read_lines(trained(run, tmp_path / "run") / "steps.jsonl")
    assert len(lines) == 2 and all(0 <= line["component/legal"] <= 100 for line in lines)
    assert all(abs(line["reward"]) < 1e-6 for line in lines)  # what one wins the other loses


@pytest.mark.skipif(importlib.util.find_spec("pygame") is None, reason="pygame is not installed")
def test_the_packages_own_tic_tac_toe() -> None:
    task = open_pettingzoo(PettingZoo("classic/tictactoe_v3", rules=replace(OWN, rewards="zero-sum")))
    state = task.reset(task.examples("train")[0])
    for square in ("0", "[3]", "1", "4"):
        state = task.step(state, {task.acting(state)[0]: square}).state
    content = task.observe(state, "player_1", ())[0].content
    assert "layer 0:\n[[1 1 0]\n [0 0 0]\n [0 0 0]]\nlayer 1:\n[[0 0 0]\n [1 1 0]\n [0 0 0]]" in content
    assert "Moves: 2, 5, 6, 7, 8." in content
    won = task.step(state, {"player_1": "The answer is 2."})
    assert won.rewards == {"player_1": 1.0, "player_2": -1.0} and won.ending == "solved"
    lost = task.step(state, {"player_1": "0"})
    assert lost.rewards == {"player_1": -1.0, "player_2": 1.0} and lost.ending == "failed"
