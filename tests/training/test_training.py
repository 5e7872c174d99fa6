"""The recipes, as far as two steps go: they train, remember, resume, and evaluate against an opponent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from madrigal.config import Experiment
from madrigal.recipes import recipe
from madrigal.runs.checkpoint import load_checkpoint, newest_checkpoint
from madrigal.settings import EvaluationConfig
from madrigal.tasks.games.mixture import Games
from madrigal.training.train import train_experiment


def small(name: str) -> Experiment:
    return replace(recipe(name), steps=2, prompts=4, evaluation=EvaluationConfig(examples=4, timed_examples=0))


def memory_of(folder: Path) -> dict[str, float]:
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    memory: dict[str, float] = load_checkpoint(newest)[1]["memory"]
    return memory


def test_a_run_that_was_stopped_goes_on_with_its_baselines(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    run = small("kuhn")
    assert train_experiment(run, whole)
    assert not train_experiment(run, halves, stop=lambda: int((halves / "steps.jsonl").is_file()))
    assert set(memory_of(halves)) == {"kuhn/first", "kuhn/second"}
    assert train_experiment(run, halves, resume=True)
    assert memory_of(halves) == memory_of(whole)
    before, after = (json.loads((whole / "evaluation.json").read_text())[when] for when in ("before", "after"))
    assert 0 <= before["return_percent"] <= 100
    assert {"win", "legal", "return_percent"} <= set(after["components"])


def test_several_games_share_a_run_and_no_baseline(tmp_path: Path) -> None:
    run = replace(small("tictactoe"), task=Games(games=("tictactoe", "kuhn")), steps=1, prompts=8)
    assert train_experiment(run, tmp_path)
    memory = memory_of(tmp_path)
    assert set(memory) == {"tictactoe/first", "tictactoe/second", "kuhn/first", "kuhn/second"}
    for game in ("tictactoe", "kuhn"):
        assert memory[f"{game}/first"] == pytest.approx(-memory[f"{game}/second"])
