"""Building letters on a grid: what answers place, what a grid is worth, and what is held out."""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.compare.contenders import alone, one_round
from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.topology import Sequential
from madrigal.tasks.building.grid import placements, scores_of, spelled
from madrigal.tasks.building.letters import HEIGHT, HELD_OUT, SEEN, Cell, cells_of, examples, width_of
from madrigal.tasks.building.task import Build, Building, BuildTask
from madrigal.tasks.catalog import open_task
from madrigal.tasks.splits import with_validation
from madrigal.types import Completion, ConfigError, Example, Message, Step, Turn

ONE, TWO = "builder_1", "builder_2"
TASK = BuildTask(Build())
L = Building("L")  # A1 to A5, B5, C5; each may fill two a turn


def named(cells: Sequence[Cell], color: str) -> str:
    return " ".join(f"{spelled(cell)}{color}" for cell in cells)


def step(task: BuildTask, state: Building, one: str = "", two: str = "") -> Step[Building]:
    return task.step(state, {ONE: one, TWO: two})


def shown(task: BuildTask, state: Building, agent: str = ONE) -> str:
    (message,) = task.observe(state, agent, ())
    return message.content


def played(task: BuildTask, word: str, answers: Sequence[Mapping[str, str]]) -> list[Step[Building]]:
    state, steps = task.reset(Example("x", {"word": word})), list[Step[Building]]()
    for answer in answers:
        steps.append(task.step(state, answer))
        state = steps[-1].state
        if steps[-1].ending:
            break
    return steps


# The grid


def test_worth_by_hand() -> None:
    """Of 7 wanted cells 3 are filled, and 1 beside: 3 / 8; of 3 neighboring pairs 1 has one color."""
    (first,) = played(TASK, "L", [{ONE: "A1r A2r", TWO: "A3b B1w"}])
    assert first.metrics == {
        "iou": 37.5,
        "coverage": pytest.approx(300 / 7),
        "equal_neighbors": pytest.approx(100 / 3),
        "extra": 1,
        "conflicts": 0,
        "return_percent": pytest.approx(37.5 - 50 / 3),
    }
    assert first.rewards == dict.fromkeys((ONE, TWO), pytest.approx(0.375 - 1 / 6))
    assert first.details == {"word": "L", "grid": ["rw.", "r..", "b..", "#..", "###"]}


def test_an_empty_grid_is_worth_nothing() -> None:
    (first,) = played(TASK, "L", [{ONE: "I would rather not.", TWO: ""}])
    assert first.rewards == {ONE: 0, TWO: 0} and first.ending == ""


def chess_board(task: BuildTask, word: str) -> list[dict[str, str]]:
    """Two builders with a color each on the cells of their parity, as many a turn as are allowed."""
    state, turns = task.reset(Example("x", {"word": word})), list[dict[str, str]]()
    sides = [sorted(cell for cell in cells_of(word) if sum(cell) % 2 == n) for n in range(2)]
    limit = task._limit(state)
    for turn in range(task.horizon):
        now = slice(turn * limit, (turn + 1) * limit)
        turns.append({ONE: named(sides[0][now], "r"), TWO: named(sides[1][now], "b")})
    return turns


@pytest.mark.parametrize("pays", ["each", "last"])
def test_a_team_that_alternates_colors_earns_everything(pays: str) -> None:
    for turns, word in itertools.product((2, 3, 4, 8), ("L", "IM", "PGQ")):
        task = BuildTask(Build(turns=turns, pays=pays, cells=0 if turns > 2 else 20))  # type: ignore[arg-type]
        steps = played(task, word, chess_board(task, word))
        assert steps[-1].ending == "solved", (turns, word)
        assert sum(each.rewards[ONE] for each in steps) == pytest.approx(1)
        if pays == "last":
            assert all(each.rewards[ONE] == 0 for each in steps[:-1])


def test_one_color_costs_half_and_without_a_weight_nothing() -> None:
    whole = {ONE: named(sorted(cells_of("L")), "r"), TWO: ""}
    (one,) = played(BuildTask(Build(cells=9)), "L", [whole])
    (other,) = played(BuildTask(Build(cells=9, weight=0)), "L", [whole])
    assert (one.rewards[ONE], one.ending) == (0.5, "") and (other.rewards[ONE], other.ending) == (1, "solved")


