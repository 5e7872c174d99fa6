"""Runs on Ray, on three nodes of this machine, whose parts are killed in the middle of steps."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.hosts import TASK
from fakes.nodes import lose_node
from fakes.runs import assert_equal, numbers, tiny_run, trained, weights
from madrigal import __version__
from madrigal.algorithms.actor_critic import MAPPO
from madrigal.algorithms.group import GroupRelative
from madrigal.algorithms.self_play import SelfPlay
from madrigal.cluster.ray import RayHost, RayRemote, ray_cluster
from madrigal.config import Experiment
from madrigal.runs.checkpoint import load_checkpoint
from madrigal.settings import ClusterConfig, ClusterSeat, PartnerConfig, RecordsConfig, Sampling
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment
from madrigal.types import ConfigError

Make = Callable[..., Experiment]


@pytest.fixture
def make(model_folder: Path, tmp_path: Path) -> Make:
    """A tiny run on an own task, or on another one."""
    (tmp_path / "odd.py").write_text(TASK)

    def run(algorithm: Any, task: Any = "", **changes: Any) -> Experiment:
        return tiny_run(model_folder, task or f"{tmp_path}/odd.py:task", algorithm, **changes)

    return run


def both(run: Experiment, folder: Path, watch: Any = None, **settings: Any) -> tuple[Path, Path]:
    """The folders of a run in one process and of the same on the cluster."""
    alone = trained(run, folder / "alone")
    spread = folder / "spread"
    assert train_experiment(replace(run, cluster=ClusterConfig("local", **settings)), spread, watch=watch)
    return alone, spread


def assert_same(folders: tuple[Path, Path]) -> None:
    alone, spread = folders
    assert numbers(spread) == numbers(alone)
    assert_equal(weights(spread), weights(alone))


class Told(NullCallback):
    """A watcher that keeps what it is told, and knows what was started."""

    def __init__(self, begun: list[RayRemote]) -> None:
        self.begun, self.told = begun, list[str]()

    def stage(self, name: str) -> None:
        self.told.append(name)


class Kills(Told):
    """A watcher that ends the process of a worker after the first step, and the node of a learner after the second."""

    def __init__(self, begun: list[RayRemote], nodes: Any) -> None:
        super().__init__(begun)
        self.nodes = nodes

    def step(self, record: dict[str, Any]) -> None:
        living = {one.name: one.pid for one in self.begun if not one.ended}
        if record["step"] == 0:
            os.kill(living["rollout worker 1"], signal.SIGKILL)
        if record["step"] == 1:
            lose_node(self.nodes, living["ann"])


def test_magrpo_goes_on_where_a_worker_is_killed_and_a_node_is_lost(
    make: Make, warm: list[RayRemote], nodes: Any, tmp_path: Path
) -> None:
    run = make(GroupRelative(width=3, kl=0.01), steps=3, records=RecordsConfig(checkpoint_every=2))
    kills = Kills(warm, nodes)
    assert_same(both(run, tmp_path, kills, seats={"ann": ClusterSeat("place")}))
    lost = [line.partition(" was lost (")[0] for line in kills.told if " was lost (" in line]
    assert {"note: rollout worker 1", "note: the learner of ann"} <= set(lost)


def test_critics_of_mappo(make: Make, warm: list[RayRemote], tmp_path: Path) -> None:
    assert_same(both(make(MAPPO), tmp_path))
    assert {one.name for one in warm} == {"ann", "bob", "critic-joint", "rollout worker 1"}


def test_self_play_with_its_memory_and_older_selves(make: Make, warm: list[RayRemote], tmp_path: Path) -> None:
    run = make(SelfPlay(), Kuhn(), steps=3)
    run = replace(run, team=replace(run.team, partners=PartnerConfig(share=0.5, every=1)))
    assert_same(both(run, tmp_path))


def test_two_turns_of_programs_in_the_sandbox_of_workers(warm: list[RayRemote], tmp_path: Path) -> None:
    sampling = Sampling(top_k=2, max_new_tokens=64)
    run = tiny_run(Path("starter:small"), Coding(turns=2), GroupRelative(width=2), sampling=sampling, steps=1)
    alone, spread = both(run, tmp_path, workers=2)
    [one], [two] = numbers(alone), numbers(spread)
    assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    assert one["reward"] > 0


class KillsRank(Told):
    """A watcher that ends the second process of a learner after the first step."""

    def step(self, record: dict[str, Any]) -> None:
        if record["step"] == 0:
            os.kill([one.pid for one in self.begun if one.name == "team"][1], signal.SIGKILL)


def test_learners_on_two_ranks_each_learn_the_same_and_come_back_where_one_is_killed(
    make: Make, reused: list[RayRemote], tmp_path: Path
) -> None:
    run = make(replace(MAPPO, kl=0.01), steps=3, records=RecordsConfig(checkpoint_every=2))
    kills = KillsRank(reused)
    alone, spread = both(replace(run, team=replace(run.team, shared=True)), tmp_path, kills, ranks_per_learner=2)
    for one, two in zip(numbers(alone), numbers(spread), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    assert len([line for line in kills.told if line.startswith("note: the learner of team was lost (")]) == 1
    assert Counter(one.name for one in reused if one.name != "rollout worker 1") == {"team": 4, "critic-joint": 2}
    saved, others = (load_checkpoint(folder / "checkpoints/step-2")[0] for folder in (alone, spread))
    for learner in ("team", "critic-joint"):
        assert (spread / "checkpoints/step-2" / learner).is_dir(), "each rank wrote its share"
        for name, value in saved[learner]["parameters"].items():
            torch.testing.assert_close(others[learner]["parameters"][name], value, atol=1e-5, rtol=1e-4)


def test_what_the_cluster_has_not_is_refused_in_one_line(make: Make, nodes: Any) -> None:
    def refusal(run: str = "odd", version: str = __version__, learners: int = 2, **settings: Any) -> str:
        with pytest.raises(ConfigError) as error, ray_cluster(ClusterConfig(**settings), run, learners, version):
            pass
        return str(error.value)

    config = ClusterConfig("auto", open=True)
    assert "2 learners with 1 GPUs and 1 workers with 0 need 2, the cluster has 0" in refusal(
        address="local", gpus_per_learner=1.0
    )
    assert "there is no node nowhere, nor one with such a resource; there are 127.0.0.1" in refusal(
        address="local", seats={"ann": ClusterSeat("nowhere")}
    )
    with RayHost(nodes.ray).named("odd"):
        assert "a run of the name odd is on this cluster already" in refusal(address=config.address, open=True)
    assert "has madrigal" in refusal(address="auto", open=True, version="9.9")
