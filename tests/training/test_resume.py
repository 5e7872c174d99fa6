"""Runs that go on: longer, with other settings, after an error, elsewhere; and what must be as it was for that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.runs import assert_equal, numbers, tiny_run, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.commands.overrides import from_run
from madrigal.config import Experiment, read_experiment, to_json
from madrigal.runs.checkpoint import load_checkpoint
from madrigal.runs.log import read_lines
from madrigal.settings import Lora, OptimizerConfig, PolicyConfig, RecordsConfig, Sampling
from madrigal.tasks.own import CustomTask, _load
from madrigal.training.checks import open_checked_task
from madrigal.training.held_out import NullCallback, evaluate_run, notices
from madrigal.training.saving import export
from madrigal.training.teams import make_team
from madrigal.training.train import _play, train_experiment
from madrigal.types import ConfigError, EngineError, RewardError, TrainingError

TASK = """
import json
from pathlib import Path
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

def reward(example, said):
    text = said["ann"] + said["bob"]
    return 2 * sum(ord(c) % 2 for c in text) / max(1, len(text))

words = json.loads((Path(__file__).parent / "words.json").read_text())
train, test = (tuple(Example(f"{split}-{n}", {"word": w}) for n, w in enumerate(words)) for split in ("train", "test"))
task = SingleRound("odd", ("ann", "bob"), train, test, lambda example, agent: f"{agent}, {example.data['word']}!",
                   reward, best_return=2.0)
"""
Make = Callable[..., Experiment]


class Hears(NullCallback):
    """A watcher that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, name: str) -> None:
        self.told.append(name)


def experiment_in(home: Path, model: Path) -> Experiment:
    """Two steps on an own task, with a copy of the model, all in a folder that can be moved."""
    shutil.copytree(model, home / "model")
    (home / "odd.py").write_text(TASK)
    (home / "words.json").write_text('["a", "bb", "ccc", "dddd"]')
    return tiny_run(
        home / "model",
        f"{home}/odd.py:task",
        GroupRelative(width=2, kl=0.01),
        sampling=Sampling(max_new_tokens=4),
        optimizer=OptimizerConfig(lr=1e-3),
        records=RecordsConfig(checkpoint_every=1, keep=9),
        prompts=1,
    )


