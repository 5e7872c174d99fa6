"""Madrigal from Python and by `ask`: what is trained can be evaluated, asked and played, whoever made the task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import madrigal
from madrigal import ConfigError, Example, SingleRound, cli, evaluate, load_team, train

SMALL: dict[str, Any] = {
    "prompts": 1,
    "quiet": True,
    "algorithm": {"width": 2},
    "evaluation": {"examples": 1, "timed_examples": 0},
    "sampling": {"max_new_tokens": 8},
}
POST = "My dog ate my homework and my teacher does not believe me."


def digits() -> SingleRound:
    return SingleRound(
        name="digits",
        agents=("left", "right"),
        train=(Example("a", {"n": "3"}), Example("b", {"n": "5"})),
        test=(Example("c", {"n": "4"}),),
        prompt=lambda example, agent: f"{agent}: say {example.data['n']}",
        reward=lambda example, said: float(example.data["n"] in said["left"]),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("tldr", tmp_path_factory.mktemp("runs") / "tldr", steps=1, **SMALL).folder


def test_every_name_is_there_and_sorted() -> None:
    assert madrigal.__all__ == sorted(madrigal.__all__) and set(madrigal.__all__) <= set(dir(madrigal))
    assert all(getattr(madrigal, name) is not None for name in madrigal.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        madrigal.nothing  # noqa: B018


def test_importing_madrigal_imports_no_torch() -> None:
    code = "import madrigal, sys; assert not {'torch', 'transformers', 'tyro'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_result_has_evaluations_a_curve_and_a_team(run: Path) -> None:
    result = madrigal.TrainingResult(run, True)
    assert list(result.evaluations) == ["before", "after"]
    assert [record["step"] for record in result.curve] == [0]
    assert set(result.team.answer(POST).answers) == {"concise", "detailed"}


def test_equal_seeds_give_equal_answers(run: Path) -> None:
    team = load_team(run)
    first, again, other = (team.answer(POST, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.text == "\n\n".join(turn["text"] for turn in first.turns)
    assert len(team.answer_many([POST, {"prompt": POST}, {"post": "Another."}])) == 3


@pytest.mark.parametrize(("data", "hint"), [({"title": "x"}, "prompt or post, got title")])
def test_data_that_a_task_does_not_know_is_one_line(run: Path, data: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        load_team(run).answer(data)


def test_a_folder_is_not_overwritten_unless_it_is_said(run: Path) -> None:
    with pytest.raises(ConfigError):
        train("tldr", run, steps=1, **SMALL)


def test_a_task_of_a_notebook_trains_evaluates_answers_and_plays(tmp_path: Path) -> None:
    result = train(digits(), str(tmp_path / "mine"), steps=1, **SMALL | {"prompts": 2})
    assert 0 <= evaluate(result.folder, task=digits()).return_percent <= 100
    assert set(result.team.answer("7").answers) == {"left", "right"}
    assert result.team.play()["example"] == "c"


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stepz"):
        train("tldr", tmp_path / "x", stepz=1)
    result = train("gsm8k", tmp_path / "y", topology="sequential", steps=0, **SMALL)
    assert json.loads((result.folder / "experiment.json").read_text())["topology"]["kind"] == "Sequential"


@pytest.mark.parametrize(
    ("name", "data", "agents"),
    [
        ("gsm8k", "Ada has 3 eggs and buys 4. How many now?", {"first", "second"}),
        ("debate", {"question": "Ada has 3 eggs and buys 4. How many now?"}, {"first", "second"}),
        ("coding", 'def double(x: int) -> int:\n    """Twice x."""\n', {"helper", "main"}),
    ],
)
def test_every_kind_of_team_can_be_asked(tmp_path: Path, name: str, data: Any, agents: set[str]) -> None:
    train(name, tmp_path / name, steps=0, **SMALL)
    answer = load_team(tmp_path / name).answer(data, greedy=True)
    assert set(answer.answers) == agents
    assert len(answer.turns) == (4 if name == "debate" else 2)


def test_ask_answers_a_text_rows_and_the_standard_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["ask", str(run), POST]) == 0
    assert capsys.readouterr().out.startswith("concise:\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": POST}) + "\n\n" + json.dumps("Another post.") + "\n")
    assert cli.run(["ask", str(run), "--input", str(rows), "--seed", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(line["answers"]) for line in lines] == [{"concise", "detailed"}] * 2
    for words, hint in (
        (["ask", str(run)], "expected a text"),
        (["ask", "nowhere", POST], "nowhere"),
        (["ask", str(run), "--input", "none.jsonl"], "found none"),
    ):
        assert cli.run(words) == 2
        assert hint in capsys.readouterr().err
