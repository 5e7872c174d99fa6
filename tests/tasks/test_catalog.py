"""One table of tasks: whatever stands in it can be opened, keeps the contract, and is what the commands offer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from madrigal import cli
from madrigal.rollouts.task import check_task
from madrigal.rollouts.task.asking import ask
from madrigal.tasks.catalog import ELSEWHERE, ENVIRONMENTS, OPENERS, OWN, TASKS, TaskConfig, open_task
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.editing.task import Edit
from madrigal.tasks.office.task import Office
from madrigal.tasks.project.task import Project
from madrigal.types import ConfigError


@pytest.mark.parametrize("name", TASKS)
def test_every_task_opens_and_keeps_the_contract(name: str) -> None:
    entry = TASKS[name]
    runs_code = isinstance(entry.config, Coding | Office | Edit | Project)
    config = replace(entry.config, unconfined=True) if runs_code else entry.config
    with entry.open(config) as task:
        check_task(task)
        assert name.startswith(task.name)
        assert set(entry.columns) <= set(task.examples("test")[0].data)


def test_every_kind_of_settings_opens_in_one_way() -> None:
    entries = (*TASKS.values(), *ENVIRONMENTS.values(), OWN, ELSEWHERE)
    assert set(OPENERS) == set(get_args(TaskConfig)) == {type(entry.config) for entry in entries}
    for entry in TASKS.values():
        same = [other for other in TASKS.values() if type(other.config) is type(entry.config)]
        assert all(other.columns == entry.columns for other in same)


def test_the_list_and_the_scorer_offer_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == {name: entry.what for name, entry in TASKS.items()}
    with pytest.raises(SystemExit):
        cli.run(["score", "--help"])
    assert ", ".join(TASKS) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("build", {"word": 5}),
        ("chores", {"jobs": 5}),
        ("ledger", {"seller": "Ida", "good": "pear"}),
        ("taboo", {"word": "cat", "forbidden": 5}),
    ],
)
def test_what_a_task_cannot_be_asked_by_is_one_line(name: str, data: dict[str, Any]) -> None:
    with open_task(TASKS[name].config) as task, pytest.raises(ConfigError, match=f"task {name} cannot be asked by"):
        ask(task, data)
