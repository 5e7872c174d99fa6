"""The command line: every mistake that a user can mend is one line and exit code 2, before any model is loaded."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

import madrigal
from fakes import tiny
from fakes.command_line import refused, write
from madrigal import cli
from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.commands import train as commands
from madrigal.commands.arguments import quietly
from madrigal.commands.overrides import with_settings
from madrigal.config import read_experiment, to_json
from madrigal.policies.local import load_model
from madrigal.recipes import RECIPES, recipe
from madrigal.recipes.own_file import with_topology
from madrigal.recipes.start import base_experiment
from madrigal.report.progress import before_after, shown
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.runs.folders import held, held_free
from madrigal.runs.signals import ending_cleanly
from madrigal.settings import Lora, PolicyConfig
from madrigal.tasks.own import CustomTask, load_own
from madrigal.training.checks import open_checked_task
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, EngineError, Example, TaskError

POSTS = [{"prompt": f"Post {n}: my dog ate my homework."} for n in range(4)]


@pytest.fixture(autouse=True)
def no_model_unasked(request: pytest.FixtureRequest, empty_folder: Path) -> None:
    if "loads_models" not in request.fixturenames:
        request.getfixturevalue("no_model")


@pytest.fixture
def loads_models() -> None:
    """Asked for by a test that may load one."""


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
        ("train tldr --optimizer.lr -1", "optimizer.lr: expected a positive number, got -1"),
        ("train tldr --optimizer.lr nan", "optimizer.lr: expected a positive number, got nan"),
        ("train tldr --sampling.max-new-tokens 0", "sampling.max_new_tokens: expected at least 1, got 0"),
        ("train tldr --sampling.temperature 0", "sampling.temperature: expected more than 0 and finite, got 0"),
        ("train tldr --sampling.top-p 1.5", "sampling.top_p"),
        ("train tldr --sampling.top-p nan", "sampling.top_p"),
        ("train tldr --algorithm.stop-above inf", "algorithm.stop_above: expected None or a finite number, got inf"),
        ("train tldr --steps many", "Error parsing --steps: invalid literal for int()"),
        ("train tldr --steps", "Missing value for argument '--steps'"),
        ("train tldr --stepz 3", "unknown setting --stepz: did you mean --steps?"),
        ("train tldr --lr 3", "unknown setting --lr: did you mean --optimizer.lr or --critic.lr or --warm.lr?"),
        ("train tldr --overwrit", "unknown setting --overwrit: did you mean --overwrite?"),
        ("train tldr --task.variant later", "unknown setting --task.variant: did you mean --task.agents?"),
        ("train tldr stray", "expected settings as --name value, got 'stray'"),
        ("train arxiv --task.variant x", "invalid choice 'x' for argument '--task.variant'"),
        ("train tldr --topology foo", "argument --topology: invalid choice: 'foo'"),
        ("score tldr", "the following arguments are required: --data, --answers"),
        ("evaluate", "the following arguments are required: RUN|RECIPE"),
        ("list --jsn", "unknown setting --jsn: did you mean --json?"),
        ("train tldr --steps -1", "steps: expected 0 or more, got -1"),
        ("train tldr --prompts 0", "prompts: expected at least 1"),
        ("train tldr --records.keep 0", "records.keep"),
        ("train tldr --evaluation.examples 0", "evaluation.examples"),
        ("train tldr --algorithm.crossed --algorithm.width 20", "400 episodes per example exceed the limit of 256"),
        ("train tldr --task.source.data nowhere.jsonl", "expected a file, found none"),
        ("train tldr --task.source.data posts.tsv", "expected a file .jsonl, .json, .parquet or .csv"),
        ("train tldr --resume", "--resume: expected a run at runs/tldr, found none"),
        ("evaluate runs/none", "there is no file or folder runs/none"),
        ("evaluate tldrr", "unknown recipe 'tldrr': did you mean tldr"),
        ("evaluate tldr --stepz 3", "unknown setting --stepz: did you mean --steps?"),
        ("evaluate tldr --step 3", "--step names a checkpoint of a run, tldr is none"),
        ("train runs/typo/experiment.json", "there is no file or folder runs/typo/experiment.json"),
        ("train typo.json", "there is no file or folder typo.json"),
        ("train divide.py", "there is no file divide.py"),
        ("train tldr --name ../up", "--name: expected letters, digits"),
        ("train tldr --from runs/none", "--from: expected a run with a saved team, found none at runs/none/team"),
        ("train tldr --team.seats.bob.modl x", "unknown setting --team.seats.bob.modl: did you mean"),
        ("train tldr --team.seats.bob.lora.rank 2", "team.seats: bob is no agent of tldr"),
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


def test_a_run_that_never_began_leaves_its_name_free() -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/.lock").touch()  # as a kill leaves it
    with held_free(Path("runs"), "mine") as place:
        assert place.folder == Path("runs/mine")
    Path("runs/mine").mkdir(exist_ok=True)
    Path("runs/mine/experiment.json").write_text(to_json(recipe("tldr")))
    with held_free(Path("runs"), "mine") as place:
        assert place.folder == Path("runs/mine-2")
    assert not Path("runs/mine-2").exists()
    with pytest.raises(ConfigError, match="runs/mine exists"), held(Path("runs/mine")):
        pass


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


def test_an_experiment_file_that_is_no_utf_8_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = to_json(replace(recipe("tldr"), recipe="résumé")).replace("\\u00e9", "é")
    Path("mine.json").write_bytes(text.encode("latin-1"))
    assert "mine.json: expected JSON in UTF-8, line 2 is not" in refused(capsys, "train", "mine.json")
    Path("mine.json").write_bytes(text.encode("utf-8-sig"))
    assert read_experiment(Path("mine.json")).recipe == "résumé"


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
from madrigal.rollouts.task import SingleRound
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


OPENED = """
from pathlib import Path
def task():
    with Path("openings").open("a") as stream:
        print(Path("runs").exists(), file=stream)
    return words
