"""A server that answers with token ids: what it is asked, what is handed to it, and its bad days."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import tiny
from fakes.borders import assert_same_answers
from fakes.engines import shake
from fakes.tiny import chat
from fakes.token_server import Reply, Stub, said, serving
from madrigal.policies.engines.client import Client
from madrigal.policies.engines.dialect import read_completion
from madrigal.policies.engines.opening import check_engines, open_engines
from madrigal.policies.engines.server import ServerEngine, check_server
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest
from madrigal.settings import EngineConfig, Lora, PolicyConfig, Sampling
from madrigal.tasks import endpoint
from madrigal.tasks.endpoint import TRIES
from madrigal.types import ConfigError, EngineError

SAMPLING = Sampling(temperature=0.9, top_k=20, max_new_tokens=8)
ASKED = [GenerationRequest(agent, chat("a dog"), n) for n in range(5) for agent in ("ann", "bob")]
KEY = "geheim-4711"


@pytest.fixture
def stub(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """A server of the tiny model that waits for nobody, with room for adapters of rank 2."""
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    return Stub(tiny.load(model_folder, "base", lora=Lora(rank=2)), str(model_folder))


@pytest.fixture
def url(stub: Stub) -> Iterator[str]:
    with serving(stub) as address:
        yield address


def team_of(folder: Path, url: str, **settings: Any) -> Team:
    engine = EngineConfig("server", url=url, **settings)
    ann = tiny.load(folder, "ann", lora=Lora(rank=2), engine=engine)
    bob = tiny.load(folder, "bob", lora=Lora(rank=2), engine=engine, base=ann.model)
    for seed, policy in enumerate((ann, bob)):
        shake(policy, seed, size=0.1)
    return Team({"ann": ann, "bob": bob})


def policy_of(folder: Path, url: str, rank: int = 2, **settings: Any) -> PolicyConfig:
    return PolicyConfig(str(folder), lora=Lora(rank=rank), engine=EngineConfig("server", url=url, **settings))


def test_two_adapters_of_a_server_say_what_the_policies_say(model_folder: Path, stub: Stub, url: str) -> None:
    """At first and after each of three updates; the server holds the newest adapter of each, and in the end none."""
    team = team_of(model_folder, url)
    with open_engines(team.policies) as engines:
        assert engines["ann"] is engines["bob"]
        for n in range(3):
            there, here = (team.speaker(SAMPLING, engines=each)(ASKED) for each in (engines, {}))
            for place, policy in enumerate(team.policies):
                pair = (list(here[place::2]), list(there[place::2]))
                assert_same_answers(policy, *pair, SAMPLING, range(5))
                assert {one.version for one in there[place::2]} == {policy.version}
            names = sorted(stub.adapters)
            assert [name.partition("-")[0] for name in names] == [f"ann@{n + 1}", f"bob@{n + 1}"]
            for policy in team.policies:
                shake(policy, 5 + n, size=0.1)
    assert not stub.adapters
    body = next(body for path, body in stub.seen if path == "/v1/completions")
    assert body["return_token_ids"] and body["ignore_eos"] and body["repetition_penalty"] == 1.0
    assert body["stop_token_ids"] == sorted(team.seats["ann"].ends)


def test_a_server_that_keeps_older_weights_under_the_new_name_is_found(
    model_folder: Path, stub: Stub, url: str
) -> None:
    team = team_of(model_folder, url)
    with open_engines(team.policies) as engines:
        speak = team.speaker(SAMPLING, engines=engines)
        speak(ASKED)
        stub.load = lambda name, folder: (stub.adapters.update({name: stub.policy}), (200, b""))[1]  # type: ignore[method-assign]
        shake(team.seats["ann"], 9, size=0.1)
        with pytest.raises(
            EngineError, match=r"policy ann: the server at .* was handed version 2 .* does not speak with"
        ):
            speak(ASKED)


def test_an_answer_by_another_name_is_refused(model_folder: Path, stub: Stub, url: str) -> None:
    """The name says policy, version and process."""
    team = team_of(model_folder, url)
    answer = stub.completion
    stub.completion = lambda body: answer(body) | {"model": "ann@0-ffffff"}  # type: ignore[method-assign]
    with open_engines(team.policies) as engines, pytest.raises(EngineError, match="answered with version -1"):
        team.speaker(SAMPLING, engines=engines)(ASKED)


def test_a_fifth_of_bad_answers_loses_none(model_folder: Path, stub: Stub, url: str) -> None:
    """Busy, broken, cut off, garbage, and a page of HTML: all answers come, and are the same."""
    team, dice = team_of(model_folder, url), random.Random(3)
    kinds = itertools.cycle(["429", "500", "cut", "garbage", "html"])
    stub.fault = lambda: next(kinds) if dice.random() < 0.2 else ""
    asked = [GenerationRequest(agent, chat("a dog"), n) for n in range(30) for agent in ("ann", "bob")]
    with open_engines(team.policies) as engines:
        engine = engines["ann"]
        assert isinstance(engine, ServerEngine)
        there, here = (team.speaker(SAMPLING, engines=each)(asked) for each in (engines, {}))
        for place, policy in enumerate(team.policies):
            assert_same_answers(policy, list(here[place::2]), list(there[place::2]), SAMPLING, range(30))
        assert 5 <= engine.client.retries <= 30
        assert 5 <= sum(completion.retries for completion in there) <= engine.client.retries


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "refused with status 429: busy"),
        ("500", "refused with status 500: busy"),
        ("cut", "could not be asked|expected JSON"),
        ("garbage", "expected JSON, got"),
        ("html", "expected JSON, got '<html><body>Welcome to the proxy"),
    ],
)
def test_a_server_that_stays_broken_is_one_line_after_some_tries(
    model_folder: Path, stub: Stub, url: str, fault: str, reason: str
) -> None:
    team = team_of(model_folder, url, connections=1)
    stub.fault = lambda: fault
    with open_engines(team.policies) as engines, pytest.raises(EngineError, match=reason) as found:
        team.speaker(SAMPLING, engines=engines)(ASKED)
    assert f"({TRIES} tries)" in str(found.value) and "\n" not in str(found.value)
    assert TRIES <= sum(path == "/v1/completions" for path, _ in stub.seen) <= 2 * TRIES, "the others are given up"


def test_pauses_grow_between_tries() -> None:
    waited: list[float] = []
    with pytest.raises(EngineError, match=r"could not be asked \(ConnectionRefusedError\); is it running\?"):
        Client(EngineConfig("server", url="http://127.0.0.1:9"), waited.append).ask("/v1/models", None, lambda _: _)
    assert waited == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_an_answer_that_does_not_come_in_time_is_asked_for_again(model_folder: Path, stub: Stub, url: str) -> None:
    slow = iter(["slow"])
    stub.fault = lambda: next(slow, "")
    team = team_of(model_folder, url, seconds=1.0, connections=1)
    with open_engines(team.policies) as engines:
        assert len(team.speaker(SAMPLING, engines=engines)(ASKED[:2])) == 2
        assert engines["ann"].client.retries >= 1  # type: ignore[attr-defined]


def test_the_key_comes_from_the_environment_and_stays_out_of_messages(
    model_folder: Path, stub: Stub, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.key = KEY
    policy = policy_of(model_folder, url, key_variable="MY_KEY")
    for wrong in (None, f"{KEY}-no"):
        if wrong:
            monkeypatch.setenv("MY_KEY", wrong)
        with pytest.raises(
            EngineError, match="refused with status 401; set its key in the environment as MY_KEY"
        ) as no:
            check_server(policy, SAMPLING)
        assert KEY not in str(no.value)
    monkeypatch.setenv("MY_KEY", KEY)
    check_server(policy, SAMPLING)
    stub.changed = {"/v1/models": lambda body: said({"error": {"message": f"your key is {KEY}"}}, 400)}
    with pytest.raises(EngineError, match=r"refused with status 400: your key is \*\*\*"):
        check_server(policy, SAMPLING)
    monkeypatch.setenv("MY_KEY", "a\nb")
    with pytest.raises(ConfigError, match="expected a key of plain ASCII characters in MY_KEY"):
        check_server(policy, SAMPLING)


def refusing(status: int, message: str) -> Callable[[Mapping[str, Any]], Reply]:
    return lambda body: said({"error": {"message": message}}, status)


def test_a_server_that_fits_is_accepted(model_folder: Path, stub: Stub, url: str) -> None:
    check_engines([policy_of(model_folder, url), policy_of(model_folder, f"{url}/v1/")], SAMPLING)
    assert not stub.adapters, "what was tried is taken back"
    for path in ("/version", "/tokenize"):  # other servers have none
        stub.changed = {**stub.changed, path: lambda body: (404, b"")}
    check_server(policy_of(model_folder, url), SAMPLING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"served": "Qwen/other"}, "serves Qwen/other, expected .*; if these are the same, .* --served-model-name"),
        ({"version": "0.9.2"}, "is vLLM 0.9.2, expected 0.10.2 or newer, which returns token ids"),
        ({"largest_rank": 1}, r"take adapters of rank 2 \(.*rank 2 is greater than max_lora_rank 1.*-rank 2 or more"),
        ({"/tokenize": lambda body: said({"tokens": [1, 2]})}, r"has another tokenizer than .*: it makes \[1, 2\] of"),
        ({"/v1/load_lora_adapter": lambda body: (404, b"")}, "takes no adapters while it runs; start it with --enable"),
        ({"/v1/models": lambda body: said({"detail": "no"})}, "expected a list of models, got .* of OpenAI's protocol"),
        ({"/v1/models": lambda body: (200, b"<html>")}, "expected JSON, got '<html>'"),
        (
            {"/v1/completions": lambda body: said({"model": "m", "choices": [{"text": "a dog"}]})},
            r"expected token ids and log-probs \(return_token_ids\), which vLLM returns from 0.10.2 on, got a text",
        ),
    ],
)
def test_a_server_that_does_not_fit_is_one_line_before_anything_is_loaded(
    model_folder: Path, stub: Stub, url: str, change: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        if name.startswith("/"):
            stub.changed = {name: value}
        else:
            setattr(stub, name, value)
    with pytest.raises((ConfigError, EngineError), match=message) as found:
        check_engines([policy_of(model_folder, url)], SAMPLING)
    assert "\n" not in str(found.value) and url in str(found.value)


def test_log_probs_of_the_models_own_distribution_are_refused_where_another_is_sampled(
    model_folder: Path, stub: Stub, url: str
) -> None:
    """Of a single candidate the log-prob is 0; a server that says -0.7 has not cut anything."""
    answer = stub.completion

    def raw(body: Mapping[str, Any]) -> Any:
        reply = answer(body)
        reply["choices"][0]["logprobs"] = {"token_logprobs": [-0.7]}
        return reply

    stub.completion = raw  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="not of the one that is sampled; start it with --logprobs-mode processed"):
        check_server(policy_of(model_folder, url), SAMPLING)
    check_server(policy_of(model_folder, url), Sampling())  # there is no difference


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {"choices": []},
        {"model": "m", "choices": [{"token_ids": None, "logprobs": None}]},
        {"model": "m", "choices": [{"token_ids": [1.5], "logprobs": {"token_logprobs": [0.0]}}]},
        {"model": "m", "choices": [{"token_ids": [1], "logprobs": {"token_logprobs": [None]}}]},
        {"model": "m", "choices": [{"token_ids": [1], "prompt_token_ids": [9], "logprobs": {"token_logprobs": [0.0]}}]},
    ],
)
def test_completions_of_any_other_kind_are_refused(reply: Any) -> None:
    with pytest.raises(ValueError, match=r"completion with token ids|an answer to a prompt of 2 tokens"):
        read_completion(reply, {"prompt": [1, 2]})


def test_weights_that_a_server_does_not_take_are_one_line(model_folder: Path, stub: Stub, url: str) -> None:
    team = team_of(model_folder, url)
    stub.changed = {"/v1/load_lora_adapter": refusing(400, "no room\nfor it")}
    with (
        open_engines(team.policies) as engines,
        pytest.raises(
            EngineError, match=r"does not take the weights: /v1/load_lora_adapter refused .*: no room for it; "
        ),
    ):
        team.speaker(SAMPLING, engines=engines)(ASKED)


def test_a_model_that_does_not_learn_is_asked_as_it_is_served(model_folder: Path, stub: Stub, url: str) -> None:
    engine = EngineConfig("server", url=url)
    frozen = tiny.load(model_folder, "ann", trainable=False, engine=engine)
    stub.policy = tiny.load(model_folder, "base")
    team = Team({"ann": frozen, "bob": replace(frozen, name="bob")})
    with open_engines(team.policies) as engines:
        there, here = (team.speaker(SAMPLING, engines=each)(ASKED) for each in (engines, {}))
    assert_same_answers(frozen, list(here), list(there), SAMPLING, [one.seed for one in ASKED])
    assert {path for path, _ in stub.seen} == {"/v1/models", "/v1/completions"}
    shake(frozen, 0)
    frozen.version = 0
    with open_engines(team.policies) as engines, pytest.raises(EngineError, match="does not speak with them"):
        team.speaker(SAMPLING, engines=engines)(ASKED)