@given(st.lists(st.tuples(*[st.text("ABCrybwx 123450", max_size=40)] * 2), min_size=4, max_size=4), st.booleans())
def test_the_return_is_what_the_grid_is_worth_in_the_end(said: list[tuple[str, str]], at_once: bool) -> None:
    task = BuildTask(Build(pays="last" if at_once else "each"))
    steps = played(task, "L", [{ONE: one, TWO: two} for one, two in said])
    final = scores_of(steps[-1].state.grid, cells_of("L"))
    assert sum(each.rewards[ONE] for each in steps) == pytest.approx(final.iou - 0.5 * final.equal)
    assert steps[-1].ending in ("solved", "horizon")


@given(st.text(max_size=60))
def test_any_text_is_an_answer(text: str) -> None:
    after = step(TASK, L, text, text).state
    assert set(after.grid) <= {(column, row) for column in range(3) for row in range(HEIGHT)}
    assert set(after.grid.values()) <= set("rybw")


# What an answer places


def test_what_is_no_placement_is_talk() -> None:
    assert placements("A cat sat at 3 pm on B2 grass; A0r, A123r, AA1r, 1Ar, B12w") == [((1, 11), "w")]
    assert placements("A1 B2r") == [((1, 1), "r")]


def test_what_is_refused_is_told_to_who_said_it() -> None:
    after = step(BuildTask(Build(cells=3)), L, "A1b D1r A6y A1r A2r", "B5w").state
    assert after.grid == {(1, 4): "w"}
    refused = "Not placed: A1b (not your color) D1r (outside) A6y (outside) A1r (one too many)"
    assert refused in shown(TASK, after) and "Not placed" not in shown(TASK, after, TWO)
    assert "Not placed" not in shown(TASK, step(TASK, after).state)


def test_the_later_builder_stays_and_both_may_clear() -> None:
    first = step(TASK, L, "A1r A2r", "A1b")
    assert first.state.grid == {(0, 0): "b", (0, 1): "r"} and first.metrics["conflicts"] == 1
    again = step(TASK, first.state, "A1x A1y", "A2x")
    assert again.state.grid == {(0, 0): "y"} and again.metrics["conflicts"] == 1, "counts are of the episode"


# What builders see


def test_what_is_shown_by_each_kind_of_feedback() -> None:
    after = step(TASK, L, "A1r", "C1b").state
    told = shown(TASK, after)
    assert told.splitlines() == [
        "Build L. Turn 2 of 4.",
        "r.b",
        "#..",
        "#..",
        "#..",
        "###",
        "Missing: A2 A3 A4 A5 B5 C5",
        "Too many: C1",
        "You place red (r) or yellow (y).",
        "builder_2 places blue (b) or white (w).",
        "Name up to 2 cells, like A1r B1y, A1x to clear one. No two neighbors of one color.",
    ]
    kinds = ("grid", "own", "none")
    grid, own, none = (shown(BuildTask(Build(feedback=kind)), after) for kind in kinds)  # type: ignore[arg-type]
    assert grid == "\n".join(line for line in told.splitlines() if not line.startswith(("Missing", "Too many")))
    assert (own, none) == (grid.replace("r.b", "r.."), grid.replace("r.b", "#.."))


def test_who_speaks_later_hears_the_others() -> None:
    turn = Turn(ONE, (), Completion("A1r"))
    heard = Sequential().hears(TWO, (turn,))
    (message,) = TASK.observe(L, TWO, heard)
    assert message.content.endswith("\nbuilder_1 said: A1r") and isinstance(message, Message)


def test_there_is_room_for_the_word_at_any_horizon() -> None:
    for builders, turns, word in itertools.product(range(1, 5), range(1, 9), ("I", "MW", "QWE")):
        task = BuildTask(Build(builders=builders, turns=turns))
        need = len(cells_of(word))
        assert need <= task._limit(Building(word)) * builders * turns < need + 2 * builders * turns


# Words


