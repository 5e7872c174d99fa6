"""The rate of a model where nobody names one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fakes.runs import tiny_run
from madrigal.algorithms.group import GroupRelative
from madrigal.config import from_json, to_json
from madrigal.learning.rates import learning_rate, rates_in_words, with_rate
from madrigal.recipes import RECIPES
from madrigal.recipes.embedded import own, tldr
from madrigal.rollouts.task import SingleRound
from madrigal.runs.log import read_lines
from madrigal.settings import OptimizerConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError, Example


def body(count: int, adapter: str = "") -> Any:
    """A model of so many weights, on no device, beside an adapter that does not count."""
    names = {"layer.weight": count, "layer.lora_A.one": 10**9}
    parameters = [(name, torch.empty(size, device="meta")) for name, size in names.items()]
    return SimpleNamespace(name="ann", adapter=adapter, model=SimpleNamespace(named_parameters=lambda: parameters))


@pytest.mark.parametrize(
    ("count", "whole", "adapter"),
    [(1_050_000, 1e-3, 1e-3), (135_000_000, 2e-5, 1e-4), (1_700_000_000, 5.6e-6, 1e-4), (70_000_000_000, 5e-6, 1e-4)],
)
def test_a_rate_falls_with_size_and_an_adapter_has_a_larger_one(count: int, whole: float, adapter: float) -> None:
    assert learning_rate(count) == pytest.approx(whole, rel=0.01)
    assert learning_rate(count, adapter=True) == adapter


def test_no_larger_model_has_a_larger_rate() -> None:
    rates = [learning_rate(10**6 * 2**n) for n in range(16)]
    assert rates == sorted(rates, reverse=True) and min(rates) >= 5e-6 and max(rates) == 1e-3


def test_a_rate_that_is_named_stays() -> None:
    assert with_rate(OptimizerConfig(lr=3e-4), body(135_000_000)).lr == 3e-4
    assert with_rate(OptimizerConfig(), body(135_000_000)).lr == 2e-5
    assert with_rate(OptimizerConfig(), body(135_000_000, "ann")).lr == 1e-4


def test_the_line_says_which_rate_for_whom_and_why() -> None:
    told = rates_in_words([body(135_000_000), replace_name(body(135_000_000), "bob"), body(1_000_000)])
    assert told == (
        "2e-05 for ann, bob (135 M parameters, every weight trained); "
        "0.001 for ann (1 M parameters, every weight trained)"
    )


def replace_name(policy: Any, name: str) -> Any:
    policy.name = name
    return policy


def test_recipes_state_their_rates_and_own_tasks_leave_it_to_the_model() -> None:
    assert all(RECIPES[name]().optimizer.lr for name in RECIPES)
    assert own("file.py:task").optimizer.lr is None
    run = replace(tldr(), optimizer=OptimizerConfig())
    assert from_json(to_json(run)).optimizer.lr is None
    with pytest.raises(ConfigError, match=r"optimizer.lr: expected a positive number, got 0"):
        OptimizerConfig(lr=0.0)


def test_a_run_says_what_it_chose_and_takes_it(model_folder: Path, tmp_path: Path) -> None:
    told: list[str] = []

    class Hears(NullCallback):
        def stage(self, name: str) -> None:
            told.append(name)

    rows = [Example(str(n), {"n": n}) for n in range(4)]
    task = SingleRound("odd", ("ann", "bob"), rows[:3], rows[3:], lambda e, a: f"{a}!", lambda e, said: 1.0)
    run = tiny_run(model_folder, CustomTask("in-memory:odd"), GroupRelative(width=2), optimizer=OptimizerConfig())
    assert train_experiment(run, tmp_path / "run", task=task, watch=Hears())
    line = next(line for line in told if "learning rate" in line)
    assert line.startswith("note: learning rate 0.001 for ann, bob (0.")
    assert read_lines(tmp_path / "run" / "steps.jsonl")[0]["update/ann/lr"] == 1e-3
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["optimizer"]["lr"] is None
