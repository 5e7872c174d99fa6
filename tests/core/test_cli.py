"""The command line: every mistake that a user can mend is one line and exit code 2, before any model is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from madrigal import cli
from madrigal.config import read_experiment, to_json
from madrigal.policies.local import PolicyConfig
from madrigal.recipes import RECIPES, recipe

POSTS = [{"prompt": f"Post {n}: my dog ate my homework."} for n in range(4)]


@pytest.fixture(autouse=True)
def no_model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in an empty folder; a test that gets as far as loading a model fails."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model was about to be loaded")

    monkeypatch.chdir(tmp_path)
    if "loads_models" not in request.fixturenames:
        monkeypatch.setattr("madrigal.assemble.load_policy", refuse)


@pytest.fixture
def loads_models() -> None:
    """Asked for by a test that may load one."""


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refusal."""
    assert cli.run(list(arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("madrigal: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err
    return err


def write(name: str, *rows: Any) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("trian tldr", "unknown command 'trian': did you mean train"),
        ("train tldrr", "unknown recipe 'tldrr': did you mean tldr"),
        ("train codng", "did you mean coding"),
        ("train xyzzy", "there are tldr, arxiv"),
        ("train", "name a recipe, a run folder or an experiment.json"),
        ("score tldrr --data embedded --answers a.jsonl", "unknown task 'tldrr': did you mean tldr"),
        ("train nowhere.py:task", "there is no file nowhere.py"),
        ("train no_such_module:task", "there is no module 'no_such_module'"),
        ("train tldr --algorithm.width 1", "algorithm.width: a group needs at least 2"),
        ("train tldr --algorithm.discount 2", "algorithm.discount: expected 0 to 1, got 2.0"),
        ("train tldr --algorithm.clip 0", "algorithm.clip: expected a positive range"),
        ("train tldr --optimiser.lr -1", "optimiser.lr: expected a positive number, got -1"),
        ("train tldr --optimiser.lr nan", "optimiser.lr: expected a positive number, got nan"),
        ("train tldr --sampling.max-new-tokens 0", "sampling.max_new_tokens: expected at least 1, got 0"),
        ("train tldr --sampling.temperature 0", "sampling.temperature: expected more than 0, got 0"),
        ("train tldr --sampling.top-p 1.5", "sampling.top_p"),
        ("train tldr --steps -1", "steps: expected 0 or more, got -1"),
        ("train tldr --prompts 0", "prompts: expected at least 1"),
        ("train tldr --records.keep 0", "records.keep"),
        ("train tldr --evaluation.examples 0", "evaluation.examples"),
        ("train tldr --algorithm.crossed --algorithm.width 20", "400 episodes per example exceed the limit of 256"),
        ("train tldr --task.source.data nowhere.jsonl", "expected a file, found none"),
        ("train tldr --task.source.data posts.csv", "expected a file .jsonl, .json or .parquet"),
        ("train tldr --resume", "--resume: expected a run at runs/tldr, found none"),
        ("evaluate runs/none", "expected an experiment at runs/none, found none"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: str, hint: str) -> None:
    assert hint in refused(capsys, *arguments.split())


def test_a_tree_over_the_limit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "train coding-two-turns --algorithm.tree --algorithm.width 20 --task.unconfined"
    assert "400 episodes per example exceed the limit of 256" in refused(capsys, *arguments.split())


def test_a_run_folder_that_exists_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/experiment.json").write_text(to_json(recipe("tldr")))
    line = refused(capsys, "train", "tldr", "--name", "mine")
    assert "the run folder runs/mine exists; resume it with --resume, replace it with --overwrite" in line
    assert read_experiment(Path("runs/mine")) == recipe("tldr")


def test_overwrite_spares_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/thesis").mkdir(parents=True)
    Path("runs/thesis/chapter.txt").write_text("years of work")
    assert "not a run" in refused(capsys, "train", "tldr", "--name", "thesis", "--overwrite")
    assert Path("runs/thesis/chapter.txt").read_text() == "years of work"


def test_a_refused_start_leaves_the_run_that_it_would_have_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/experiment.json").write_text(to_json(recipe("tldr")))
    tree = ("--algorithm.tree", "--algorithm.width", "999", "--algorithm.leaf-limit", "9")
    refused(capsys, "train", "tldr", "--name", "mine", "--overwrite", *tree)
    assert read_experiment(Path("runs/mine")) == recipe("tldr")
    refused(capsys, "train", "tldr", "--name", "new", *tree)
    assert not Path("runs/new").exists()


def test_a_run_without_a_team_cannot_be_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    Path("experiment.json").write_text(to_json(recipe("tldr")))
    assert "there is no saved team yet; finish it with: madrigal train" in refused(capsys, "evaluate", ".")


def test_json_broken_on_a_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("posts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt" "c"}\n')
    assert "posts.jsonl, line 3: expected one JSON object" in refused(
        capsys, "train", "tldr", "--task.source.data", "posts.jsonl"
    )


def test_empty_data_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "posts.jsonl: expected at least one row" in refused(
        capsys, "train", "tldr", "--task.source.data", write("posts.jsonl")
    )


def test_a_missing_column_is_named_with_those_there(capsys: pytest.CaptureFixture[str]) -> None:
    data = write("posts.jsonl", {"title": "a", "body": "b"}, {"title": "c", "body": "d"})
    line = refused(capsys, "train", "tldr", "--task.source.data", data)
    assert "expected the column 'prompt', found title, body" in line


def test_an_experiment_file_broken_on_a_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.json").write_text('{\n"recipe": "x",\n"steps": }')
    assert "mine.json: expected JSON, line 3 is not" in refused(capsys, "train", "mine.json")


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], loads_models: None) -> None:
    data = write("posts.jsonl", *POSTS)
    settings = ["--task.source.data", data, "--team.device", "cpu"]
    assert "expected a folder with a saved model at ./none" in refused(
        capsys, "train", "tldr", *settings, "--team.policy.model", "./none"
    )


def test_a_gpu_that_is_not_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    data = write("posts.jsonl", *POSTS)
    line = refused(capsys, "train", "tldr", "--task.source.data", data, "--team.device", "cuda")
    assert "team.device: cuda was asked for but torch sees no GPU" in line


OWN = """
from madrigal.task import SingleRound
from madrigal.types import Example
x, y = Example("x", {}), Example("y", {})
def reward(example, said):
    return "high"
words = SingleRound("words", ("ann",), (x,), (y,), lambda example, agent: "?", reward)
number = 7
"""


def test_an_own_task_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_words.py").write_text(OWN)
    assert "own_words.py defines no 'other'" in refused(capsys, "train", "own_words.py:other")
    assert "a task needs name, agents, horizon" in refused(capsys, "train", "own_words.py:number")


def test_a_reward_that_is_no_number_is_one_line(
    capsys: pytest.CaptureFixture[str], loads_models: None, model_folder: Path
) -> None:
    Path("own_words.py").write_text(OWN)
    settings = ["--team.policy.model", str(model_folder), "--team.device", "cpu", "--sampling.max-new-tokens", "2"]
    line = refused(capsys, "train", "own_words.py:words", *settings)
    assert "the reward function reward must return one finite number, got 'high'" in line


def test_settings_from_the_command_line_are_kept_in_the_run(
    capsys: pytest.CaptureFixture[str], loads_models: None, model_folder: Path
) -> None:
    """A whole run through the command line: trained, shown, evaluated again."""
    data = write("posts.jsonl", *POSTS)
    settings = ["--team.policy.model", str(model_folder), "--task.source.data", data, "--team.device", "cpu"]
    settings += ["--steps", "1", "--prompts", "1", "--algorithm.width", "2", "--algorithm.kl", "0"]
    settings += ["--sampling.max-new-tokens", "3", "--evaluation.examples", "1"]
    assert cli.run(["train", "tldr", "--name", "mine", *settings]) == 0
    out = capsys.readouterr().out
    assert "normalised return %" in out and "Transcript 1 after training" in out and "runs/mine/steps.jsonl" in out
    run = read_experiment(Path("runs/mine"))
    assert (run.steps, run.prompts, run.algorithm.width, run.algorithm.kl) == (1, 1, 2, 0.0)
    assert run.team == replace(recipe("tldr").team, policy=PolicyConfig(model=str(model_folder)), device="cpu")
    assert cli.run(["evaluate", "runs/mine", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    after = json.loads(Path("runs/mine/evaluation.json").read_text())["after"]
    assert (again["return_percent"], again["components"]) == (after["return_percent"], after["components"])


def test_the_list_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list", "--json"]) == 0
    lists = json.loads(capsys.readouterr().out)
    assert set(lists) == {"tasks", "recipes", "algorithms", "topologies"}
    assert set(lists["recipes"]) == set(RECIPES) and all(lists["recipes"].values())


def test_help_is_no_error_and_no_command_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.run(["--help"]), cli.run([])) == (0, 2)
    assert capsys.readouterr().out.count("usage: madrigal") == 2
