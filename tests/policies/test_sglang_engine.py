"""SGLang's dialect against a stub of its wire format: what it is asked, what is handed over, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.engines import shake
from fakes.sglang_server import SglangStub, started
from fakes.tiny import chat
from fakes.token_server import said, serving
from madrigal.policies.engines.opening import check_engines, open_engines
from madrigal.policies.engines.sglang import read_generated
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import EngineConfig, Lora, PolicyConfig, Sampling
from madrigal.tasks import endpoint
from madrigal.types import ConfigError, EngineError

SAMPLING = Sampling(temperature=0.9, top_k=20, max_new_tokens=8)
ASKED = [GenerationRequest(agent, chat("a dog"), n) for n in range(4) for agent in ("ann", "bob")]
ALONE = [one for one in ASKED if one.agent == "ann"]


@pytest.fixture
def stub(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> SglangStub:
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    return SglangStub(tiny.load(model_folder, "base", lora=Lora(rank=2)), str(model_folder), started())


@pytest.fixture
def url(stub: SglangStub) -> Iterator[str]:
    with serving(stub) as address:
        yield address


def test_two_adapters_of_sglang_say_what_the_policies_say(model_folder: Path, stub: SglangStub, url: str) -> None:
    """At first and after an update; the server holds the newest of each, and in the end none."""
    engine = EngineConfig("server", url=url)
    ann = tiny.load(model_folder, "ann", lora=Lora(rank=2), engine=engine)
    bob = tiny.load(model_folder, "bob", lora=Lora(rank=2), engine=engine, base=ann.model)
    team = Team({"ann": ann, "bob": bob})
    check_engines([PolicyConfig(str(model_folder), lora=Lora(rank=2), engine=engine)], SAMPLING)
    with open_engines(team.policies) as engines:
        for n in range(2):
            for seed, policy in enumerate(team.policies):
                shake(policy, 5 * n + seed, size=0.1)
            there, here = (team.speaker(SAMPLING, engines=each)(ASKED) for each in (engines, {}))
            for place, policy in enumerate(team.policies):
                assert_same_answers(policy, list(here[place::2]), list(there[place::2]), SAMPLING, range(4))
                assert {one.version for one in there[place::2]} == {policy.version}
            assert [name.partition("-")[0] for name in sorted(stub.adapters)] == [f"ann@{n + 1}", f"bob@{n + 1}"]
        greedy = [replace(one, greedy=True) for one in ASKED]
        there, here = (team.speaker(SAMPLING, engines=each)(greedy) for each in (engines, {}))
        assert [one.token_ids for one in there] == [one.token_ids for one in here]
    assert not stub.adapters
    bodies = [body for path, body in stub.seen if path == "/generate"]
    assert not any(body["sampling_params"]["ignore_eos"] for body in bodies), "it would ignore stop_token_ids, too"
    assert bodies[1]["sampling_params"]["stop_token_ids"] == sorted(ann.ends)


def test_whole_weights_go_there_by_files_and_come_back_by_name(model_folder: Path, stub: SglangStub, url: str) -> None:
    """Weights of another process, and older ones of this, are refused; a second run finds its model again."""
    engine = EngineConfig("server", url=url)
    stub.policy = tiny.load(model_folder, "base")
    ann = tiny.load(model_folder, "ann", engine=engine)
    team = Team({"ann": ann})
    with open_engines(team.policies) as engines:
        speak, local = (team.speaker(SAMPLING, engines=each) for each in (engines, {}))
        for n in range(2):
            shake(ann, n, size=0.1)
            assert_same_answers(ann, list(local(ALONE)), list(speak(ALONE)), SAMPLING, range(4))
        assert stub.version.startswith("ann@2-") and stub.named != stub.served
        check_engines([PolicyConfig(str(model_folder), engine=engine)], SAMPLING)
        mine, stub.version = stub.version, "ann@9-ffffff"
        with pytest.raises(EngineError, match=r"holds 'ann@9-ffffff' and was handed version 2; another process has"):
            speak(ALONE)
        stub.version = mine
    ann.version = 1
    with open_engines(team.policies) as engines, pytest.raises(EngineError, match=r"holds ann@2-.*, newer than ann@1-"):
        team.speaker(SAMPLING, engines=engines)(ALONE)


def test_sglang_that_keeps_older_weights_under_the_new_name_is_found(
    model_folder: Path, stub: SglangStub, url: str
) -> None:
    stub.policy = tiny.load(model_folder, "base")
    ann = tiny.load(model_folder, "ann", engine=EngineConfig("server", url=url))
    shake(ann, 0, size=0.1)

    def keep(body: Any) -> Any:
        stub.version = body["weight_version"]
        return said({"success": True})

    stub.changed["/update_weights_from_disk"] = keep
    with open_engines([ann]) as engines, pytest.raises(EngineError, match=r"handed version 1 .* does not speak with"):
        Team({"ann": ann}).speaker(SAMPLING, engines=engines)(ALONE)


@pytest.mark.parametrize(
    ("change", "sampling", "message"),
    [
        ({"version": "0.5.9"}, SAMPLING, "is SGLang 0.5.9, expected 0.5.23 or newer"),
        ({"enable_deterministic_inference": False}, SAMPLING, "seeds; start it with --enable-deterministic-inference"),
        ({}, replace(SAMPLING, top_p=0.9), r"sampling.top_p: SGLang does not return log-probs .* \(0.9\) alone"),
        ({"sampling_mask_max_tokens": 16}, SAMPLING, "up to a top_k of 16, got 20; start it with --sampling-mask-max"),
        ({"enable_lora": False}, SAMPLING, "takes no adapters; start it with --enable-lora --max-lora-rank 2"),
        ({"max_lora_rank": 1}, SAMPLING, "not take adapters of rank 2, 1 at most; start it with --max-lora-rank 2"),
        ({"served_model_name": "x", "model_path": "y"}, SAMPLING, "serves x, expected .* --served-model-name"),
    ],
)
def test_a_server_of_sglang_that_does_not_fit_is_one_line(
    model_folder: Path, stub: SglangStub, url: str, change: dict[str, Any], sampling: Sampling, message: str
) -> None:
    stub.info |= change
    policy = PolicyConfig(str(model_folder), lora=Lora(rank=2), engine=EngineConfig("server", url=url))
    with pytest.raises(ConfigError, match=message) as found:
        check_engines([policy], sampling)
    assert "\n" not in str(found.value)


META = {"finish_reason": {"type": "stop"}, "prompt_tokens": 2, "weight_version": "a"}
META |= {"output_token_logprobs": [[-0.5, 7, None]]}


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        ({"finish_reason": {"type": "abort", "message": "out of room"}}, {}, "one that was given up: out of room"),
        ({"prompt_tokens": 3}, {}, "an answer to a prompt of 2 tokens, got one of 3"),
        ({"output_token_logprobs": [[-0.5, 8, None]]}, {}, "token ids and their log-probs"),
        ({"output_token_logprobs": [[None, 7, None]]}, {}, "token ids and their log-probs"),
        ({"output_token_sampling_logprobs": [None]}, {"return_sampling_mask": True}, "token ids and their log-probs"),
    ],
)
def test_answers_of_sglang_of_any_other_kind_are_refused(change: dict[str, Any], asked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_generated({"output_ids": [7], "meta_info": META | change}, {"input_ids": [1, 2], **asked})


def test_an_answer_of_two_versions_of_sglangs_weights_has_none() -> None:
    spans = [{"version": "a", "start": 0, "end": 1}, {"version": "b", "start": 1, "end": 2}]
    reply = {"output_ids": [7], "meta_info": META | {"weight_versions": spans}}
    assert read_generated(reply, {"input_ids": [1, 2]}) == ((7,), (-0.5,), "")