@pytest.mark.parametrize("config", [Build(), Build(turns=1, builders=3), Build(alone=True, turns=8)])
def test_novices_speak_well_and_do_not_divide_the_work(config: Build) -> None:
    """They cover the letters, in their own colors, meet in the same cells, and leave equal neighbors."""
    task = BuildTask(config)
    given = demonstrations_of(with_validation(task))
    assert given == task.demonstrations() and given.keys() == {e.id for e in task.examples("train")}
    assert len({repr(task.novices(task.examples("train")[0], again)) for again in range(4)}) == 4
    finals = []
    for example in task.examples("train")[:60]:
        said = given[example.id]
        rounds = [dict(zip(said, each, strict=True)) for each in zip(*said.values(), strict=True)]
        steps = played(task, example.data["word"], rounds)
        assert len(steps) == len(rounds) and not any(each.state.refused[a] for each in steps for a in task.agents)
        finals.append(steps[-1].metrics)
    assert all(one["extra"] == 0 for one in finals)
    mean = {name: sum(one[name] for one in finals) / len(finals) for name in ("iou", "equal_neighbors", "conflicts")}
    assert mean["iou"] > 60 and mean["equal_neighbors"] > 10
    assert (mean["conflicts"] > 1) == (len(task.agents) > 1)


def test_letters_differ_and_fit_their_place() -> None:
    assert len({cells_of(letter) for letter in string.ascii_uppercase}) == 26
    for letter in string.ascii_uppercase:
        assert {0, 2} <= {column for column, _ in cells_of(letter)} <= {0, 1, 2}, letter
        assert {row for _, row in cells_of(letter)} == set(range(HEIGHT)), letter
    assert max(column for column, _ in cells_of("LML")) + 1 == width_of("LML") == 11


def test_what_is_held_out() -> None:
    train, test = ({e.data["word"]: e.data["group"] for e in examples(split, 2)} for split in ("train", "test"))
    assert not train.keys() & test.keys() and len(train) > 250 and len(test) == 96
    assert set("".join(train)) == set(SEEN) and {len(word) for word in train} == {1, 2}
    for word, group in test.items():
        assert (group == "longer") == (len(word) == 3)
        assert (group == "new_letter") == bool(set(word) & set(HELD_OUT))
    assert all(list(test.values()).count(group) == 32 for group in ("new_word", "new_letter", "longer"))
    split = with_validation(TASK)
    words = [{e.data["word"] for e in split.examples(one)} for one in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert len(words[1]) > 30 and not any(one & two for one, two in itertools.combinations(words, 2))


@pytest.mark.parametrize("longest", [1, 3, 5])
def test_words_of_other_lengths_are_held_out_alike(longest: int) -> None:
    train, test = ({e.data["word"]: e.data["group"] for e in examples(split, longest)} for split in ("train", "test"))
    assert not train.keys() & test.keys() and max(map(len, train)) == longest
    assert len(train) > 10 and len(test) == (15 if longest == 1 else 96)
    assert {len(word) for word, group in test.items() if group == "longer"} == {longest + 1}
    assert width_of("W" * (longest + 1)) <= len(string.ascii_uppercase)


def test_results_are_told_by_what_was_held_out() -> None:
    first = TASK.reset(examples("test", 2)[0])
    assert step(TASK, first).metrics["iou/new_word"] == 0
    seen = TASK.reset(examples("train", 2)[0])
    assert not [name for name in step(TASK, seen).metrics if "/" in name]


# Settings


@pytest.mark.parametrize("config", [Build(), Build(builders=4, turns=8, longest=5), Build(turns=1), Build(alone=True)])
def test_the_contract(config: Build) -> None:
    with open_task(config) as task:
        check_task(task)


def test_a_single_builder_has_all_colors() -> None:
    single = alone(Build())
    assert isinstance(single, Build)
    task = BuildTask(single)
    assert task.agents == ("builder",)
    (first,) = played(task, "L", [{"builder": "A1r A2b A3y A4w"}])
    assert first.metrics["iou"] == pytest.approx(300 / 7), "three a turn"
    assert one_round(single) == Build(turns=1, alone=True)


def test_any_word_may_be_asked_for() -> None:
    state = ask(TASK, {"word": "jam"})
    assert shown(TASK, state).startswith("Build JAM. Turn 1 of 4.")
    assert unjudged(TASK, state, {ONE: "A5r"}).state.grid == {(0, 4): "r"}
    with pytest.raises(ConfigError, match="expected a word of the letters A to Z, got 'A4'"):
        ask(TASK, {"word": "a4"})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"builders": 5}, "task.builders: expected 1 to 4, got 5"),
        ({"turns": 0}, "task.turns: expected 1 to 8, got 0"),
        ({"longest": 6}, "task.longest: expected 1 to 5, got 6"),
        ({"cells": -1}, "task.cells: expected 0 or more, got -1"),
        ({"weight": float("nan")}, "task.weight: expected 0 or more, got nan"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Build(**setting)  # type: ignore[arg-type]
