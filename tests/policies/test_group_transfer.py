"""Whole weights by a process group: what comes is what was sent, of the right version, and nobody waits in vain."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.engines import shake
from fakes.tiny import chat
from fakes.token_server import Reply, Stub, said, serving
from madrigal.policies.engines.files import hosted_name, version_of
from madrigal.policies.engines.group import offered, received, send
from madrigal.policies.engines.opening import open_engines
from madrigal.policies.engines.vllm import WeightLoading
from madrigal.policies.local import put_weights
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import EngineConfig, Sampling
from madrigal.tasks import endpoint
from madrigal.types import EngineError

SAMPLING = Sampling(temperature=0.9, top_k=20, max_new_tokens=6)
ASKED = [GenerationRequest("ann", chat("a dog"), n) for n in range(3)]
CPU = torch.device("cpu")


def test_what_a_group_brings_is_what_was_sent() -> None:
    """Every bit, in order, of each dtype and shape, also of parts of a larger tensor; under its own name alone."""
    large = torch.arange(12.0).view(3, 4)
    sent = [("a", large.t()[1:]), ("b", torch.tensor(float("nan"))), ("c", torch.full((2, 1, 3), 0.1).bfloat16())]
    with ThreadPoolExecutor(1) as pool:
        store, place = offered("127.0.0.1", 20)
        sending = pool.submit(send, store, "ann@1-ab", sent, 20, lambda: False)
        with pytest.raises(ValueError, match=r"expected bob@1-ab at 127.0.0.1:\d+, found ann@1-ab"):
            list(received(place, "bob@1-ab", CPU, 20))
        found = list(received(place, "ann@1-ab", CPU, 20))
        sending.result()
    assert [name for name, _ in found] == ["a", "b", "c"]
    for (_, one), (_, other) in zip(sent, found, strict=True):
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(-9.0), other.nan_to_num(-9.0))


class Worker:
    """vLLM's worker with our extension, around the policy of a stub."""

    def __init__(self, stub: Stub) -> None:
        self.stub, self.loading = stub, WeightLoading()
        self.loading.device, self.loading.parallel_config = CPU, SimpleNamespace(world_size=1)
        self.loading.model_runner = SimpleNamespace(
            reload_weights=lambda weights_iterator: put_weights(stub.policy, dict(weights_iterator)),
            get_model=lambda: stub.policy.model,
        )
        stub.changed = {
            "/collective_rpc": self.call,
            "/reset_prefix_cache": lambda body: (200, b""),
            "/update_weight_version": lambda body: (200, b""),
            "/weight_info": lambda body: said({"weight_version": self.loading.held_name}),
        }

    def call(self, body: Mapping[str, Any]) -> Reply:
        try:
            self.loading.load_version(**body["kwargs"])
        except ValueError as error:
            return said({"error": {"message": str(error)}}, 500)
        return said({"results": [None]})


def half(weights_iterator: Any) -> None:
    """Takes one tensor, and has no room for the next."""
    next(weights_iterator)
    raise ValueError(f"no room for {next(weights_iterator)[0]}")


def test_a_server_is_handed_whole_weights_by_a_group(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three versions, without a file; older ones, half of them, several workers and no extension are one line each."""
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    stub = Stub(tiny.load(model_folder, "base"), str(model_folder))
    worker = Worker(stub)
    with serving(stub) as url:
        ann = tiny.load(model_folder, "ann", engine=EngineConfig("server", url=url, transfer="group", seconds=20))
        with open_engines([ann]) as engines:
            speak, local = (Team({"ann": ann}).speaker(SAMPLING, engines=each) for each in (engines, {}))
            for n in range(3):
                shake(ann, n, size=0.1)
                assert_same_answers(ann, list(local(ASKED)), list(speak(ASKED)), SAMPLING, range(3))
                assert version_of(worker.loading.held_name) == n + 1
            assert not list(Path(engines["ann"].folder).iterdir())  # type: ignore[attr-defined]
            shake(ann, 4, size=0.1)
            worker.loading.held_name = hosted_name(ann).replace("@4", "@5")
            with pytest.raises(EngineError, match=r"does not take the weights: /collective_rpc .*ann@4-.* is older"):
                speak(ASKED)
            worker.loading.held_name = ""
            whole, worker.loading.model_runner.reload_weights = worker.loading.model_runner.reload_weights, half
            with pytest.raises(EngineError, match="/collective_rpc refused with status 500: no room for"):
                speak(ASKED)
            worker.loading.model_runner.reload_weights = whole
            worker.loading.parallel_config.world_size = 2
            with pytest.raises(EngineError, match="to one worker; this vLLM has several: take files"):
                speak(ASKED)
            stub.changed = {"/collective_rpc": lambda body: (404, b"")}
            with pytest.raises(EngineError, match=r"/collective_rpc refused with status 404; start it .* --whole"):
                speak(ASKED)
    assert sum(path == "/collective_rpc" for path, _ in stub.seen) == 7, "each is asked once"
