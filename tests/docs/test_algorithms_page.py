"""The page of algorithms names all of them, and its commands run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from madrigal import cli
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.commands import train as commands
from madrigal.config import Experiment
from madrigal.recipes import recipe
from madrigal.runs.folders import Held

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/algorithms.md").read_text()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_row(name: str) -> None:
    assert re.search(rf"^\| \[?`{name}`", PAGE, re.MULTILINE)


def started() -> list[str]:
    """The commands of the page."""
    return re.findall(r"^    madrigal (train [a-z].*)$", PAGE, re.MULTILINE)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """What would have been trained, by commands that stop where training begins."""
    found: list[Experiment] = []

    def stop(task: Any, run: Experiment, place: Held, *, quiet: bool, ranks: None) -> int:
        found.append(run)
        return 0

    monkeypatch.setattr(commands, "_train", stop)
    monkeypatch.chdir(tmp_path)
    return found


def algorithm_of(command: str) -> str:
    """The one that it names, or else its recipe's."""
    named = re.search(r"--algorithm (\w+)", command)
    return named[1] if named else recipe(command.split()[1]).algorithm.name


@pytest.mark.parametrize("command", started())
def test_a_command_of_the_page_passes_every_check_before_training(command: str, runs: list[Experiment]) -> None:
    assert cli.run(command.split()) == 0
    assert [run.algorithm.name for run in runs] == [algorithm_of(command)]


def test_every_algorithm_has_a_command() -> None:
    assert set(map(algorithm_of, started())) == set(ALGORITHMS)
