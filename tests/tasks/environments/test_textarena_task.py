"""Games of TextArena as tasks, against the package's own way to play them."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("textarena")

from madrigal.recipes.environments import environment_experiment
from madrigal.rollouts.task import check_task
from madrigal.tasks.catalog import open_task
from madrigal.tasks.environments.opening import guessed
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.tasks.environments.textarena import TextArena, open_textarena
from madrigal.types import ConfigError, Step


def played(task: Replayed, answers: list[str]) -> list[Step]:
    """The steps of a first training episode in which whoever is to move gives the next answer."""
    state, steps = task.reset(task.examples("train")[0]), list[Step]()
    for answer in answers:
        steps.append(task.step(state, {task.acting(state)[0]: answer}))
        state = steps[-1].state
    return steps


TAK = TextArena("SimpleTak-v0", rules=Rules(rewards="zero-sum"))
WON = ["[0]", "[1]", "[4]", "[2]", "[8]", "[3]", "[12]"]  # the first player's column


def test_two_players_are_shown_and_paid_what_the_package_says() -> None:
    import textarena

    task = open_textarena(TAK)
    assert task.agents == ("player_0", "player_1")
    env = textarena.make("SimpleTak-v0")
    env.reset(num_players=2, seed=0)
    state = task.reset(task.examples("train")[0])
    for answer in WON:
        player, shown = env.get_observation()
        assert task.acting(state) == (f"player_{player}",)
        assert task.observe(state, f"player_{player}", ())[0].content == shown.strip()
        step = task.step(state, {f"player_{player}": answer})
        done, _ = env.step(action=answer)
        state = step.state
    rewards, _ = env.close()
    assert done and step.ending == "solved"
    assert step.rewards == {"player_0": rewards[0], "player_1": rewards[1]} == {"player_0": 1.0, "player_1": -1.0}
    assert step.metrics["player_0_wins"] == 100.0 and step.metrics["invalid"] == 0.0


def test_any_prefix_can_start_again() -> None:
    task = open_textarena(TAK)
    steps = played(task, WON)
    for n, step in enumerate(steps[:-1]):
        task.pool.close()
        assert task.step(step.state, dict(steps[n + 1].state.actions[-1])) == steps[n + 1]


def test_what_an_illegal_move_costs_is_the_games_own_matter() -> None:
    first, second = played(open_textarena(TAK), ["nonsense", "[99]"])
    assert not first.ending and "attempted an invalid move" in str(first.state.scene.shown["player_0"])
    assert second.ending == "failed" and second.metrics["invalid"] == 100.0
    assert second.rewards == {"player_0": -1.0, "player_1": 1.0}


def test_a_game_for_one_has_one_agent_and_draws_by_the_seed() -> None:
    task = open_textarena(TextArena("GuessTheNumber-v0"))
    assert task.agents == ("player_0",)
    assert guessed(task).rewards == "joint"

    def found(example: int) -> int:
        """The number, by asking for each: the draws of other games between them change nothing."""
        for number in range(1, 21):
            state = task.reset(task.examples("train")[example])
            step = task.step(state, {"player_0": f"[{number}]"})
            if step.ending and step.rewards["player_0"] == 1.0:
                return number
        raise AssertionError("no number was right")

    numbers = [found(n) for n in range(4)]
    assert len(set(numbers)) > 1 and [found(n) for n in range(4)] == numbers


def test_its_arguments_reach_a_game_and_more_may_play() -> None:
    task = open_textarena(replace(TAK, arguments='{"board_size": 3}'))
    assert "[8]" in task.reset(task.examples("train")[0]).scene.moves["player_0"]
    assert "[9]" not in task.reset(task.examples("train")[0]).scene.moves["player_0"]
    three = open_textarena(TextArena("ThreePlayerTicTacToe-v0"))
    assert three.agents == ("player_0", "player_1", "player_2")


def test_a_game_keeps_the_contract_and_its_experiment_is_self_play() -> None:
    run = environment_experiment(TextArena("SimpleTak-v0"))
    assert run.algorithm.name == "self_play" and run.team.shared and run.recipe == "SimpleTak-v0"
    with open_task(run.task) as task:
        check_task(task)
        assert len(task.examples("test")) == 128


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (TextArena("SimpleTok-v0"), "did you mean SimpleTak-v0"),
        (TextArena("SimpleTak-v0", players=3), "number of players has to be 2, received 3"),
        (TextArena("SimpleTak-v0", arguments='{"size": 3}'), "unexpected keyword argument 'size'"),
    ],
)
def test_what_cannot_be_played_is_one_line(config: TextArena, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as refusal:
        open_textarena(config)
    assert "\n" not in str(refusal.value)


def test_numbers_of_players_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task.players: expected 1 to 15, or 0 for the usual, got -1"):
        TextArena("SimpleTak-v0", players=-1)
