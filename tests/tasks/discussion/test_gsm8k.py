"""Answering together: who sees what in each round, and what it earns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.data import DATA
from madrigal.rollouts.task import check_task
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.gsm8k import Dialog, Gsm8k, Gsm8kTask, gsm8k_task
from madrigal.tasks.discussion.prompts import question_prompt
from madrigal.types import Completion, ConfigError, Example, TaskError, Turn

EXAMPLE = Example("eggs", {"question": "3 + 4?", "answer": "3 + 4 = 7\n#### 7"})
AGENTS = ("first", "second", "third")


def test_the_joint_reward_is_the_share_of_right_answers() -> None:
    task = gsm8k_task(Gsm8k(agents=AGENTS))
    said = {"first": "The answer is 7.", "second": "It is 8", "third": "So 3 + 4 = 7.0"}
    step = task.step(task.reset(EXAMPLE), said)
    assert step.rewards == dict.fromkeys(AGENTS, 2 / 3)
    assert step.metrics == {
        "accuracy": pytest.approx(200 / 3),
        "majority_accuracy": 100.0,
        "return_percent": pytest.approx(200 / 3),
    }
    assert step.ending == "horizon"
    assert step.details == {"answers": ["7", "8", "7"], "reference": "7"}


def test_a_wrong_majority_earns_the_minority_share() -> None:
    task = gsm8k_task(Gsm8k(agents=AGENTS))
    step = task.step(task.reset(EXAMPLE), {"first": "8", "second": "7", "third": "8"})
    assert (step.rewards["second"], step.metrics["majority_accuracy"]) == (1 / 3, 0.0)


def test_later_rounds_show_all_earlier_answers() -> None:
    task = gsm8k_task(Gsm8k(agents=AGENTS, rounds=2))
    begin = task.step(task.reset(EXAMPLE), {"first": "eight", "second": "seven", "third": "nine"})
    assert begin.ending == ""
    question, own, others = task.observe(begin.state, "second", ())
    assert question.content == question_prompt("3 + 4?")
    assert (own.role, own.content) == ("assistant", "seven")
    assert others.role == "user"
    assert others.content.startswith("The first agent answered: eight\n\nThe third agent answered: nine\n\nCompare")
    end = task.step(begin.state, dict.fromkeys(AGENTS, "7"))
    assert (end.ending, end.rewards["first"]) == ("horizon", 1.0)


def test_words_of_this_round_are_shown_after_the_question() -> None:
    task = gsm8k_task()
    heard = (Turn("first", (), Completion("7")), Turn("second", (), Completion("8")))
    (message,) = task.observe(task.reset(EXAMPLE), "second", heard)
    shown = question_prompt("3 + 4?")
    assert message.content == f"{shown}\n\nThe first agent answered: 7\n\nYou answered: 8"


def test_states_are_values() -> None:
    task = gsm8k_task(Gsm8k(rounds=3))
    start = task.reset(EXAMPLE)
    one, two = (task.step(start, {"first": text, "second": text}) for text in ("7", "8"))
    assert start == Dialog(EXAMPLE)
    assert one.state.answers == (("7", "7"),)
    assert two.state.answers == (("8", "8"),)


def test_a_reference_without_a_number_is_an_error() -> None:
    task = gsm8k_task()
    state = task.reset(Example("odd", {"question": "Why?", "answer": "Because."}))
    with pytest.raises(TaskError, match=r"example odd: expected a reference answer with a number"):
        task.step(state, {"first": "1", "second": "1"})


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="one or more agents with different names"):
        Gsm8k(agents=("a", "a"))
    with pytest.raises(ConfigError, match="at least 1 round, got 0"):
        Gsm8k(rounds=0)


@pytest.mark.parametrize("config", [Gsm8k(), Gsm8k(agents=("only",), rounds=3)])
def test_the_embedded_problems_keep_the_contract(config: Gsm8k) -> None:
    pytest.importorskip("madrigal.tasks.embedded.arithmetic")
    check_task(Gsm8kTask(config))


def test_own_files_keep_the_contract(tmp_path: Path) -> None:
    rows = [json.dumps({"q": f"{i} + 1?", "a": i + 1}) for i in range(5)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    task = gsm8k_task(Gsm8k(Source(str(tmp_path / "sums.jsonl")), question="q", answer="a", rounds=2))
    check_task(task)
    state = task.reset(task.examples("test")[0])
    assert task.step(state, {"first": "5", "second": "The answer is 5."}).rewards["first"] == 1.0


@pytest.mark.skipif(not (DATA / "gsm8k_train.jsonl").exists(), reason="the GSM8K files are not here")
def test_reference_answers_earn_everything() -> None:
    task = gsm8k_task(Gsm8k(Source(str(DATA / "gsm8k_{split}.jsonl"))))
    examples = [*task.examples("train"), *task.examples("test")]
    assert len(examples) == 1200
    for example in examples:
        said = dict.fromkeys(task.agents, example.data["answer"])
        assert task.step(task.reset(example), said).rewards == {"first": 1.0, "second": 1.0}
