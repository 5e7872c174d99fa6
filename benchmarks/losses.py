"""Kills the processes of a run on Ray in the middle of its steps, and compares with the run in one process.

    PYTHONPATH=tests:tools python benchmarks/losses.py [--kills 20] [--roles worker learner node rank reward]

For each role a run of the tiny task of `tests/cluster` is made, on three nodes of this machine, in which one process of
that role is killed by SIGKILL at a random moment of every step: a rollout worker, a learner, the node that a learner
lives on (another one joins after it), one of the two ranks of a learner. Reward workers are processes of the sandbox
below a rollout worker, in a run of two-turn coding with starter models: by turns one in which a program is being
judged, and the fork server that it came from. The run must end by itself with the same records and weights; with two
ranks, the same to rounding.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import tiny
from fakes.hosts import TASK
from fakes.nodes import lose_node, node, remembered, three_nodes
from fakes.runs import assert_equal, numbers, tiny_run, trained, weights
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.cluster.ray import RayRemote
from madrigal.config import Experiment
from madrigal.runs.log import read_lines
from madrigal.settings import ClusterConfig, ClusterSeat, RecordsConfig, Sampling
from madrigal.tasks.coding.config import Coding
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment

STEP = 0.3  # seconds of a step
WORKER = "rollout worker"
ROLES = {"worker": WORKER, "learner": "ann", "node": "ann", "rank": "team", "reward": WORKER}  # whose process is ended
CPUS = 2  # of each node


class Kills(NullCallback):
    """Kills one process of a role at a random moment of every step, so many times in all.

    Attributes:
        found: of those that hold what is started for the role, by their ids, the processes that may be killed now.
        end: ends a process, given its id.
        over: whether nothing is to be killed any more.
    """

    def __init__(
        self,
        started: list[RayRemote],
        role: str,
        kills: int,
        end: Callable[[int], None],
        found: Callable[[Sequence[int], int], Sequence[int]],
    ) -> None:
        self.started, self.role, self.left, self.killed = started, role, kills, list[int]()
        self.end, self.found, self.told, self.over = end, found, list[str](), False

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
        while not self.over:
            holders = [one.pid for one in self.started if self.role in one.name and one.pid and not one.ended]
            living = set(self.found(holders, len(self.killed))) - set(self.killed)
            if living:
                self.killed.append(random.choice(sorted(living)))
                self.end(self.killed[-1])
                return
            time.sleep(0.001)


def themselves(holders: Sequence[int], kills: int) -> Sequence[int]:
    """The processes of a role other than that of reward workers."""
    return holders


def judging(holders: Sequence[int], kills: int) -> Sequence[int]:
    """Below rollout workers, the programs that are judged now, or after every other kill, their fork servers."""
    servers = [server for holder in holders for server in children(holder)]
    return servers if kills % 2 else [program for server in servers for program in children(server)]


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = list[int]()
    with suppress(OSError):  # one that has ended meanwhile
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, file.read_text().split())
    return [child for child in found if runs(child)]


def runs(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Ends a process, which may have ended by itself in this very moment."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=list(ROLES))
    asked = parser.parse_args()
    random.seed(0)
    home = Path(tempfile.mkdtemp())
    (home / "model").mkdir()
    (home / "odd.py").write_text(TASK)
    records = RecordsConfig(checkpoint_every=5, transcripts=99)
    model = tiny.build_model(home / "model")
    run = tiny_run(model, f"{home}/odd.py:task", GroupRelative(width=3, kl=0.01), records=records)
    sampling = Sampling(top_k=2, max_new_tokens=64)
    judged = tiny_run(
        Path("starter:small"), Coding(turns=2), GroupRelative(width=2), sampling=sampling, records=records
    )
    with three_nodes(CPUS) as cluster:
        for role in asked.roles:
            print(lose(judged if role == "reward" else run, role, asked.kills, home, cluster), flush=True)


def replace_node(cluster: Any, pid: int) -> None:
    """Ends the node that a process lives on, and lets another one join."""
    lose_node(cluster, pid)
    cluster.add_node(**node(CPUS))


def lose(run: Experiment, role: str, kills: int, home: Path, cluster: Any) -> str:
    """What is seen where a process of a role is killed in every step."""
    with remembered() as started:
        by_rank = role == "rank"
        run = replace(run, steps=kills + 4, team=replace(run.team, shared=by_rank))
        alone, spread = trained(run, home / f"{role}-alone"), home / role
        end = partial(replace_node, cluster) if role == "node" else kill
        found = judging if role == "reward" else themselves
        watch, began = Kills(started, ROLES[role], kills, end, found), time.perf_counter()
        placed = {"ann": ClusterSeat("place")} if role == "node" else {}
        settings = ClusterConfig("local", ranks_per_learner=2 if by_rank else 1, seats=placed)
        try:
            assert train_experiment(replace(run, cluster=settings), spread, watch=watch)
        finally:
            watch.over = True
    lost = sum("was lost" in line for line in watch.told)
    if by_rank:
        for one, two in zip(numbers(alone), numbers(spread), strict=True):
            assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
        torch.testing.assert_close(weights(spread), weights(alone), rtol=1e-3, atol=1e-4)
    else:
        assert numbers(spread) == numbers(alone)
        assert_equal(weights(spread), weights(alone))
    played, other = (
        [line["example"] for line in read_lines(folder / "episodes.jsonl") if "evaluation" not in line]
        for folder in (spread, alone)
    )
    return (
        f"{role}: killed {len(watch.killed)} times, {lost} losses seen, {run.steps} steps in "
        f"{time.perf_counter() - began:.0f} s; records and weights {'within 1e-3' if by_rank else 'equal'}, "
        f"examples {'none lost, none twice' if played == other else 'OTHERS'}"
    )


if __name__ == "__main__":
    main()
