"""Whole runs of tiny teams: made, cut off, and read without their clocks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fakes.ranks import CHILDREN
from madrigal import cli
from madrigal.config import Experiment
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, OptimizerConfig, PolicyConfig, RecordsConfig, Sampling, TeamConfig
from madrigal.tasks.own import CustomTask
from madrigal.training.train import train_experiment

CLOCKS = ("seconds", "tokens_per_second")


def tiny_run(model: Path, task: Any, algorithm: Any, **changes: Any) -> Experiment:
    """Two steps of two prompts for a tiny model on the CPU, with a checkpoint after each and an example held out.

    Args:
        task: settings of a task, or where an own one is.
    """
    defaults: dict[str, Any] = {
        "recipe": "odd",
        "task": CustomTask(task) if isinstance(task, str) else task,
        "team": TeamConfig(policy=PolicyConfig(model=str(model)), device="cpu"),
        "algorithm": algorithm,
        "sampling": Sampling(temperature=0.9, max_new_tokens=5),
        "optimizer": OptimizerConfig(lr=1e-3, warmup=1, lr_schedule="linear"),
        "evaluation": EvaluationConfig(examples=1, timed_examples=0),
        "records": RecordsConfig(checkpoint_every=1),
        "steps": 2,
        "prompts": 2,
        "threads": 1,
    }
    return Experiment(**defaults | changes)


class StopsBefore:
    """A watcher that breaks a run off when a step was recorded but not yet saved."""

    def __init__(self, step: int) -> None:
        self.last = step

    def stage(self, name: str) -> None: ...

    def evaluated(self, when: str, result: object) -> None: ...

    def step(self, record: dict[str, Any]) -> None:
        if record["step"] == self.last:
            raise RuntimeError("pulled the plug")


def trained(run: Experiment, folder: Path) -> Path:
    folder.mkdir()
    assert train_experiment(run, folder)
    return folder


def command(arguments: Sequence[str], folder: Path, **environment: str) -> BaseProcess:
    """`madrigal` in a process of its own, whose words go to the files out and err of a folder."""
    child = CHILDREN.Process(target=_command, args=(arguments, folder, environment), daemon=True)
    child.start()
    return child


def _command(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    os.environ |= environment
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["madrigal", *arguments]
    cli.main()


def numbers(folder: Path) -> list[dict[str, Any]]:
    """steps.jsonl without its clocks."""
    return [
        {key: value for key, value in record.items() if not key.endswith(CLOCKS)}
        for record in read_lines(folder / "steps.jsonl")
    ]


def weights(folder: Path, team: str = "team") -> dict[str, torch.Tensor]:
    """A saved team's weights by "<policy>/<name>"."""
    files = sorted(folder.glob(f"{team}/*/*.safetensors"))
    assert len(files) == 2
    return {f"{file.parent.name}/{key}": value for file in files for key, value in load_file(file).items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
