"""Labelled answers: how a model is helped and misled, and that every question gets as many right as wrong ones."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.tiny import load
from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.tasks.discussion.verifier import Question, exact
from madrigal.types import ConfigError, Message, TaskError
from madrigal.verifier.data import Ask, Journal, Row, Say, check_apart, counted, load_rows, write_rows
from madrigal.verifier.gathering import (
    ERR,
    Gathering,
    balanced,
    gather,
    helped,
    misled,
    plain,
    restyled,
    slipped,
    steps,
)

ASKED = Question("How many?", "12+5=17. 17*2=34.\n#### 34")
EASY, HARD = Question("easy 1+1?", "1+1=2.\n#### 2"), Question("hard 6*7?", "6*7=42.\n#### 42")
SMALL = Gathering(samples=6, each=2, tries=4, aid="beginning")


class Model:
    """Knows easy questions and fails hard ones, unless an answer is begun for it: then it takes the last result."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ask, float]] = []

    def __call__(self, asks: Sequence[Ask], temperature: float) -> list[str]:
        self.asked += [(ask, temperature) for ask in asks]
        return [self.answer(ask) for ask in asks]

    def answer(self, ask: Ask) -> str:
        begun = ask.prompt[-1].content if ask.prompt[-1].role == "assistant" else ""
        if begun:
            return f"{begun} The answer is {re.findall(r'[0-9]+', begun)[-1]}."
        return "1+1=2. The answer is 2." if "easy" in ask.prompt[0].content else "6*7=13. The answer is 13."


def test_every_question_has_as_many_right_as_wrong_answers() -> None:
    rows = gather({"e": EASY, "h": HARD}, Model(), SMALL)
    assert Counter((row.id, row.right, row.way) for row in rows) == {
        ("e", True, "plain"): 2,
        ("e", False, "err"): 2,
        ("h", True, "hint"): 2,
        ("h", False, "plain"): 2,
    }
    for row in rows:
        truth = {"e": EASY, "h": HARD}[row.id]
        assert row.right == (exact(truth, [row.answer]) == [1.0])


def test_what_does_not_come_out_as_aimed_is_not_kept() -> None:
    """Help that leads to a wrong answer, and a push that leads to a right one, are no plain answers."""

    def stubborn(asks: Sequence[Ask], temperature: float) -> list[str]:
        return ["The answer is 2." if ask.seed % 2 else "The answer is 3." for ask in asks]

    found = gather({"e": EASY}, stubborn, Gathering(samples=4, each=20, tries=30, aid="beginning"))
    assert {(row.way, row.right) for row in found} >= {("hint", True), ("err", False)}
    assert not {(row.way, row.right) for row in found} & {("hint", False), ("err", True)}


def test_a_question_that_gives_one_kind_only_is_left_out() -> None:
    rows = gather({"e": EASY, "h": HARD}, Model(), Gathering(samples=3, each=2, tries=0))
    assert rows == []


def test_only_as_many_as_the_rarer_kind_has() -> None:
    def rarely(asks: Sequence[Ask], temperature: float) -> list[str]:
        return [f"The answer is {2 if ask.seed % 4 == 0 else 3}." for ask in asks]

    rows = gather({"e": EASY}, rarely, Gathering(samples=12, each=10, tries=0))
    right = sum(row.right for row in rows)
    assert 0 < right < 10 and len(rows) == 2 * right


def test_answers_without_a_result_are_not_kept() -> None:
    def mute(asks: Sequence[Ask], temperature: float) -> list[str]:
        return ["I do not know."] * len(asks)

    assert gather({"e": EASY}, mute, SMALL) == []


def test_how_often_and_how_warm_a_model_is_asked() -> None:
    model = Model()
    gather({"e": EASY, "h": HARD}, model, SMALL)
    assert sum(ask.prompt[-1].role == "user" for ask, _ in model.asked) == 6 * 2
    warm = {temperature for _, temperature in model.asked}
    assert len(warm) > 6 and all(1.3 <= t <= 1.5 for t in warm)
    seeds = [ask.seed for ask, _ in model.asked]
    assert len(set(seeds)) == len(seeds)


