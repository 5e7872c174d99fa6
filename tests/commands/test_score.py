"""Scoring given answers without any model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes.command_line import write
from madrigal import cli

SHORT = "My dog ate the homework, so I had to explain it all to my teacher."
LONG = (
    "The writer came home late, and because nobody had fed it the hungry dog found a notebook on the table and slowly "
    "chewed through every single page of an essay. However, it was sorry."
)
PROBLEM = {
    "task_id": "t/0",
    "prompt": 'def square_up(x: int) -> int:\n    """Square x and add one."""\n',
    "entry_point": "square_up",
    "test": "def check(candidate):\n    assert candidate(2) == 5\n    assert candidate(3) == 10\n",
}
AUX = "def aux(x):\n    return x * x"
MAIN = "def square_up(x):\n    y = aux(x)\n    return y + 1"


pytestmark = pytest.mark.usefixtures("empty_folder")


def scored(task: str, data: list[Any], answers: list[Any], *more: str) -> list[dict[str, Any]]:
    files = ["--data", write("data.jsonl", *data), "--answers", write("answers.jsonl", *answers)]
    assert cli.run(["score", task, *files, "--output", "out.jsonl", *more]) == 0
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def test_summaries_come_back_with_reward_and_components() -> None:
    answers = [
        {"id": "a", "answers": {"concise": SHORT, "detailed": LONG}, "run": 7},
        {"id": "a", "answers": {"concise": "", "detailed": ""}},
    ]
    good, empty = scored("tldr", [{"id": "a", "prompt": "My dog."}, {"id": "b", "prompt": "My cat."}], answers)
    assert (good["id"], good["run"], good["answers"]) == ("a", 7, answers[0]["answers"])
    assert 0 <= empty["reward"] < good["reward"] <= 3
    assert {"structure", "consistency", "coherence", "words/concise"} <= set(good["components"])
    assert good["components"]["words/concise"] == 15 and good["length_ratio"] > 1


def test_summaries_are_held_against_their_source_and_a_given_one() -> None:
    """Of each text's three content words the source has two; and ROUGE-1 is that of 3 words in 3."""
    data = [{"id": "a", "text": "My dog slept at home.", "tldr": "dog slept loudly"}]
    answers = [{"id": "a", "answers": {"concise": "dog slept loudly", "detailed": "dog slept loudly"}}]
    (row,) = scored("tldr", data, answers, "--column", "text", "--reference", "tldr")
    assert round(row["components"]["faithfulness"], 9) == round(200 / 3, 9) and row["unsupported"] == ["loudly"]
    assert row["components"]["rouge1"] == 100 == row["components"]["rouge2"]


def test_transitions_of_a_file_judge_coherence() -> None:
    write("transitions.json", {"time": ["as"], "condition": ["if"]})
    answers = [{"id": "a", "answers": {"concise": SHORT, "detailed": "It was a gift."}}]
    (row,) = scored("tldr", [{"id": "a", "prompt": "x"}], answers, "--transitions", "transitions.json")
    assert round(row["components"]["coherence"], 9) == 45


def test_a_row_without_an_id_goes_by_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    data = write("data.jsonl", {"prompt": "My dog."}, {"prompt": "My cat."})
    answers = write("answers.jsonl", {"id": 1, "answers": {"concise": SHORT, "detailed": LONG}})
    assert cli.run(["score", "tldr", "--data", data, "--answers", answers]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["id"] == "1"


def test_programs_come_back_with_the_verdict_of_every_test() -> None:
    wrong = MAIN.replace("+ 1", "+ 1 + (x == 3)")
    answers = [{"id": "t/0", "answers": {"helper": AUX, "main": main}} for main in (MAIN, wrong, "def")]
    best, half, broken = scored("coding", [PROBLEM], answers, "--unconfined")
    assert best["reward"] > half["reward"] > broken["reward"] and best["reward"] == 4.0
    assert (best["components"]["tests"], half["components"]["tests"]) == (100, 50)
    assert [test["outcome"] for test in best["verdicts"]] == ["passed", "passed"]
    assert [test["outcome"] for test in half["verdicts"]] == ["passed", "failed"]
    assert broken["verdicts"] == []


@pytest.mark.parametrize(
    ("answers", "hint"),
    [
        ([{"id": "a"}], "row 1: expected an id and answers keyed by agent, found id"),
        ([{"id": "c", "answers": {"concise": "", "detailed": ""}}], "no example 'c' in the data; ids start with 'a'"),
        ([{"id": "a", "answers": {"concise": ""}}], "expected answers of concise, detailed, found concise"),
        ([{"id": "a", "answers": {"concise": "", "detailed": 3}}], "every answer must be a text"),
        ([], "expected at least one row, found none"),
    ],
)
def test_bad_answers_are_one_line(capsys: pytest.CaptureFixture[str], answers: list[Any], hint: str) -> None:
    files = ["--data", write("data.jsonl", {"id": "a", "prompt": "x"}), "--answers", write("answers.jsonl", *answers)]
    assert cli.run(["score", "tldr", *files]) == 2
    err = capsys.readouterr().err
    assert hint in err and err.startswith("madrigal: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("task", "rows", "hint"),
    [
        ("coding", [{"prompt": "p", "test": "t"}], "row 0: expected the columns entry_point for coding, found prompt"),
        ("gsm8k", [{"question": "q"}], "row 0: expected the columns answer for gsm8k"),
        ("tldr", [{"id": "a"}, {"id": "b"}, {"id": "a"}], "data.jsonl: rows 0 and 2 both go by the id 'a'"),
        ("tldr", [{"id": "test-1"}, {}], "data.jsonl: rows 0 and 1 both go by the id 'test-1'"),
    ],
)
def test_bad_data_is_one_line(capsys: pytest.CaptureFixture[str], task: str, rows: list[Any], hint: str) -> None:
    files = ["--data", write("data.jsonl", *rows), "--answers", write("answers.jsonl", {"id": "0", "answers": {}})]
    assert cli.run(["score", task, *files, "--unconfined"]) == 2
    err = capsys.readouterr().err
    assert hint in err and err.count("\n") == 1


def test_time_limits_of_code_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--test-seconds", "--program-seconds"):
        assert cli.run(["score", "coding", "--data", "embedded", "--answers", "none.jsonl", flag, "0"]) == 2
        assert f"task.{flag[2:].replace('-', '_')}: expected seconds above 0" in capsys.readouterr().err
