"""Madrigal from Python and by `ask`: what is trained can be evaluated, asked and played, whoever made the task."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import madrigal
from madrigal import ConfigError, Example, SingleRound, cli, evaluate, load_team, train
from madrigal.rollouts.task.asking import ask
from madrigal.tasks.discussion.debate import Debate, DebateTask

SMALL: dict[str, Any] = {
    "prompts": 1,
    "quiet": True,
    "algorithm": {"width": 2},
    "evaluation": {"examples": 1, "timed_examples": 0},
    "sampling": {"max_new_tokens": 8},
}
DOUBLE = 'def double(x: int) -> int:\n    """Twice x."""\n'
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
    assert tuple(team.iter_turns(POST, seed=1)) == first.turns
    assert first.text == "\n\n".join(turn["text"] for turn in first.turns)
    alone, *_ = team.answer_many([{"post": "Another."}], seed=1)
    *_, among = team.answer_many([POST, Example("x", {"prompt": POST}), {"post": "Another."}], seed=1)
    assert among.answers == alone.answers
    assert team.answer(POST, greedy=True) == team.answer(POST, greedy=True, seed=5)
    assert POST in first.turns[0]["prompt"][-1]["content"]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"title": "x"}, "prompt or post, got title"),
        ({"prompt": " "}, "prompt or post"),
        ("  ", "got nothing"),
        ({}, "got nothing"),
        (None, "got NoneType"),
    ],
)
def test_data_that_a_task_does_not_know_is_one_line(run: Path, data: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        load_team(run).answer(data)


def test_a_folder_is_not_overwritten_unless_it_is_said(run: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        train("tldr", run, steps=1, **SMALL)


def test_a_run_goes_on_with_the_settings_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="found none"):
        train("tldr", resume=True, steps=1)
    train("tldr", "runs/tldr", steps=1, **SMALL)
    seen: list[int] = []
    result = train("tldr", resume=True, steps=2, quiet=True, watch=lambda record: seen.append(record["step"]))
    assert [record["step"] for record in result.curve] == [0, 1]
    assert seen == [1] and not result.stopped and result.team is result.team
    assert result.evaluations["after"].examples == 1


OWN = """
from pathlib import Path
from madrigal import Example, SingleRound
Path("imported").touch()
x, y = Example("x", {"q": "1"}), Example("y", {"q": "2"})
task = SingleRound("words", ("ann", "bob"), (x,), (y,), lambda example, agent: "?", lambda example, said: 0.0)
"""


def test_code_that_a_file_names_is_not_imported_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("words.py").write_text(OWN)
    train("words.py:task", "mine", steps=0, **SMALL)
    text = Path("mine/experiment.json").read_text()
    Path("other.py").write_text(OWN)
    Path("imported").unlink()
    Path("mine/experiment.json").write_text(text.replace("words.py", "other.py"))
    for use in (evaluate, load_team, train, lambda run: train("words.py:task", run, resume=True)):
        with pytest.raises(ConfigError, match="import and run the code"):
            use("mine")
    assert not Path("imported").exists()
    assert evaluate("mine", trust=True).return_percent == 0
    assert Path("imported").exists()


def test_a_team_is_asked_where_its_data_are_gone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Post {n}."}) + "\n" for n in range(5)))
    train("tldr", tmp_path / "run", steps=0, task={"source": {"data": str(rows)}}, **SMALL)
    rows.unlink()
    assert set(load_team(tmp_path / "run", device="cpu").answer("A post.").answers) == {"concise", "detailed"}


def test_a_task_of_a_notebook_trains_evaluates_answers_and_plays(tmp_path: Path) -> None:
    result = train(digits(), str(tmp_path / "mine"), steps=1, **SMALL | {"prompts": 2})
    assert 0 <= evaluate(result.folder, task=digits()).return_percent <= 100
    for use in (evaluate, load_team):
        with pytest.raises(ConfigError, match="hand it over again"):
            use(result.folder)
    with pytest.raises(madrigal.TaskError, match="a task needs name"):
        train(object(), tmp_path / "none")  # type: ignore[arg-type]
    assert set(result.team.answer("7").answers) == {"left", "right"}
    assert result.team.play()["example"] == "c"


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stepz"):
        train("tldr", tmp_path / "x", stepz=1)
    with pytest.raises(ConfigError, match="topology: Sampling"):
        train("tldr", tmp_path / "x", topology=madrigal.Sampling())
    changes = {"team.seats.first.trainable": False, "team.policy.dtype": "float32"}
    source = madrigal.Source.of([{"question": f"{n} + 1?", "answer": f"{n + 1}"} for n in range(5)])
    settings = SMALL | {"algorithm": madrigal.RLOO, "sampling": madrigal.Sampling(max_new_tokens=4)}
    result = train(
        "gsm8k", tmp_path / "y", topology="sequential", task={"source": source}, steps=0, **settings, **changes
    )
    written = json.loads((result.folder / "experiment.json").read_text())
    assert written["topology"]["kind"] == "Sequential" and written["task"]["source"]["data"] == source.data
    assert written["sampling"]["max_new_tokens"] == 4 and written["algorithm"]["name"] == "rloo"
    assert written["team"]["seats"]["first"] == written["team"]["policy"] | {"trainable": False}


@pytest.mark.parametrize(
    ("name", "data", "agents"),
    [
        ("gsm8k", "Ada has 3 eggs and buys 4. How many now?", {"first", "second"}),
        ("debate", {"question": "Ada has 3 eggs and buys 4. How many now?"}, {"first", "second"}),
        ("coding", DOUBLE, {"helper", "main"}),
    ],
)
def test_every_kind_of_team_can_be_asked(tmp_path: Path, name: str, data: Any, agents: set[str]) -> None:
    train(name, tmp_path / name, steps=0, **SMALL)
    answer = load_team(tmp_path / name).answer(data, greedy=True)
    assert set(answer.answers) == agents
    assert len(answer.turns) == (4 if name == "debate" else 2)


@pytest.mark.parametrize(("topology", "turns"), [("sequential", 2), ("discussion", 4), ("coordinated", 8)])
def test_a_team_is_asked_in_the_order_of_speech_that_it_was_trained_in(
    tmp_path: Path, topology: str, turns: int
) -> None:
    train("tldr", tmp_path / "run", steps=0, topology=topology, **SMALL)
    answer = load_team(tmp_path / "run").answer(POST, seed=1)
    assert set(answer.answers) == {"concise", "detailed"} and len(answer.turns) <= turns
    if topology != "coordinated":
        assert len(answer.turns) == turns
        assert answer.turns[0]["text"] in answer.turns[-1]["prompt"][-1]["content"]


def test_a_team_is_asked_in_the_words_that_it_was_trained_in(tmp_path: Path) -> None:
    train("tldr", tmp_path / "run", steps=0, reworded="embedded", **SMALL)
    shown = [turn["prompt"][-1]["content"] for turn in load_team(tmp_path / "run").answer(POST).turns]
    assert all(POST in prompt for prompt in shown)
    assert ["Summarize the post concisely" in prompt for prompt in shown] == [True, False]
    assert ["Summarize the post in detail" in prompt for prompt in shown] == [False, True]


def test_coding_goes_on_where_agents_hear_nothing_of_tests(tmp_path: Path) -> None:
    train("coding-two-turns", tmp_path / "run", steps=0, task={"feedback": "plain"}, **SMALL)
    assert [turn["round"] for turn in load_team(tmp_path / "run").answer(DOUBLE).turns] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["kuhn", "office"])
def test_what_cannot_be_asked_says_why(tmp_path: Path, name: str) -> None:
    train(name, tmp_path / name, steps=0, **SMALL)
    with pytest.raises(ConfigError, match="played"):
        load_team(tmp_path / name).answer("Hello")


def test_ask_answers_a_text_rows_and_the_standard_input(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["ask", str(run), POST]) == 0
    turns = load_team(run).answer(POST).turns
    ends = {"stop": "", "length": " [cut off at the limit]"}
    told = "".join(f"{turn['agent']}:\n{turn['text']}{ends[turn['finish']]}\n\n" for turn in turns)
    assert (answer := capsys.readouterr().out) == told and answer.startswith("concise:\n")
    assert cli.run(["ask", str(run), "--seed", "0", POST]) == 0
    assert capsys.readouterr().out == answer
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": POST, "id": "p7"}) + "\n\n" + json.dumps("Another post.") + "\n")
    assert cli.run(["ask", str(run), "--input", str(rows), "--seed", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(line["answers"]) for line in lines] == [{"concise", "detailed"}] * 2
    assert [line["id"] for line in lines] == ["p7", "test-1"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows.read_text()))
    assert cli.run(["ask", str(run), "--input", "-", "--seed", "3"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines
    monkeypatch.setattr(sys, "stdin", io.StringIO(POST))
    assert cli.run(["ask", str(run), "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["turns"][0]["agent"] == "concise"
    (tmp_path / "rows.csv").write_text("prompt\nA post.\n")
    assert cli.run(["ask", str(run), "--input", str(tmp_path / "rows.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "test-0"
    (tmp_path / "bad.jsonl").write_text('{"prompt": "A post."}\n{"title": "x"}\n')
    (tmp_path / "broken.jsonl").write_text('"A post."\n{\n')
    for words, hint in (
        (["ask", str(run)], "expected a text"),
        (["ask", "nowhere", POST], "nowhere"),
        (["ask", str(run), "--input", "none.jsonl"], "found none"),
        (["ask", str(run), "--input", str(tmp_path / "bad.jsonl")], "row 2: expected a text"),
        (["ask", str(run), "--input", str(tmp_path / "broken.jsonl")], "line 2: expected JSON"),
    ):
        assert cli.run(words) == 2
        assert hint in capsys.readouterr().err


def test_a_debate_about_a_context_is_asked_with_both() -> None:
    task = DebateTask(Debate(context="premise"))
    with pytest.raises(ConfigError, match="premise and question"):
        ask(task, "Does it follow?")
    state = ask(task, {"premise": "It rains.", "question": "Is it dry?"})
    assert task.observe(state, "first", ())[0].content.startswith("It rains.")