def test_the_same_seed_gathers_the_same() -> None:
    assert gather({"e": EASY, "h": HARD}, Model(), SMALL) == gather({"e": EASY, "h": HARD}, Model(), SMALL)


def test_different_words_come_first() -> None:
    same, other = (Row("e", "q", text, True) for text in ("a", "b"))
    wrong = [Row("e", "q", str(n), False) for n in range(2)]
    for seed in range(5):
        kept = balanced({True: [same, same, same, other], False: wrong}, 2, seed)
        assert {row.answer for row in kept if row.right} == {"a", "b"}


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(0, 99))
def test_balance_holds_for_any_pool(num_right: int, num_wrong: int, each: int, seed: int) -> None:
    pool = {True: [Row("e", "q", "x", True)] * num_right, False: [Row("e", "q", "y", False)] * num_wrong}
    kept = balanced(pool, each, seed)
    assert [row.right for row in kept].count(True) == [row.right for row in kept].count(False) == len(kept) / 2
    assert len(kept) == 2 * min(num_right, num_wrong, each)


def test_rewriting_keeps_results() -> None:
    """What comes back with another result is not taken."""

    def rewriter(asks: Sequence[Ask], temperature: float) -> list[str]:
        rewriting = [ask.prompt[0].content.startswith("Write the solution below") for ask in asks]
        if not any(rewriting):
            return Model()(asks, temperature)
        return ["Well. The answer is 2." for _ in asks]

    rows = gather(
        {"e": EASY, "h": HARD}, rewriter, Gathering(samples=6, each=2, tries=4, aid="beginning", rewrite=True)
    )
    assert {row.answer for row in rows if row.id == "e" and row.right} == {"Well. The answer is 2."}
    assert all("The answer is 2." not in row.answer for row in rows if not row.right)


def test_help_gives_one_more_step_with_every_attempt() -> None:
    begun = [helped(ASKED, "beginning", n)[-1] for n in range(3)]
    assert begun == [
        Message("assistant", "12+5=17."),
        Message("assistant", "12+5=17. 17*2=34."),
        Message("assistant", "12+5=17."),
    ]
    assert helped(ASKED, "beginning", 0)[0] == plain(ASKED)[0] == Message("user", question_prompt("How many?"))


def test_a_push_changes_the_result_of_one_step() -> None:
    for seed in range(20):
        begun = misled(ASKED, "beginning", random.Random(seed))[-1].content
        assert begun not in ("12+5=17.", "12+5=17. 17*2=34.")
        assert re.fullmatch(r"12\+5=\d+\.|12\+5=17\. 17\*2=\d+\.", begun)


def test_instructed_models_are_told() -> None:
    (right,), (wrong,) = helped(ASKED, "instruction", 0), misled(ASKED, "instruction", random.Random(0))
    assert "A right solution, for your eyes only: 12+5=17." in right.content
    assert ERR in wrong.content and "34" not in wrong.content
    for message in (right, wrong):
        assert message.content.endswith("End with: The answer is N.")


def test_steps_of_worked_answers() -> None:
    assert steps("A sold 48/2 = <<48/2=24>>24 clips.\nIn all 48+24 = <<48+24=72>>72.\n#### 72") == [
        "A sold 48/2 = 24 clips.",
        "In all 48+24 = 72.",
    ]
    assert steps("7") == ["7"]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_slip_is_never_the_same_number(value: int, seed: int) -> None:
    after = slipped(f"so it is {value}.", random.Random(seed))
    number = int(re.findall(r"\d+", after)[0])
    assert number != value and abs(number - value) <= 5 and number >= 0
    assert slipped("none here.", random.Random(seed)) == "none here."


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("12+5=17.\nSo, the answer is 17!", "12+5=17. The answer is 17."),
        ("We get \\boxed{17}. Done.", "We get The answer is 17."),
        ("#### 17", "The answer is 17."),
        ("It makes 17", "It makes 17 The answer is 17."),
        ("a\n\n  b. The answer is 17.", "a b. The answer is 17."),
    ],
)
def test_answers_close_in_one_way(text: str, style: str) -> None:
    assert restyled(text, Question("?")) == style


