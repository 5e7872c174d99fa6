"""What stands beside an own task in its file: the experiment that it starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from madrigal.recipes import recipe
from madrigal.recipes.embedded import own
from madrigal.recipes.start import base_experiment
from madrigal.rollouts.topology import Sequential
from madrigal.settings import PolicyConfig
from madrigal.types import ConfigError


def start(folder: Path, code: str) -> object:
    file = folder / f"own_{abs(hash(code))}.py"
    file.write_text(code)
    return replace(base_experiment(f"{file}:task"), recipe="own", task=recipe("tldr").task)


PLAIN = replace(own("own.py:task"), task=recipe("tldr").task)


def test_a_file_without_an_experiment_starts_as_ever(tmp_path: Path) -> None:
    assert start(tmp_path, "task = 1") == PLAIN


def test_an_experiment_beside_the_task_is_where_it_starts_from(tmp_path: Path) -> None:
    code = "from madrigal.recipes import recipe\nexperiment = recipe('arxiv')"
    assert start(tmp_path, code) == replace(recipe("arxiv"), recipe="own", task=recipe("tldr").task)


def test_dotted_settings_beside_the_task_are_changes(tmp_path: Path) -> None:
    code = (
        'experiment = {"topology": "sequential", "topology.order": ["b", "a"], "algorithm": "remax", "steps": 7,\n'
        '              "optimizer.lr": 5e-6, "team.seats.a.model": "some/model", "sampling.max-new-tokens": 32}'
    )
    run = start(tmp_path, code)
    expected = replace(
        PLAIN,
        topology=Sequential(("b", "a")),
        algorithm=run.algorithm,  # type: ignore[attr-defined]
        steps=7,
        optimizer=replace(PLAIN.optimizer, lr=5e-6),
        team=replace(PLAIN.team, seats={"a": PolicyConfig("some/model")}),
        sampling=replace(PLAIN.sampling, max_new_tokens=32),
    )
    assert run == expected and expected.algorithm.name == "remax"


@pytest.mark.parametrize(
    ("experiment", "problem"),
    [
        ("7", "expected experiment to be an Experiment or a dict"),
        ("{'topologie': 1}", "experiment: .*topologie"),
        ("{'optimizer.lrate': 1e-3}", "experiment: .*lrate"),
        ("{'steps': 'many'}", "experiment: .*expected int"),
        ("{'steps.more': 1}", "'steps.more' is no setting"),
        ("{'topology': 'ring'}", "unknown topology 'ring': there are parallel"),
        ("{'algorithm': 'rl'}", "unknown algorithm 'rl'"),
        ("{'steps': {1, 2}}", "expected numbers, texts, lists or dicts"),
    ],
)
def test_an_experiment_that_is_none_is_one_line(tmp_path: Path, experiment: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refusal:
        start(tmp_path, f"experiment = {experiment}")
    assert "\n" not in str(refusal.value)