"""


def test_a_task_is_opened_once_and_before_the_run_folder_is_made(
    loads_models: None, model_folder: Path, tmp_path: Path
) -> None:
    Path("own.py").write_text(OWN.replace('"high"', "0.5") + OPENED)
    settings = ["--team.policy.model", str(model_folder), "--team.device", "cpu", "--sampling.max-new-tokens", "2"]
    assert cli.run(["train", "own.py:task", *settings, "--steps", "0"]) == 0
    assert Path("openings").read_text() == "False\n"
    run = read_experiment(Path("runs/own"))
    assert train_experiment(run, Path("runs/own"), overwrite=True)
    assert Path("openings").read_text() == "False\nTrue\n"
    assert cli.run(["evaluate", "runs/own", "--trust"]) == 0
    assert Path("openings").read_text() == "False\nTrue\nTrue\n"


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
    assert "normalized return %" in out and "Transcript 1 after training" in out and "runs/mine/steps.jsonl" in out
    run = read_experiment(Path("runs/mine"))
    assert (run.steps, run.prompts, run.algorithm.width, run.algorithm.kl) == (1, 1, 2, 0.0)
    assert run.team == replace(recipe("tldr").team, policy=PolicyConfig(model=str(model_folder)), device="cpu")
    assert cli.run(["evaluate", "runs/mine", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    after = json.loads(Path("runs/mine/evaluation.json").read_text())["after"]
    assert (again["return_percent"], again["components"]) == (after["return_percent"], after["components"])


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("def f(:\n", "own task own.py: SyntaxError: "),
        (
            "import nothing_here",
            "own task own.py: ModuleNotFoundError: No module named 'nothing_here' (own.py, line 1)",
        ),
        ("\nraise ValueError('two\\nlines')", "own task own.py: ValueError: two lines (own.py, line 2)"),
        ("import sys\nsys.exit(3)", "own task own.py: SystemExit: 3"),
        ("def task():\n    return 1 / 0", "own task own.py:task: ZeroDivisionError: division by zero (own.py, line 2)"),
        (OWN.replace('"high"', "0.5").replace('("ann",)', '("ann-1",)') + "task = words", "got 'ann-1'"),
        (OWN.replace('"high"', "0.5").replace('("ann",)', '"ann"') + "task = words", "agents must be a tuple of names"),
        (
            OWN.replace("reward)", 'reward, answering="ann")') + "task = words",
            "answering: expected a tuple of names out of ann",
        ),
        (OWN + "task = words", "the reward function reward must return one finite number, got 'high'"),
        (
            OWN.replace('"?"', "example.data['text']") + "task = words",
            "task words: observe, for ann, raised KeyError: 'text' (own.py, line 7) on example x",
        ),
    ],
)
def test_an_own_task_that_fails_is_one_line_before_any_model(
    capsys: pytest.CaptureFixture[str], code: str, hint: str
) -> None:
    Path("own.py").write_text(code)
    assert hint in refused(capsys, "train", "own.py:task")


def test_an_own_module_replaces_none_and_is_imported_once() -> None:
    Path("random.py").write_text(OWN.replace('"high"', "0.5") + "import time\nmade = time.perf_counter()\n")
    for _ in range(2):
        load_own(CustomTask("random.py:words"))
        made = sys.modules["madrigal_own_random"].made
    assert sys.modules["random"] is random and not hasattr(random, "words")
    load_own(CustomTask("random.py:words"))
    assert sys.modules["madrigal_own_random"].made == made


def test_an_own_task_imports_its_neighbours_and_hides_nobody_elses(tmp_path: Path) -> None:
    for name, text in {"phrases": "greeting = 'hello'", "colorsys": "", "later": "word = 'now'"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    prompt = "lambda example, agent: phrases.greeting + __import__('later').word"
    own = OWN.replace('"high"', "0.5").replace('lambda example, agent: "?"', prompt)
    (tmp_path / "own.py").write_text("import colorsys, phrases\n" + own)
    task = load_own(CustomTask(f"{tmp_path}/own.py:words"))
    assert task.observe(task.reset(task.examples("test")[0]), "ann", ())[0].content == "hellonow"
    assert hasattr(sys.modules["colorsys"], "rgb_to_hsv") and sys.path[-1] == str(tmp_path)
    (tmp_path / "second.py").write_text(own.replace("phrases.greeting", "'hello'"))
    load_own(CustomTask(f"{tmp_path}/second.py:words"))
    assert sys.path.count(str(tmp_path)) == 1


def test_what_an_own_task_raises_in_play_names_method_and_example() -> None:
    Path("own.py").write_text(OWN.replace('"high"', "0.5") + "train = {'?'}\n")
    task = load_own(CustomTask("own.py:words"))
    assert isinstance(task.task, SingleRound)  # type: ignore[attr-defined]
    state = task.reset(Example("z", {}))
    assert task.step(state, {"ann": "a"}).state == state
    object.__setattr__(task.task, "prompt", lambda example, agent: 1 / 0)  # type: ignore[attr-defined]
    with pytest.raises(TaskError, match=r"task words: observe, for ann, raised ZeroDivisionError.* on example z$"):
        task.observe(state, "ann", ())


def test_a_truncated_model_is_one_line(tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EngineError, match=r"could not be loaded: Error while deserializing header") as refusal:
        load_model(PolicyConfig(str(tmp_path / "cut")), torch.device("cpu"))
    assert "\n" not in str(refusal.value)


def test_an_agent_may_bear_the_name_of_a_module(model_folder: Path) -> None:
    layers = tiny.load(model_folder, "layers", lora=Lora(2))
    other = tiny.load(model_folder, "ann", lora=Lora(2), base=layers.model)
    assert layers.parameters() and len(layers.parameters()) == len(other.parameters())
    assert all(".lora_" in name for name in layers.parameters()) and not layers.parameters().keys() & other.parameters()


def test_overwrite_without_a_name_takes_the_recipes_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        commands, "_train", lambda _, run, place, **options: began.append((str(place.folder), place.begun)) or 0
    )
    made = []
    for place, name in enumerate(("tldr", "tldr-2", "tldr-10", "tldr-late", "other")):
        file = Path("runs", name, "experiment.json")
        file.parent.mkdir(parents=True)
        file.write_text(to_json(recipe("tldr")))
        os.utime(file, ns=(place, place))
        made.append(file)
    assert cli.run(["train", "tldr", "--resume"]) == 0
    os.utime(made[1], ns=(99, 99))
    assert cli.run(["train", "tldr", "--resume"]) == 0
    assert cli.run(["train", "tldr", "--overwrite"]) == 0
    assert began == [("runs/tldr-10", True), ("runs/tldr-2", True), ("runs/tldr", False)]
    assert made[0].exists() and made[1].exists()  # nothing was recorded: the run that was to be replaced is back


def test_own_components_are_shown_after_the_known_ones() -> None:
    names = ["reward", "color", "words/ann", "accuracy", "structure"]
    assert shown(names) == ["structure", "accuracy", "color"]
    parts = {"components": {"color": 0.5, "accuracy": 50.0}, "intervals": {"color": (0, 1), "accuracy": (0, 100)}}
    figures = {"examples": 2, "return_percent": 1.0, "low": 0.0, "high": 2.0, "tokens_per_second": 1}
    table = before_after({"after": {**figures, **parts, "response_seconds": 1.0}})
    assert [str(cell) for cell in table.columns[0].cells][:2] == ["accuracy %", "color"]
    assert list(table.columns[1].cells)[:2] == ["50.0 [0.0, 100.0]", "0.50 [0.00, 1.00]"]


def test_transcripts_ids_are_found_in_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    data = write("posts.jsonl", *POSTS)
    answers = write("answers.jsonl", {"id": "test-3", "answers": {"concise": "a", "detailed": "b"}})
    assert cli.run(["score", "tldr", "--data", data, "--answers", answers]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "test-3"


def test_the_list_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list", "--json"]) == 0
    lists = json.loads(capsys.readouterr().out)
    assert set(lists) == {"tasks", "environments", "recipes", "algorithms", "topologies", "seats"}
    assert set(lists["recipes"]) == set(RECIPES) and all(lists["recipes"].values())


def test_help_is_no_error_and_no_command_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.run(["--help"]), cli.run([])) == (0, 2)
    assert capsys.readouterr().out.count("usage: madrigal") == 2


def test_an_error_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", "runs/\x1b[31mred"]) == 2
    assert "\x1b" not in (err := capsys.readouterr().err) and "\\x1b[31mred" in err


def test_a_model_that_is_not_there_loses_no_run_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], loads_models: None
) -> None:
    """A finished run was gone once --overwrite had failed; a new one left an empty folder behind."""
    Path("runs/tldr/team").mkdir(parents=True)
    Path("runs/tldr/experiment.json").write_text(to_json(recipe("tldr")))
    bad = ("--task.source.data", write("posts.jsonl", *POSTS), "--team.policy.model", "./none")
    refused(capsys, "train", "tldr", "--overwrite", *bad)
    assert sorted(path.name for path in Path("runs/tldr").iterdir()) == ["experiment.json", "team"]
    refused(capsys, "train", "tldr", *bad)
    assert [path.name for path in Path("runs").iterdir()] == ["tldr"]


def test_the_task_in_a_file_is_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("divide.py").write_text("raise SystemExit\nword = 1\ntask = word\n")
    assert "name the task in divide.py, too: divide.py:task" in refused(capsys, "train", "divide.py")
    Path("divide.py").write_text("def reward(): ...\nclass Words: ...\n")
    assert "divide.py:Words" in refused(capsys, "train", "divide.py")


def test_a_run_whose_path_holds_a_colon_is_a_run() -> None:
    Path("runs/exp:1").mkdir(parents=True)
    Path("runs/exp:1/experiment.json").write_text(to_json(recipe("tldr")))
    assert base_experiment("runs/exp:1") == recipe("tldr")


def test_a_recipes_name_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("../../up", "/anywhere", ["x"], ""):
        Path("mine.json").write_text(json.dumps(json.loads(to_json(recipe("tldr"))) | {"recipe": name}))
        refused(capsys, "train", "mine.json")
    assert not Path("runs").exists()


def test_single_seats_are_set_by_flags_on_top_of_the_common_policy() -> None:
    flags = [
        "--team.policy.pad-token",
        "x",
        "--team.seats.main.model",
        "m",
        "--team.seats.main.no-trainable",
        "--steps",
        "3",
    ]
    flags.append("--team.seats.aux_1.lora.rank=4")
    run = with_settings(recipe("coding"), flags, "train", ())
    common = replace(recipe("coding").team.policy, pad_token="x")
    assert run.steps == 3 and run.team.policy == common
    assert run.team.seats["main"] == replace(common, model="m", trainable=False)
    assert run.team.seats["aux_1"] == replace(common, lora=Lora(4))


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ("--algorithm.crossed", True),
        ("--algorithm.crossed true", True),
        ("--algorithm.crossed=True", True),
        ("--algorithm.no-crossed", False),
        ("--algorithm.crossed false", False),
        ("--algorithm.crossed=false", False),
    ],
)
def test_what_is_on_or_off_may_be_said_either_way(words: str, on: bool) -> None:
    start = recipe("tldr")
    start = replace(start, algorithm=replace(start.algorithm, crossed=not on))
    words += " --steps 3 --team.chat_template false --team.seats.concise.trainable false"
    run = with_settings(start, words.split(), "train", ())
    assert run == replace(
        start,
        algorithm=replace(start.algorithm, crossed=on),
        steps=3,
        team=replace(
            start.team,
            chat_template=False,
            seats={"concise": replace(start.team.policy, trainable=False)},
        ),
    )


def test_what_is_not_on_or_off_is_not_switched(capsys: pytest.CaptureFixture[str]) -> None:
    run = with_settings(recipe("tldr"), ["--task.source.data", "false"], "train", ())
    assert run.task.source.data == "false"  # type: ignore[union-attr]
    assert "invalid literal for int()" in refused(capsys, "train", "tldr", "--steps", "false")


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_version_is_told(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cli.run(words) == 0
    assert capsys.readouterr().out == f"madrigal {madrigal.__version__}\n"


def test_help_explains_every_flag_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["help"]) == 0 and "usage: madrigal" in capsys.readouterr().out
    assert cli.run(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for flag, word in {"--resume": "go on", "--overwrite": "replace", "--runs": "where", "--from": "begin"}.items():
        assert flag in shown and word in shown


def test_any_error_of_the_system_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(30, "Read-only file system", "runs/x")

    monkeypatch.setattr(commands, "train_command", fail)
    assert "Read-only file system: 'runs/x'" in refused(capsys, "train", "tldr")


def test_a_recipe_is_evaluated_before_any_training(
    capsys: pytest.CaptureFixture[str], loads_models: None, model_folder: Path
) -> None:
    settings = ["--team.policy.model", str(model_folder), "--team.device", "cpu", "--evaluation.examples", "1"]
    settings += ["--task.source.data", write("posts.jsonl", *POSTS), "--sampling.max-new-tokens", "3"]
    assert cli.run(["evaluate", "tldr", "--json", *settings]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 1
    assert cli.run(["train", "tldr", "--steps", "0", *settings]) == 0
    out = capsys.readouterr().out
    assert "runs/tldr/evaluation.json" in out and "runs/tldr/team" not in out


HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
)  # seconds to import: only what trains, loads or plays waits for them
LIGHT = """
import sys
from madrigal import cli

