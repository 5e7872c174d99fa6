"""Games as tasks: what holds for all of them, illegal answers, and tables with a scripted player."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.play import judge_of
from madrigal.evaluation.evaluate import EvalSetup, evaluate
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.task import Task, check_task, rewards_of
from madrigal.rollouts.topology import Parallel
from madrigal.tasks.catalog import TASKS
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.mixture import Games, games_task
from madrigal.tasks.games.negotiation import Negotiation
from madrigal.tasks.games.opponent import open_table
from madrigal.tasks.games.players import moves_shown, random_player
from madrigal.tasks.games.rules import PLAYERS, House
from madrigal.tasks.games.tictactoe import TicTacToe
from madrigal.types import Completion, ConfigError, Example, Message, Step, TaskError

HOUSE = House(retries=1, penalty=0.25)
GAMES: dict[str, Callable[[House], Task[Any]]] = {
    "tictactoe": lambda house: open_table(TicTacToe(house=house)),
    "kuhn": lambda house: open_table(Kuhn(house=house)),
    "kuhn match": lambda house: open_table(Kuhn(rounds=5, reward="winner", house=house)),
    "negotiation": lambda house: open_table(Negotiation(house=house)),
    "games": lambda house: games_task(Games(kuhn=Kuhn(house=house), tictactoe=TicTacToe(house=house))),
}
words = st.one_of(
    st.sampled_from([*"123456789", "check", "bet", "call", "fold", "[accept]", "[offer 1 wheat for 1 ore]"]), st.text()
)


def episode(task: Task[Any], example: Example, said: Sequence[str]) -> list[Step[Any]]:
    state, steps = task.reset(example), list[Step[Any]]()
    for text in said:
        (agent,) = task.acting(state)
        step = task.step(state, {agent: text})
        assert task.step(state, {agent: text}) == step, "not pure"
        steps.append(step)
        if step.ending:
            break
        state = step.state
    return steps


def first_example(task: Task[Any], **data: Any) -> Example:
    return next(e for e in task.examples("train") if all(e.data.get(key) == value for key, value in data.items()))


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("against", ["self", "random"])
@settings(max_examples=25)
@given(said=st.lists(words, min_size=40, max_size=40), place=st.integers(0, 200))
def test_what_one_wins_the_other_loses(name: str, against: Any, said: list[str], place: int) -> None:
    task = GAMES[name](replace(HOUSE, train_against=against))
    examples = task.examples("train")
    steps = episode(task, examples[place % len(examples)], said)
    assert all(step.rewards["first"] + step.rewards["second"] == 0 for step in steps)
    assert len(steps) <= task.horizon and steps[-1].ending
    total = sum(step.rewards["first"] for step in steps)
    assert abs(total) <= task.best_return + 4 * HOUSE.penalty


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("house", [House(), HOUSE, House(train_against="random")])
def test_every_table_keeps_the_contract(name: str, house: House) -> None:
    task = GAMES[name](house)
    assert rewards_of(task) == "zero-sum" and task.agents == PLAYERS
    for answer in ("An answer.", "1", "[deny]"):
        check_task(task, answer=answer)


@pytest.mark.parametrize("name", ["tictactoe", "kuhn", "negotiation", "games"])
def test_the_catalog_has_them(name: str) -> None:
    with TASKS[name].open(TASKS[name].config) as task:
        assert task.name == name
        assert {"win", "return_percent"} <= set(last(task, task.examples("test")[0], "1").metrics)


def last(task: Task[Any], example: Example, answer: str) -> Step[Any]:
    return episode(task, example, [answer] * task.horizon)[-1]


def test_a_won_game_by_hand() -> None:
    task = open_table(TicTacToe())
    steps = episode(task, first_example(task, board="." * 9), ["1", "4", "2", "5", "3"])
    assert [step.rewards["first"] for step in steps] == [0, 0, 0, 0, 1]
    assert steps[-1].ending == "solved"
    assert steps[-1].metrics == {"legal": 100, "first_wins": 100, "second_wins": 0, "draw": 0}
    assert steps[-1].details == {"game": "tictactoe"}


def test_a_draw_is_nobodys() -> None:
    task = open_table(TicTacToe())
    steps = episode(task, first_example(task, board="." * 9), list("152378649"))
    assert (steps[-1].ending, steps[-1].rewards, steps[-1].metrics["draw"]) == (
        "horizon",
        {"first": 0, "second": 0},
        100,
    )


def test_an_illegal_answer_loses_the_stake_and_the_penalty() -> None:
    task = open_table(Kuhn())
    (step,) = episode(task, task.examples("train")[0], ["I pass"])
    assert (step.rewards, step.ending) == ({"first": -2.5, "second": 2.5}, "failed")
    assert step.metrics == {"legal": 0, "first_wins": 0, "second_wins": 100, "draw": 0}


def test_answers_are_taken_back_as_often_as_the_house_says() -> None:
    task = open_table(TicTacToe(house=HOUSE))
    steps = episode(task, first_example(task, board="." * 9), ["x", "1", "1", "y", "again"])
    assert [step.rewards["second"] for step in steps] == [0.25, 0, -0.25, -1.25]
    assert [step.ending for step in steps] == ["", "", "", "failed"]
    assert steps[-1].metrics["legal"] == 25
    (prompt,) = task.observe(steps[0].state, "first", ())
    assert prompt.content.startswith("That was no legal move. Try again.\nTic-tac-toe. You are X.")
    assert task.acting(steps[2].state) == ("second",)


def test_against_an_opponent_every_deal_is_played_from_both_seats() -> None:
    task = open_table(Kuhn())
    examples = task.examples("test")
    assert [example.id for example in examples[:3]] == [
        "kuhn-test-0-first",
        "kuhn-test-0-second",
        "kuhn-test-1-first",
    ]
    assert [task.acting(task.reset(example)) for example in examples[:4]] == [("first",), ("second",)] * 2
    assert examples[0].data["deals"] == examples[1].data["deals"]


def test_a_game_against_an_opponent_by_hand() -> None:
    """The equilibrium player opens with a king: it always bets, and calling with a jack loses two chips."""
    task = open_table(Kuhn(house=House(test_against="optimal")))
    example = next(e for e in task.examples("test") if e.data["deals"] == ["KJ"] and e.data["seat"] == "second")
    state = task.reset(example)
    assert "They bet." in task.observe(state, "second", ())[0].content
    step = task.step(state, {"second": "call"})
    assert (step.rewards, step.ending) == ({"first": 2, "second": -2}, "solved")
    assert step.metrics == {"win": 0, "draw": 0, "loss": 100, "win_as_second": 0, "legal": 100, "return_percent": 0}
    folded = task.step(state, {"second": "fold"})
    assert (folded.rewards["second"], folded.metrics["return_percent"]) == (-1, 25)
    illegal = task.step(state, {"second": "?"})
    assert (illegal.rewards["second"], illegal.metrics["return_percent"]) == (-2.5, 0)


def test_the_opponents_moves_are_a_function_of_the_example() -> None:
    task = open_table(TicTacToe(opening=0))
    seconds = [example for example in task.examples("test") if example.data["seat"] == "second"]
    opened = [task.reset(example) for example in seconds]
    assert opened == [task.reset(example) for example in seconds]
    assert len({state.game_state.position for state in opened}) == 9, "a random player opens in every square"


def say(answer: Callable[[GenerationRequest], str]) -> Callable[[Sequence[GenerationRequest]], list[Completion]]:
    return lambda wanted: [Completion(answer(one)) for one in wanted]


def test_evaluation_shows_strength() -> None:
    """Against a random player the perfect one never loses; another random one comes to about a half."""
    game = TicTacToe()
    task = open_table(game)
    scores = {}
    for name, player in (("perfect", game.optimal), ("random", random_player)):
        speak = say(lambda one, player=player: player(one.prompt, one.seed))  # type: ignore[misc]
        setup = EvalSetup(task, Parallel(), task.examples("test"), speak, judge_of(task))
        scores[name], _ = evaluate(setup, timed_examples=0)
    assert scores["perfect"].components["loss"] == 0 and scores["perfect"].return_percent > 85
    assert 40 < scores["random"].return_percent < 60
    seats = [scores["random"].components[f"win_as_{seat}"] for seat in PLAYERS]
    assert fmean(seats) == pytest.approx(scores["random"].components["win"])
    assert scores["random"].components["legal"] == 100


def test_a_mixture_has_as_much_of_every_game_and_names_it() -> None:
    task = games_task(Games())
    for split in ("train", "test"):
        games = [example.data["game"] for example in task.examples(split)]
        assert games[:4] == ["tictactoe", "kuhn", "negotiation", "tictactoe"]
        assert len(games) == 3 * games.count("kuhn")
    for example in task.examples("test")[:6]:
        step = last(task, example, "1")
        name = example.data["game"]
        assert step.details["game"] == name
        assert step.metrics[f"return_percent_{name}"] == step.metrics["return_percent"]
    assert task.horizon == 15


def test_moves_that_a_prompt_lists_are_legal() -> None:
    for game in (TicTacToe(), Kuhn(), Negotiation()):
        table: Any = open_table(game)  # type: ignore[arg-type]
        for example in table.examples("train")[:12]:
            position = game.start(example.data)
            moves = moves_shown((Message("user", game.observation(position)),))  # type: ignore[arg-type]
            assert len(moves) >= 2
            assert all(game.play(position, move) is not None for move in moves)  # type: ignore[arg-type]


def test_a_player_in_another_task_says_so() -> None:
    with pytest.raises(TaskError, match="expected a prompt with a line 'Moves:"):
        moves_shown((Message("user", "Write a poem."),))


SETTINGS: Mapping[str, Callable[[], object]] = {
    "task.house.retries": lambda: House(retries=-1),
    "task.house.penalty": lambda: House(penalty=float("inf")),
    "task.games": lambda: Games(games=("kuhn", "kuhn")),
    "negotiation: no optimal player": lambda: open_table(Negotiation(house=House(test_against="optimal"))),
}


@pytest.mark.parametrize("complaint", SETTINGS)
def test_settings_that_cannot_work_are_refused(complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SETTINGS[complaint]()