@pytest.fixture(scope="module")
def plain(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return experiment_in(tmp_path_factory.mktemp("odd") / "home", model_folder)


@pytest.fixture(scope="module")
def made(plain: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    assert train_experiment(plain, folder)
    return folder


@pytest.fixture
def make(plain: Experiment) -> Make:
    return lambda **changes: replace(plain, **changes)


@pytest.fixture
def done(made: Path, tmp_path: Path) -> Path:
    """A run of two steps that has ended."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def forgotten() -> None:
    """The module of an own task is read once in a process; a later process would read it again."""
    _load.cache_clear()


def test_a_finished_run_that_goes_on_is_the_longer_run(make: Make, done: Path, tmp_path: Path) -> None:
    whole, longer = tmp_path / "whole", done
    assert train_experiment(make(steps=4), whole)
    assert train_experiment(make(steps=4), longer, resume=True)
    assert_equal(weights(longer), weights(whole))
    assert numbers(longer) == numbers(whole)
    assert list(json.loads((longer / "evaluation.json").read_text())) == ["before", "step-2", "after"]
    assert [r["evaluation"] for r in read_lines(longer / "episodes.jsonl") if "evaluation" in r] == [
        "before",
        "step-2",
        "after",
    ]
    about = json.loads((longer / "run.json").read_text())
    assert [(one["step"], one["changes"]) for one in about["sessions"]] == [(0, {}), (2, {"steps": [2, 4]})]
    assert {"date", "madrigal", "commit", "machine"} <= about["sessions"][0].keys() and about["team_step"] == 4
    assert read_experiment(longer).steps == 4


def test_a_new_rate_holds_from_the_first_resumed_step_and_is_written_down(make: Make, tmp_path: Path) -> None:
    run = make(optimizer=OptimizerConfig(lr=1e-3, lr_schedule="linear"))
    assert train_experiment(run, tmp_path / "run")
    hears = Hears()
    slower = replace(run, steps=4, optimizer=replace(run.optimizer, lr=1e-4), records=RecordsConfig(keep=1))
    assert train_experiment(slower, tmp_path / "run", resume=True, watch=hears)
    rates = [record["update/ann/lr"] for record in read_lines(tmp_path / "run" / "steps.jsonl")]
    assert rates[2:] == pytest.approx([1e-4 * run.optimizer.scale(2, 4), 1e-4 * run.optimizer.scale(3, 4)])
    assert any("laid out anew for 4 steps" in line and "optimizer.lr 0.001 -> 0.0001" in line for line in hears.told)
    changes = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][1]["changes"]
    assert changes["optimizer.lr"] == [1e-3, 1e-4] and changes["records.keep"] == [9, 1]


@pytest.mark.parametrize("checkpoint", [True, False])
def test_what_changes_shapes_or_the_task_is_refused_with_and_without_a_checkpoint(
    make: Make, done: Path, checkpoint: bool
) -> None:
    if not checkpoint:
        shutil.rmtree(done / "checkpoints")
    for change, name in (
        ({"seed": 1}, "seed was 0, not 1"),
        ({"team": replace(make().team, shared=True)}, "team.shared was False"),
        ({"algorithm": GroupRelative(width=3)}, "algorithm.kl was 0.01"),
    ):
        with pytest.raises(ConfigError, match=f"other settings: {name}"):
            train_experiment(make(**change), done, resume=True)


def test_fewer_steps_than_were_made_are_refused(make: Make, done: Path) -> None:
    with pytest.raises(ConfigError, match=r"has made 2 steps already, expected --steps 2 or more, got 1; .* export"):
        train_experiment(make(steps=1), done, resume=True)


def test_a_setting_that_there_was_not_yet_is_no_obstacle(make: Make, done: Path) -> None:
    """A checkpoint of an older version lacks it; left out, it has its default."""
    folder = done
    old = json.loads((folder / "experiment.json").read_text())
    del old["team"]["start"], old["reward"]
    (folder / "experiment.json").write_text(json.dumps(old))
    shutil.rmtree(folder / "checkpoints")
    assert train_experiment(make(), folder, resume=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("words.json", "the train data and the test data are not what it was started with"),
        ("model/config.json", "the base model of team.policy is not what it was started with"),
        ("model/tokenizer_config.json", "the tokenizer of team.policy is not what it was started with"),
    ],
)
def test_other_data_or_models_behind_the_same_name_are_refused(
    model_folder: Path, tmp_path: Path, name: str, told: str, forgotten: None
) -> None:
    run = replace(experiment_in(tmp_path / "home", model_folder), steps=1)
    assert train_experiment(run, tmp_path / "run")
    file = tmp_path / "home" / name
    file.touch()
    assert train_experiment(run, tmp_path / "run", resume=True)
    text = file.read_text()
    file.write_text(text.replace('"bb"', '"b"') if "words" in name else text + "\n")
    _load.cache_clear()
    with pytest.raises(ConfigError, match=told):
        train_experiment(run, tmp_path / "run", resume=True)


def test_other_code_of_the_task_is_told_on_resume_and_in_evaluations(
    model_folder: Path, tmp_path: Path, forgotten: None
) -> None:
    run, hears = replace(experiment_in(tmp_path / "home", model_folder), steps=1), Hears()
    assert train_experiment(run, tmp_path / "run")
    file = tmp_path / "home" / "odd.py"
    file.write_text(file.read_text() + "# a mistake was mended\n")
    evaluate_run(tmp_path / "run", hears, trust=True)
    assert "note: the code of the task is not what the run was started with" in hears.told
    assert train_experiment(run, tmp_path / "run", resume=True, watch=hears)
    assert any("code of the task is not what this run was started with" in line for line in hears.told)


def test_an_error_in_a_step_saves_what_was_before_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rarely = make(steps=3, records=RecordsConfig(checkpoint_every=0))
    assert train_experiment(rarely, whole)

    def fail(*arguments: Any) -> Any:
        if arguments[2] == 2:
            raise RewardError("no number")
        return _play(*arguments)

    with monkeypatch.context() as patch, pytest.raises(RewardError, match="no number"):
        patch.setattr("madrigal.training.train._play", fail)
        train_experiment(rarely, broken)
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["step-2"]
    assert train_experiment(rarely, broken, resume=True)
    assert_equal(weights(broken), weights(whole))
    assert numbers(broken) == numbers(whole)


def test_a_folder_that_is_gone_in_mid_run_is_one_line_and_free_for_the_next_run(make: Make, tmp_path: Path) -> None:
    class Removes(NullCallback):
        def step(self, record: dict[str, Any]) -> None:
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(TrainingError, match=r"the run folder .* is gone"):
        train_experiment(make(), tmp_path / "run", watch=Removes())
    assert not (tmp_path / "run").exists()
    assert train_experiment(make(steps=1), tmp_path / "run")


def test_weights_that_are_no_numbers_end_the_run_before_they_are_saved(make: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train_experiment(make(optimizer=OptimizerConfig(lr=1e4, weight_decay=1e37)), tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoints/*")) and not (tmp_path / "run" / "team").exists()


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(make: Make, done: Path) -> None:
    folder, hears = done, Hears()
    before = weights(folder)
    (folder / "checkpoints/step-2/ann.pt").write_bytes(b"half")
    assert train_experiment(make(), folder, resume=True, watch=hears)
    assert any("ann.pt is missing, truncated or changed" in line and "step-1" in line for line in hears.told)
    assert_equal(weights(folder), before)


def test_lines_that_were_lost_are_told(make: Make, done: Path) -> None:
    folder, hears = done, Hears()
    (folder / "steps.jsonl").write_text("".join((folder / "steps.jsonl").read_text().splitlines(keepends=True)[1:]))
    assert train_experiment(make(steps=3), folder, resume=True, watch=hears)
    assert "steps.jsonl lacks 1 of the 2 steps that were made (0)" in hears.told


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("steps.jsonl", '{"seconds": 1}\n{"step": 1}\n', "record 1 names no step"),
        ("steps.jsonl", '[]\n{"step": 1}\n', "line 1 is no JSON object"),
        ("episodes.jsonl", "[" * 100_000 + "\n{}\n", "line 1 is not JSON"),
        ("evaluation.json", '{"before": {', "evaluation.json: expected JSON"),
        ("evaluation.json", "[]", "expected a JSON object, got list"),
        ("run.json", "", "run.json: expected JSON"),
    ],
)
def test_records_that_cannot_be_read_are_one_line_before_a_model_is_loaded(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str
) -> None:
    monkeypatch.setattr("madrigal.training.train.make_team", lambda *_: pytest.fail("a model was about to be loaded"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text(to_json(make()))
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(ConfigError, match=told):
        train_experiment(make(), tmp_path / "run", resume=True)


def test_the_same_where_there_is_a_checkpoint(make: Make, done: Path, no_model: None) -> None:
    (done / "run.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"run.json: expected a JSON object, got list"):
        train_experiment(make(steps=3), done, resume=True)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_may_begin_with_the_team_of_another(make: Make, tmp_path: Path, rank: int) -> None:
    team = replace(make().team, policy=replace(make().team.policy, lora=Lora(rank)))
    first = make(team=team, steps=1)
    assert train_experiment(first, tmp_path / "first")
    second = from_run(first, tmp_path / "first")
    taken = make_team(second.team, ("ann", "bob"), seed=5)
    states = load_checkpoint(tmp_path / "first" / "checkpoints" / "step-1")[0]
    for policy in taken.trainable:
        assert_equal(dict(policy.parameters()), states[policy.name]["parameters"])
    assert train_experiment(second, tmp_path / "second")
    assert read_experiment(tmp_path / "second").team.start == str(tmp_path / "first" / "team")
    with pytest.raises(ConfigError, match="expected a run with a saved team"):
        from_run(first, tmp_path)
    with pytest.raises(EngineError, match=r"team.start: .*expected saved (weights|adapter) for ann"):
        make_team(replace(second.team, start=str(tmp_path)), ("ann", "bob"), seed=5)


def test_a_team_of_any_checkpoint_can_be_made_and_evaluated(done: Path) -> None:
    folder = done
    assert export(folder, 1, trust=True) == folder / "team-step-1"
    states = load_checkpoint(folder / "checkpoints" / "step-1")[0]
    exported = weights(folder, "team-step-1")
    ann = {key.removeprefix("ann/"): value for key, value in exported.items() if key.startswith("ann/")}
    assert all(torch.equal(value, states["ann"]["parameters"][key]) for key, value in ann.items())
    result, _ = evaluate_run(folder, trust=True, step=2)
    after = json.loads((folder / "evaluation.json").read_text())["after"]
    assert (result.return_percent, result.components) == (after["return_percent"], after["components"])
    last = weights(folder)
    shutil.rmtree(folder / "team")
    assert export(folder, trust=True) == folder / "team"
    assert_equal(weights(folder), last)
    with pytest.raises(ConfigError, match="no checkpoint of step 7; there is step 1, step 2"):
        export(folder, 7, trust=True)
    with pytest.raises(ConfigError, match="exists and is no team"):
        export(folder, 1, folder / "checkpoints", trust=True)
    with pytest.raises(ConfigError, match="--trust"):
        export(folder, 1)


def test_a_run_is_found_from_any_folder_and_may_be_moved(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    """Named relative to where the user stood, written from the root, looked for beside the run when all was moved."""
    home, there = tmp_path / "home", tmp_path / "there"
    run = experiment_in(home, model_folder)
    monkeypatch.chdir(home)
    run = replace(
        run, task=CustomTask("odd.py:task"), team=replace(run.team, policy=PolicyConfig(model="model")), steps=1
    )
    assert train_experiment(run, Path("runs/mine"))
    monkeypatch.chdir(tmp_path)
    before = evaluate_run(home / "runs" / "mine", trust=True)[0].components
    home.rename(there)
    _load.cache_clear()
    moved = read_experiment(there / "runs" / "mine")
    assert moved.task == CustomTask(f"{there}/odd.py:task") and moved.team.policy.model == f"{there}/model"
    assert evaluate_run(there / "runs" / "mine", trust=True)[0].components == before
    assert train_experiment(replace(moved, steps=2), there / "runs" / "mine", resume=True)


def test_a_team_that_is_not_the_last_is_told(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not train_experiment(make(), folder, stop=lambda: int((folder / "steps.jsonl").is_file()))
    with open_checked_task(make()) as task:
        assert notices(folder, make(), task) == ["note: this is the team after 1 of 2 steps"]
    assert evaluate_run(folder, trust=True)[0].examples == 1


def test_a_folder_with_a_run_is_not_trained_in_again(make: Make, done: Path) -> None:
    with pytest.raises(ConfigError, match="exists; resume it with --resume"):
        train_experiment(make(), done)
    assert train_experiment(make(steps=1), done, overwrite=True)
    assert len(read_lines(done / "steps.jsonl")) == 1
