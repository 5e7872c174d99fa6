"""Experiments as JSON, and names that do not depend on the machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, from_json, read_experiment, to_json, with_absolute_places
from madrigal.recipes import RECIPES, recipe
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Coordinated, Sequential
from madrigal.settings import EvaluationConfig, Lora, PolicyConfig, RecordsConfig, TeamConfig
from madrigal.tasks.coding.config import ExpertConfig
from madrigal.tasks.own import CustomTask
from madrigal.tasks.writing.task import Tldr
from madrigal.training.checks import check_experiment
from madrigal.types import ConfigError, Example, TaskError

RUN = Experiment("own", CustomTask("task.py:task"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_back_from_its_json(name: str) -> None:
    run = recipe(name)
    assert from_json(to_json(run)) == run and run.recipe == name


def test_every_kind_of_setting_comes_back() -> None:
    run = replace(
        RUN,
        topology=Sequential(("b", "a")),
        team=TeamConfig(PolicyConfig("m", lora=Lora(4, 8, ("q",))), {"a": PolicyConfig("n", trainable=False)}),
        algorithm=GroupRelative(clip=0.2, tree=True),
        records=RecordsConfig(trackers=("wandb",)),
    )
    assert from_json(to_json(run)) == run


def test_settings_are_read_with_one_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_json(RUN)
    monkeypatch.setattr(cattrs, "Converter", None)
    assert to_json(from_json(text)) == text


def test_settings_left_out_take_their_defaults() -> None:
    assert from_json('{"recipe": "own", "task": {"kind": "CustomTask", "path": "task.py:task"}}') == RUN


@pytest.mark.parametrize("place", [(), ("algorithm",), ("sampling",), ("task",), ("team", "policy")])
def test_an_unknown_key_is_named_at_every_depth(place: tuple[str, ...]) -> None:
    data = json.loads(to_json(RUN))
    inner = data
    for key in place:
        inner = inner[key]
    inner["temprature"] = 1
    with pytest.raises(ConfigError, match="temprature") as refusal:
        from_json(json.dumps(data))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("steps", "many", "steps"),
        ("steps", -1, "steps: expected 0 or more, got -1"),
        ("prompts", 0, "prompts: expected at least 1"),
        ("threads", -2, "threads"),
        ("algorithm", {"kind": "GroupRelative", "width": 1}, "algorithm.width"),
        ("sampling", {"temperature": 0}, "sampling.temperature"),
        ("sampling", {"temperature": float("inf")}, "sampling.temperature"),
        ("sampling", {"temperature": float("nan")}, "sampling.temperature"),
        ("sampling", {"top_p": float("nan")}, "sampling.top_p"),
        ("algorithm", {"kind": "GroupRelative", "kl": float("inf")}, "algorithm.kl"),
        ("algorithm", {"kind": "GroupRelative", "clip": float("inf")}, "algorithm.clip"),
        ("algorithm", {"kind": "GroupRelative", "discount": float("nan")}, "algorithm.discount"),
        ("algorithm", {"kind": "GroupRelative", "reward_shift": float("nan")}, "algorithm.reward_shift"),
        ("algorithm", {"kind": "GroupRelative", "stop_above": float("-inf")}, "algorithm.stop_above"),
        ("task", {"kind": "Coding", "program_seconds": float("inf")}, "task.program_seconds"),
        ("optimiser", {"lr": 1e-3}, "settings of Madrigal 0.1"),
        ("steps", 2.5, "experiment: steps: expected int, got 2.5"),
        ("team", {"shared": "false"}, "experiment: team.shared: expected bool, got 'false'"),
        ("team", {"policy": {"lora": {"rank": -1}}}, "experiment: team.policy.lora.rank: expected 0 .*, got -1$"),
        ("team", {"seats": {"a": {"dtype": "half"}}}, "team.seats.a.dtype: expected auto or float32 .*, got 'half'"),
        ("team", {"seats": [1]}, r"team.seats: expected settings by name, got \[1\]"),
        ("sampling", {"temprature": 1}, "sampling.temprature: unknown setting; did you mean temperature"),
        ("sampling", {"temperature": "0.5"}, "sampling.temperature: expected a number, got '0.5'"),
        ("sampling", [], r"sampling: expected settings by name, got \[\]"),
        ("optimizer", {"betas": [0.9]}, "optimizer.betas: expected 2 values, got 1"),
        ("optimizer", {"lr": 10**400}, "optimizer.lr: .* too large"),
        (
            "algorithm",
            {"kind": "GroupRelative", "clip": 1e308},
            r"algorithm.clip: expected a number .* up to 1e\+38, got",
        ),
        ("records", {"transcripts": 2**63}, "records.transcripts: expected at most 9223372036854775807, got 9.22337e"),
        ("team", {"seats": {"a": {"lora": {"alpha": 2**63}}}}, "team.seats.a.lora.alpha: expected at most"),
        ("records", {"trackers": "wandb"}, "records.trackers: expected a list, got 'wandb'$"),
        ("algorithm", {"kind": "GroupRelative", "ddof": True}, "algorithm.ddof: expected 0 or 1, got True"),
        ("task", {"kind": "CustomTask"}, "task.path: expected this setting"),
        ("topology", {"kind": "Ring"}, "topology.kind: expected Parallel or Sequential or .*, got 'Ring'"),
        ("task", {"path": "task.py:task"}, "or CustomTask or Elsewhere, got None"),
        ("task", "CustomTask", "task.kind: expected .*, got None"),
        ("records", {"keep": 0}, "records.keep"),
        ("evaluation", {"examples": 0}, "evaluation.examples"),
    ],
)
def test_a_bad_value_in_a_file_is_one_line(key: str, value: object, problem: str) -> None:
    data = json.loads(to_json(RUN)) | {key: value}
    with pytest.raises(ConfigError, match=problem) as refusal:
        from_json(json.dumps(data))
    assert "\n" not in str(refusal.value)


def test_text_that_is_no_json_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"file.json: expected JSON, line 2 is not"):
        from_json('{"recipe": "own",\n oops}', "file.json")


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("null", "NoneType"), ("3", "int")])
def test_json_that_is_no_object_is_refused(text: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"expected one JSON object with settings, got {kind}"):
        from_json(text)


def test_an_experiment_is_read_from_its_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text(to_json(RUN))
    assert read_experiment(tmp_path) == read_experiment(tmp_path / "experiment.json") == RUN
    with pytest.raises(ConfigError, match="expected an experiment at"):
        read_experiment(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("settings", "name"), [({"examples": 0}, "evaluation.examples"), ({"every": -1}, "evaluation.every")]
)
def test_evaluation_settings_are_refused_by_name(settings: dict[str, int], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        EvaluationConfig(**settings)


def duet(train: tuple[str, ...] = ("x",), test: tuple[str, ...] = ("y",)) -> SingleRound:
    made = [tuple(Example(n, {}) for n in split) for split in (train, test)]
    return SingleRound("duet", ("ann", "bob"), *made, lambda example, agent: "?", lambda example, said: 0.0)


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (replace(RUN, team=TeamConfig(seats={"cat": PolicyConfig()})), "team.seats: cat is no agent of duet"),
        (replace(RUN, topology=Sequential(("ann", "cat"))), "topology.order"),
        (replace(RUN, topology=Sequential(("ann",))), "topology.order"),
        (replace(RUN, topology=Sequential(("ann", "bob", "ann"))), "topology.order"),
        (replace(RUN, topology=Sequential(), algorithm=GroupRelative(crossed=True)), "parallel topology"),
        (replace(RUN, topology=Coordinated("ann"), algorithm=GroupRelative(width=20, crossed=True)), "no-crossed"),
        (
            replace(RUN, algorithm=GroupRelative(width=20, crossed=True)),
            "400 episodes per example exceed the limit of 256",
        ),
    ],
)
def test_what_cannot_work_is_found_before_any_model_is_loaded(run: Experiment, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        check_experiment(run, duet())


def test_an_experiment_that_can_work_is_accepted() -> None:
    for topology in (Sequential(), Sequential(("bob", "ann"))):
        check_experiment(replace(RUN, topology=topology), duet())


def test_splits_must_hold_examples_of_different_names() -> None:
    with pytest.raises(TaskError, match="the test split is empty"):
        check_experiment(RUN, duet(test=()))
    with pytest.raises(TaskError, match="two examples of the train split have the id 'x'"):
        check_experiment(RUN, duet(train=("x", "z", "x")))


def test_derived_seeds_are_the_same_on_every_machine() -> None:
    assert derive(0, "epoch", 1) == 2649166260058031792
    assert derive("a", "b") != derive("ab") and derive(1, 12) != derive(11, 2)


@given(st.lists(st.one_of(st.integers(), st.text()), max_size=4))
def test_seeds_fit_a_signed_64_bit_integer(parts: list[object]) -> None:
    assert 0 <= derive(*parts) < 2**63


def test_an_expert_cannot_be_sent_any_variable() -> None:
    with pytest.raises(ConfigError, match=r"ends in _API_KEY, got 'AWS_SECRET'"):
        ExpertConfig(key_variable="AWS_SECRET")


def test_files_that_are_named_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists.json").write_text("{}")
    for folder in ("base", "model"):
        (tmp_path / folder).mkdir()
    run = replace(recipe("tldr"), task=Tldr(transitions="lists.json"))
    assert with_absolute_places(run).task == Tldr(transitions=str(tmp_path / "lists.json"))
    assert with_absolute_places(run).evaluation.fluency == "base"  # a word, not the folder of that name
    named = replace(run, evaluation=replace(run.evaluation, fluency="model"))
    assert with_absolute_places(named).evaluation.fluency == str(tmp_path / "model")