# Files


def test_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    rows = [Row("a", "q?", "x", True), Row("b", "q?", "ja, é", False, "err", ("ja", "nein"))]
    write_rows(rows, tmp_path / "deep" / "rows.jsonl")
    assert load_rows(tmp_path / "deep" / "rows.jsonl") == rows


def test_rows_of_others_need_no_way(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "question": "q", "answer": "x", "right": true}\n')
    assert load_rows(tmp_path / "rows.jsonl") == [Row("a", "q", "x", True)]


@pytest.mark.parametrize(
    "row", [{"id": "a"}, {"right": 1}, {"way": "magic"}, {"question": None}, {"answer": 7}, {"choices": "ja"}]
)
def test_a_row_that_is_none_is_one_line(row: dict[str, Any], tmp_path: Path) -> None:
    good = {"id": "a", "question": "q", "answer": "x", "right": True}
    bad = row if "id" in row else good | row
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    with pytest.raises(TaskError, match=r"rows.jsonl, row 2: expected the texts id, question and answer, and right as"):
        load_rows(tmp_path / "rows.jsonl")


def test_a_check_on_training_questions_is_refused() -> None:
    rows = [Row("a", "q?", "x", True)]
    check_apart(rows, [Row("b", "other?", "x", True)])
    with pytest.raises(TaskError, match="1 held-out questions are in the training data too, 'q"):
        check_apart(rows, rows)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"each": 0}, {"tries": -1}, {"low": 0.0}, {"low": 2.0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="verifier data: expected"):
        Gathering(**settings)


def test_a_prompt_that_ends_with_the_assistant_s_words_is_gone_on_with(model_folder: Path) -> None:
    speaker = load(model_folder)
    for chat_template in (True, False):
        speaker.chat_template = chat_template
        asked, begun = (
            speaker.tokenizer.decode(speaker.encode(m)) for m in (plain(ASKED), helped(ASKED, "beginning", 0))
        )
        assert begun.startswith(asked) and begun.removeprefix(asked).strip() == "12+5=17."


# Stopped and resumed


def stopping(model: Model, after: int) -> Say:
    """A model that is stopped after so many answers."""

    def say(asks: Sequence[Ask], temperature: float) -> list[str]:
        if len(model.asked) + len(asks) > after:
            raise KeyboardInterrupt
        return model(asks, temperature)

    return say


def test_a_gathering_that_was_stopped_goes_on_without_asking_again(tmp_path: Path) -> None:
    questions, file = {"e": EASY, "h": HARD}, tmp_path / "rows.jsonl"
    whole, first, second = Model(), Model(), Model()
    expected = gather(questions, whole, SMALL)
    journal = Journal(file, {"seed": 0}, resume=False)
    with pytest.raises(KeyboardInterrupt):
        gather(questions, journal.recording(stopping(first, 9)), SMALL)
    with pytest.raises(ConfigError, match="add --resume, or remove it"):
        Journal(file, {"seed": 0}, resume=False)
    with pytest.raises(ConfigError, match="begun with other settings"):
        Journal(file, {"seed": 1}, resume=True)
    with journal.path.open("a") as stream:
        stream.write('"cut o')
    journal = Journal(file, {"seed": 0}, resume=True)
    assert journal.count == len(first.asked) == 8
    assert gather(questions, journal.recording(second), SMALL) == expected
    assert [*first.asked, *second.asked] == whole.asked
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_how_far_it_is_and_how_long_it_will_take() -> None:
    now, lines = [0.0], list[str]()

    def slow(asks: Sequence[Ask], temperature: float) -> list[str]:
        now[0] += 3.0 * len(asks)
        return ["x"] * len(asks)

    say = counted(slow, 40, lines.append, lambda: now[0])
    for _ in range(21):
        say([Ask((), 0)] * 2, 1.0)
    assert lines[0] == "2 of 40 plain answers, in 0:06; about 1:54 left for these"
    assert len(lines) == 11 and lines[-1].startswith("42 answers, in 2:06; helping")
