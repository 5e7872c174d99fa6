"""Kills the processes of a run on Ray in the middle of its steps, and compares with the run in one process.

    PYTHONPATH=tests:tools python benchmarks/losses.py [KILLS]

For each role (rollout worker, learner) a run of the tiny task of `tests/cluster` is made in which one process of that
role is killed by SIGKILL at a random moment of every step. It must end by itself with the same records and weights.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes import tiny
from fakes.runs import assert_equal, numbers, tiny_run, trained, weights
from madrigal.algorithms.group import GroupRelative
from madrigal.cluster.ray import RayRemote
from madrigal.runs.log import read_lines
from madrigal.settings import ClusterConfig, RecordsConfig
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment

STEP = 0.3  # seconds of a step
TASK = """
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

def reward(example, said):
    text = said["ann"] + said["bob"]
    return 2 * sum(ord(c) % 2 for c in text) / max(1, len(text))

train, test = (tuple(Example(f"{split}-{n}", {"word": chr(97 + n)}) for n in range(24)) for split in ("train", "test"))
task = SingleRound("odd", ("ann", "bob"), train, test, lambda example, agent: f"{agent}, {example.data['word']}!",
                   reward, best_return=2.0)
"""


class Kills(NullCallback):
    """Kills one process of a role at a random moment of every step, so many times in all."""

    def __init__(self, started: list[RayRemote], role: str, kills: int) -> None:
        self.started, self.role, self.left, self.killed = started, role, kills, list[int]()
        self.told = list[str]()

    def stage(self, name: str) -> None:
        self.told.append(name)
        if name == "training":
            self._soon()

    def step(self, record: dict[str, Any]) -> None:
        self._soon()

    def _soon(self) -> None:
        if self.left:
            self.left -= 1
            threading.Timer(random.random() * STEP, self._kill).start()

    def _kill(self) -> None:
        """Kills one that is alive now, or waits for one."""
        living = [one.pid for one in self.started if self.role in one.name and one.pid and one.pid not in self.killed]
        if living:
            self.killed.append(living[-1])
            os.kill(living[-1], signal.SIGKILL)
        else:
            threading.Timer(0.2, self._kill).start()


def remembered(started: list[RayRemote]) -> None:
    """Puts every object that is started into a list."""
    begin: Callable[..., None] = RayRemote.__init__

    def remember(remote: RayRemote, *arguments: Any) -> None:
        begin(remote, *arguments)
        started.append(remote)

    RayRemote.__init__ = remember  # type: ignore[method-assign]


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    random.seed(0)
    home = Path(tempfile.mkdtemp())
    (home / "model").mkdir()
    (home / "odd.py").write_text(TASK)
    run = tiny_run(
        tiny.build_model(home / "model"),
        f"{home}/odd.py:task",
        GroupRelative(width=3, kl=0.01),
        steps=kills + 4,
        records=RecordsConfig(checkpoint_every=5, transcripts=99),
    )
    alone = trained(run, home / "alone")
    started: list[RayRemote] = []
    remembered(started)
    for role, name in (("rollout worker", "rollout worker"), ("learner", "ann")):
        started.clear()
        watch, began = Kills(started, name, kills), time.perf_counter()
        spread = home / name.replace(" ", "-")
        assert train_experiment(replace(run, cluster=ClusterConfig("local")), spread, watch=watch)
        lost = sum("was lost" in line for line in watch.told)
        assert numbers(spread) == numbers(alone)
        assert_equal(weights(spread), weights(alone))
        played = [line["example"] for line in read_lines(spread / "episodes.jsonl") if "evaluation" not in line]
        same = played == [line["example"] for line in read_lines(alone / "episodes.jsonl") if "evaluation" not in line]
        print(
            f"{role}: killed {len(watch.killed)} times, {lost} losses seen, {kills + 4} steps in "
            f"{time.perf_counter() - began:.0f} s; records and weights equal, examples "
            f"{'none lost, none twice' if same else 'OTHERS'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
