"""A whole run of a tiny team with PMIC: embeddings reach credit, and a run that was cut goes on as one that was not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.runs import StopsBefore, numbers, tiny_run
from madrigal.algorithms.pmic import Pmic
from madrigal.api import train
from madrigal.config import Experiment
from madrigal.runs.checkpoint import load_checkpoint, newest_checkpoint
from madrigal.settings import OptimizerConfig


@pytest.fixture
def run(model_folder: Path) -> Experiment:
    pmic = Pmic(width=3, alpha=1.0, beta=1.0, start=2, fits=2, batch=8, capacity=30, estimator_lr=0.01)
    return tiny_run(model_folder, "fakes.odd:joint", pmic, optimizer=OptimizerConfig(lr=1e-3), steps=3)


def memory(folder: Path) -> dict[str, Any]:
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    found: dict[str, Any] = load_checkpoint(newest)[1]["memory"]
    return found


def test_a_run_that_was_cut_goes_on_with_the_same_buffers_and_estimators(run: Experiment, tmp_path: Path) -> None:
    whole, cut, plain = (tmp_path / name for name in ("whole", "cut", "plain"))
    for folder in (whole, cut, plain):
        folder.mkdir()
    assert train(run, whole)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(run, cut, watch=StopsBefore(2))
    assert train(run, cut, resume=True)
    assert numbers(cut) == numbers(whole)
    assert json.dumps(memory(cut)) == json.dumps(memory(whole))

    last, entry = memory(whole)["last"], memory(whole)["positive"][0]
    # Of 2 examples and 3 siblings the second rounds can be compared, as far as the first was not worded alike.
    assert last["paid"] == 1.0 and 2 <= last["rounds"] <= 6 and last["bonus"] != 0
    assert [len(entry["state"]), len(entry["action"])] == [32, 64]  # the state, and what two agents said
    # The bonus reaches the weights: without it the team goes elsewhere.
    assert train(replace(run, algorithm=replace(run.algorithm, alpha=0.0, beta=0.0)), plain)
    assert numbers(plain)[0] == numbers(whole)[0] and numbers(plain)[-1] != numbers(whole)[-1]