for line in sys.stdin.read().splitlines():
    try:
        cli.run(line.split())
    except SystemExit:
        pass
    if found := [name for name in {heavy} if name in sys.modules]:
        sys.exit(f"madrigal {{line}} imports {{found}}")
"""


def test_names_help_and_typos_wait_for_no_library(tmp_path: Path) -> None:
    lines = [
        "--version",
        "--help",
        "list",
        "trian",
        "train",
        "train tldrr",
        "train tldr --stepz 3",
        "train tldr --help",
    ]
    lines += [f"{name} --help" for name in cli.COMMANDS]
    lines += [f"verifier {name} --help" for name in ("data", "train", "check", "serve")]
    light(lines, tmp_path)


def test_a_report_waits_for_no_library_of_models(tmp_path: Path) -> None:
    run = Path("run")
    run.mkdir()
    (run / "experiment.json").write_text(to_json(recipe("tldr")))
    (run / "steps.jsonl").write_text('{"step": 0, "return": 1.0}\n')
    light([f"report {run}"], tmp_path)
    assert (run / "report.html").is_file()


def light(lines: list[str], folder: Path) -> None:
    """Runs commands one after the other in a process of its own, which none of them may burden."""
    program = [sys.executable, "-c", LIGHT.format(heavy=HEAVY)]
    result = subprocess.run(program, input="\n".join(lines), capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_in_the_usage(name: str) -> None:
    assert f"\n  {name} " in cli.USAGE and callable(cli.command(name))


def test_a_recipe_that_crosses_answers_goes_on_without_where_agents_hear_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in TOPOLOGIES:
        run = with_topology(recipe("tldr"), name)
        assert run.algorithm == replace(recipe("tldr").algorithm, crossed=name == "parallel")
        with open_checked_task(run):
            assert ("answers are not crossed" in capsys.readouterr().err) == (name != "parallel")
    # What is crossed by name stays so, and is refused.
    coma = replace(recipe("tldr"), algorithm=switch_algorithm(recipe("tldr").algorithm, "coma"))
    refused_run = with_topology(coma, "sequential")
    with pytest.raises(ConfigError, match=r"add --algorithm[.]no-crossed"), open_checked_task(refused_run):
        pass


@pytest.mark.parametrize("name", ["tldr", "arxiv"])
def test_a_recipe_that_crosses_answers_can_have_any_algorithm(name: str) -> None:
    for algorithm in ALGORITHMS:
        new = switch_algorithm(recipe(name).algorithm, algorithm)
        kept = recipe(name).algorithm if algorithm == "magrpo" else ALGORITHMS[algorithm][0]
        assert getattr(new, "crossed", None) == getattr(kept, "crossed", None)
        assert getattr(new, "scale", None) == getattr(kept, "scale", None)


def test_a_signal_while_flags_are_read_is_no_mistake_of_the_flags() -> None:
    with ending_cleanly(), pytest.raises(SystemExit) as ended:
        quietly(lambda: signal.raise_signal(signal.SIGTERM))
    assert ended.value.code == 143
