"""What a cluster cannot do is said in one line, before any model is loaded."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakes.command_line import Screen
from fakes.command_line import refused as refused_line
from fakes.hosts import InProcess, in_process
from madrigal.cluster.ray import LOOPBACK, _imported
from madrigal.commands.overrides import with_settings
from madrigal.config import Experiment, to_json
from madrigal.settings import ClusterConfig, ClusterSeat, EngineConfig, PartnerConfig
from madrigal.training.checks import open_checked_task
from madrigal.training.site import open_site
from madrigal.types import ConfigError


def refused(run: Experiment, **cluster: Any) -> str:
    """What opening a run's site on a cluster is refused with."""
    changed = replace(run, cluster=ClusterConfig(**cluster))
    with (
        open_checked_task(run) as task,
        pytest.raises(ConfigError) as error,
        open_site(changed, task, "odd", print),
    ):
        pass
    return str(error.value)


def test_an_address_where_nothing_answers(sums: Experiment) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert f"nothing answers at 127.0.0.1:{port} (" in refused(sums, address=f"127.0.0.1:{port}")


def test_a_cluster_that_others_can_reach_needs_a_word(sums: Experiment) -> None:
    assert "add --cluster.open if" in refused(sums, address="192.0.2.1:6379")


def test_without_ray(sums: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "Ray is not installed; pip install 'madrigal[ray]'" in refused(sums, address="local")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
        monkeypatch.setitem(sys.modules, "grpc", None)
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        assert "addresses with ray:// need Ray's client; pip install 'ray[client]'" in refused(sums, address=address)


def test_settings_that_cannot_work(sums: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, words in (
        ({"address": "nowhere"}, "expected local, auto, HOST:PORT"),
        ({"workers": 0}, "cluster.workers: expected at least 1, got 0"),
        ({"gpus_per_learner": 2.0}, "expected a share of one GPU, 0 to 1, got 2.0"),
        ({"staleness": 1}, "on a cluster only; add --cluster local"),
    ):
        with pytest.raises(ConfigError, match=words):
            ClusterConfig(**settings)
    with in_process(monkeypatch, InProcess()):
        assert "nobody learns as zoe; learners are" in refused(sums, address="local", seats={"zoe": ClusterSeat("a")})
        assert "a loss with a clipped ratio" in refused(sums, address="local", staleness=1)
        clipped = replace(sums, algorithm=replace(sums.algorithm, clip=0.2))
        older = replace(clipped, team=replace(clipped.team, partners=PartnerConfig(share=0.5)))
        assert "older selves does not run ahead" in refused(older, address="local", staleness=1)
        copies = replace(clipped.team.policy, engine=EngineConfig("vllm"))
        held = replace(clipped, team=replace(clipped.team, policy=copies))
        assert "engines that hold copies refuse" in refused(held, address="local", staleness=1)


def test_a_file_may_not_name_a_cluster_in_silence(sums: Experiment, tmp_path: Path, capsys: Screen) -> None:
    file = tmp_path / "experiment.json"
    file.write_text(to_json(replace(sums, cluster=ClusterConfig("192.0.2.1:6379", open=True))))
    assert "asks to send data, weights and code to the cluster at 192.0.2.1:6379" in refused_line(
        capsys, "train", str(file)
    )


def test_a_seat_has_a_node_by_a_flag(sums: Experiment) -> None:
    words = ["--cluster.address", "local", "--cluster.seats.main-agent.node", "big", "--steps", "7"]
    run = with_settings(sums, words, "madrigal train", [])
    assert (run.steps, run.cluster.seats) == (7, {"main_agent": ClusterSeat("big")})


class Imported:
    """A Ray that was imported and has begun nothing."""

    def is_initialized(self) -> bool:
        return False


def test_ray_is_told_to_ask_for_a_token_and_to_listen_here_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", lambda name: Imported())
        _imported(ClusterConfig("local"))
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ[LOOPBACK] == "0"


def test_a_ray_that_was_imported_without_a_token_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "ray", Imported())
    with pytest.raises(ConfigError, match="imported before, without a token and for all addresses; set RAY_AUTH_MODE"):
        _imported(ClusterConfig("local"))
