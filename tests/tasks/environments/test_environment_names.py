"""Environments by name: what a name means, which package it needs, and that a file may not name one in silence."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from madrigal import cli
from madrigal.compare.load import _task_of
from madrigal.config import from_json, read_experiment, to_json, with_absolute_places
from madrigal.recipes import recipe
from madrigal.recipes.start import base_experiment, require_trust, run_name
from madrigal.recipes.trust import risks
from madrigal.tasks.catalog import ENVIRONMENTS, TaskConfig, environment_name, environment_named, open_task
from madrigal.tasks.environments.pettingzoo import PettingZoo
from madrigal.tasks.environments.textarena import TextArena
from madrigal.tasks.environments.verifiers import Verifiers
from madrigal.types import ConfigError

RUN = recipe("tldr")


@pytest.mark.parametrize(
    ("name", "config", "folder"),
    [
        ("pettingzoo:classic/tictactoe_v3", PettingZoo("classic/tictactoe_v3"), "tictactoe_v3"),
        ("pettingzoo:envs/mine.py:make", PettingZoo("envs/mine.py:make"), "mine-make"),
        ("textarena:SimpleTak-v0", TextArena("SimpleTak-v0"), "SimpleTak-v0"),
        ("verifiers:somebody/gsm8k", Verifiers("somebody/gsm8k"), "gsm8k"),
    ],
)
def test_a_name_says_which_library_and_which_environment(name: str, config: TaskConfig, folder: str) -> None:
    assert environment_named(name) == config and environment_name(config) == name
    assert run_name(name) == folder and _task_of(config) == name
    run = replace(RUN, task=config)
    assert from_json(to_json(run)) == run


def test_other_names_are_none() -> None:
    assert environment_named("tldr") is environment_named("mine.py:task") is environment_named("pettingzoo") is None
    assert environment_name(RUN.task) == ""
    with pytest.raises(ConfigError, match="name an environment of textarena, too: textarena:SimpleTak-v0"):
        base_experiment("textarena:")


@pytest.mark.parametrize("library", ENVIRONMENTS)
def test_a_package_that_is_missing_is_one_line_with_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    line = rf"needs .*: pip install 'madrigal\[{library}\]'"
    with pytest.raises(ConfigError, match=line), open_task(ENVIRONMENTS[library].config):
        pass


def test_a_file_that_names_an_environment_needs_trust_and_what_was_typed_does_not() -> None:
    config = PettingZoo("mine.py:make", observe="mine.py:tell")
    assert (
        risks(replace(RUN, task=config))
        == "import and run the code of pettingzoo:mine.py:make and to import and run the code of mine.py:tell"
    )
    run = replace(RUN, task=TextArena("SimpleTak-v0"))
    with pytest.raises(
        ConfigError, match="runs/tak asks to import and run the code of textarena:SimpleTak-v0; look at"
    ):
        require_trust(run, "runs/tak", [], "runs/tak")
    require_trust(run, "textarena:SimpleTak-v0", [], "textarena:SimpleTak-v0")
    require_trust(run, "textarena:SimpleTak-v0", [], "runs/SimpleTak-v0")  # --resume
    with pytest.raises(ConfigError, match="asks to import and run"):
        require_trust(run, "textarena:Chess-v0", [], "runs/SimpleTak-v0")


def test_the_command_line_asks_for_trust(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/tak").mkdir(parents=True)
    Path("runs/tak/experiment.json").write_text(to_json(replace(RUN, task=TextArena("SimpleTak-v0"))))
    for command in ("train", "evaluate"):
        assert cli.run([command, "runs/tak"]) == 2
        assert "asks to import and run the code of textarena:SimpleTak-v0" in capsys.readouterr().err


def test_the_file_of_an_environment_is_a_place_and_its_name_is_not(empty_folder: Path) -> None:
    Path("mine.py").write_text("")
    Path("gsm8k").mkdir()
    here = str(empty_folder / "mine.py")
    run = with_absolute_places(replace(RUN, task=PettingZoo("mine.py:make", observe="mine.py:tell")))
    assert run.task == PettingZoo(f"{here}:make", observe=f"{here}:tell")
    require_trust(run, "pettingzoo:mine.py:make", ["--task.observe"], "runs/mine-make")
    named = replace(RUN, task=Verifiers("gsm8k"))
    assert with_absolute_places(named) == named
    Path("experiment.json").write_text(to_json(run))
    assert read_experiment(Path("experiment.json")) == run


def test_the_list_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list"]) == 0
    said = capsys.readouterr().out
    assert all(environment_name(entry.config) in said for entry in ENVIRONMENTS.values())
