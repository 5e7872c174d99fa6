"""Policies that are no models of this process: what an endpoint is asked, its bad days, what is kept, and functions."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import tiny
from fakes.runs import tiny_run
from fakes.tiny import chat
from fakes.token_server import Talker, serving
from madrigal.algorithms.group import GroupRelative
from madrigal.config import from_json, to_json
from madrigal.evaluation.evaluate import EvalSetup, play_examples
from madrigal.policies.engines.opening import check_engines
from madrigal.policies.outside import load_outside, scripted
from madrigal.policies.remote import Pace, RemoteVoice, read_chat, read_response
from madrigal.policies.team import Team
from madrigal.rollouts.play import GenerationRequest, judge_in_turn
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.settings import Lora, PartnerConfig, PolicyConfig, RemoteConfig, Sampling, TeamConfig
from madrigal.tasks import endpoint
from madrigal.tasks.coordinating import coordinated
from madrigal.tasks.endpoint import TRIES
from madrigal.training.checks import check_experiment
from madrigal.training.plan import make_plan
from madrigal.types import ConfigError, EngineError, Usage

KEY = "geheim-4711"
SAMPLING = Sampling(temperature=0.9, max_new_tokens=8)
ASKED = [GenerationRequest("bob", chat(f"a dog {n}"), n) for n in range(3)]


def words(messages: Any, seed: int) -> str:
    """What tests' endpoints and functions say: nothing but what they were asked."""
    shown = messages[-1]["content"] if isinstance(messages[-1], dict) else messages[-1].content
    return f"{shown} {seed % 2**31 % 7}"


def expected(requests: list[GenerationRequest]) -> list[str]:
    return [words(request.prompt, request.seed) for request in requests]


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    monkeypatch.setattr(endpoint, "PAUSE", 0.0)
    return Talker(words)


@pytest.fixture
def url(talker: Talker) -> Iterator[str]:
    with serving(talker) as address:
        yield f"{address}/v1"


def test_an_endpoint_is_asked_for_every_answer_with_all_that_decides_it(talker: Talker, url: str) -> None:
    config = RemoteConfig(url, "m", prompt_price=2e6, answer_price=1e6)
    said = RemoteVoice(config).answer([*ASKED, replace(ASKED[0], seed=2**40 + 3, greedy=True)], SAMPLING)
    assert [one.text for one in said[:3]] == expected(ASKED)
    assert said[0].usage == Usage(3, 4, cost=10.0) and said[0].tokens == 4 and said[0].finish == "stop"
    assert all(not (one.token_ids or one.logprobs or one.prompt_ids or one.pieces) for one in said)
    bodies = sorted((body for _, body in talker.seen), key=lambda body: (-body["temperature"], body["seed"]))
    messages = [{"role": "user", "content": "a dog 0"}]
    usual = {"model": "m", "messages": messages, "max_tokens": 8, "top_p": 1.0}
    assert bodies[0] == {**usual, "temperature": 0.9, "seed": 0}
    assert bodies[-1] == {**usual, "temperature": 0.0, "seed": (2**40 + 3) % 2**31}
    RemoteVoice(config).answer(ASKED[:1], replace(SAMPLING, top_k=5))
    assert talker.seen[-1][1]["top_k"] == 5


def test_the_responses_api_says_the_same(talker: Talker, url: str) -> None:
    said = RemoteVoice(RemoteConfig(f"{url}/", "m", "responses")).answer(ASKED[:1], SAMPLING)
    path, body = talker.seen[0]
    assert (said[0].text, said[0].usage) == ("a dog 0 0", Usage(3, 4)) and path == "/v1/responses"
    assert body["max_output_tokens"] == 8 and body["input"][0]["content"] == "a dog 0" and "seed" not in body


def test_a_fifth_of_bad_answers_loses_none(talker: Talker, url: str) -> None:
    """Busy, broken, cut off, garbage, a page of HTML: each asked again, counted, and bounded."""
    dice, kinds = random.Random(3), itertools.cycle(["429", "500", "cut", "garbage", "html"])
    talker.fault = lambda: next(kinds) if dice.random() < 0.2 else ""
    requests = [GenerationRequest("bob", chat(f"a dog {n}"), n) for n in range(60)]
    said = RemoteVoice(RemoteConfig(url, "m")).answer(requests, SAMPLING)
    assert [one.text for one in said] == expected(requests)
    assert sum(one.retries for one in said) == len(talker.seen) - 60 > 5


def test_a_silent_try_is_made_again(talker: Talker, url: str) -> None:
    slow = iter(["slow"])
    talker.fault = lambda: next(slow, "")
    (said,) = RemoteVoice(RemoteConfig(url, "m", seconds=1.0)).answer(ASKED[:1], SAMPLING)
    assert (said.text, said.retries) == ("a dog 0 0", 1)


@pytest.mark.parametrize("fault", ["429", "html"])
def test_an_endpoint_that_stays_broken_is_one_line_after_some_tries(talker: Talker, url: str, fault: str) -> None:
    talker.fault = lambda: fault
    with pytest.raises(EngineError, match=rf"m at {url}: .*\({TRIES} tries\)") as found:
        RemoteVoice(RemoteConfig(url, "m", connections=1)).answer(ASKED, SAMPLING)
    assert "\n" not in str(found.value) and TRIES <= len(talker.seen) <= 2 * TRIES, "the others are given up"


def test_nobody_there_is_one_line_before_anything_is_loaded(talker: Talker) -> None:
    nobody = PolicyConfig(remote=RemoteConfig("http://127.0.0.1:9/v1", "m"))
    with pytest.raises(EngineError, match=r"^m at http://127.0.0.1:9/v1: could not be asked .*is remote.url right"):
        check_engines([nobody], SAMPLING)


def test_the_key_goes_to_the_endpoint_and_into_no_message_or_file(
    talker: Talker, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker.key = KEY
    config = PolicyConfig(remote=RemoteConfig(url, "m", key_variable="MY_KEY", cache=str(tmp_path / "kept")))
    monkeypatch.setenv("MY_KEY", f"{KEY}-no")
    open_ = replace(config, remote=replace(config.remote, cache=""))
    for ask in (
        lambda: check_engines([open_], SAMPLING),
        lambda: load_outside("bob", config).voice.answer(ASKED, SAMPLING),
    ):
        with pytest.raises(
            EngineError, match="refused with status 401; set its key in the environment as MY_KEY"
        ) as no:
            ask()
        assert KEY not in str(no.value)
    monkeypatch.setenv("MY_KEY", KEY)
    check_engines([config], SAMPLING)
    talker.fault = iter(["html"] * 3 + [""] * 100).__next__
    policy = load_outside("bob", config)
    policy.voice.answer(ASKED, SAMPLING)
    policy.save(tmp_path / "team" / "bob")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == len(ASKED) + 1 and not any(KEY in file.read_text() for file in files)
    assert json.loads((tmp_path / "team" / "bob" / "outside.json").read_text())["remote"]["model"] == "m"
    monkeypatch.setenv("MY_KEY", "a\nb")
    with pytest.raises(ConfigError, match="plain ASCII characters in MY_KEY"):
        load_outside("bob", config)


def test_what_is_kept_is_asked_for_once(talker: Talker, url: str, tmp_path: Path) -> None:
    """By address, model, messages, sampling and seed; a file that is damaged is asked for again."""
    config, counter = RemoteConfig(url, "m", answer_price=1e6, cache=str(tmp_path)), itertools.count()
    talker.say = lambda messages, seed: f"{next(counter)}"
    first = RemoteVoice(config).answer(ASKED, SAMPLING)
    again = RemoteVoice(config).answer(ASKED, SAMPLING)
    kept = [replace(one, usage=replace(one.usage or Usage(), cost=0.0, cached=True)) for one in first]
    assert again == kept and len(talker.seen) == 3 and {one.usage.cost for one in first if one.usage} == {1.0}
    other = [
        RemoteVoice(replace(config, model="n")).answer(ASKED[:1], SAMPLING),
        RemoteVoice(config).answer([replace(ASKED[0], seed=9)], SAMPLING),
        RemoteVoice(config).answer([replace(ASKED[0], prompt=chat("a cat"))], SAMPLING),
        RemoteVoice(config).answer(ASKED[:1], replace(SAMPLING, temperature=0.8)),
        RemoteVoice(replace(config, url=f"{url}/")).answer(ASKED[:1], SAMPLING),
    ]
    assert [one.text for (one,) in other] == ["3", "4", "5", "6", first[0].text]
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text()[:-9])
    assert len({one.text for one in RemoteVoice(config).answer(ASKED, SAMPLING)} & {"7", "8", "9"}) == 3


def test_a_cache_that_cannot_be_written_is_one_line(talker: Talker, url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"remote.cache: .* could not be written \(.*\); make room, or name another"):
        RemoteVoice(RemoteConfig(url, "m", cache=str(tmp_path / "file"))).answer(ASKED, SAMPLING)


def test_no_more_requests_begin_in_a_minute_than_are_allowed() -> None:
    now = [0.0]
    pace, begun = Pace(2, lambda seconds: now.__setitem__(0, now[0] + seconds), lambda: now[0]), []
    for _ in range(5):
        pace()
        begun.append(now[0])
        now[0] += 1
    assert begun == [0.0, 1.0, 60.0, 61.0, 120.0]
    Pace(0, lambda seconds: pytest.fail("waited"))()


def test_tries_wait_for_their_turn_too(talker: Talker, url: str) -> None:
    waited, faults = list[float](), iter(["500", "429"])
    talker.fault = lambda: next(faults, "")
    voice = RemoteVoice(RemoteConfig(url, "m", per_minute=1), waited.append, lambda: 0.0)
    voice.answer(ASKED[:1], SAMPLING)
    assert waited == [0.0, 60.0, 0.0, 60.0], "a pause of the tries, then the turn"


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {"choices": []},
        {"choices": 3},
        {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]},
        {"output": []},
        {"output": [3]},
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": 3}]}]},
    ],
)
def test_replies_of_any_other_kind_are_refused(reply: Any) -> None:
    for read in (read_chat, read_response):
        with pytest.raises(ValueError, match="with a text, got"):
            read(reply)


def test_an_answer_that_was_cut_off_says_so() -> None:
    cut = {"choices": [{"message": {"content": None}, "finish_reason": "length"}], "usage": None}
    assert (read_chat(cut).text, read_chat(cut).finish) == ("", "length")
    half = {"choices": [{"message": {"content": "a\ud800b"}, "finish_reason": "length"}]}
    assert (read_chat(half).text, read_chat(half).finish) == ("a?b", "length")
    ended = {"output": [], "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"output_tokens": 8}}
    assert (read_response(ended).finish, read_response(ended).tokens) == ("length", 8)


SCRIPT = """
def fine(messages, seed): return f"{messages[-1].content} {seed}"
def broken(messages, seed): raise KeyError("no\\nsuch word")
def number(messages, seed): return seed
def half(messages, seed): return "a\\ud800"
text = "hi"
"""


def test_a_function_speaks(empty_folder: Path) -> None:
    Path("mine.py").write_text(SCRIPT)
    said = load_outside("bob", PolicyConfig(script="mine.py:fine")).voice.answer(ASKED, SAMPLING)
    assert [one.text for one in said] == ["a dog 0 0", "a dog 1 1", "a dog 2 2"]
    assert all(one.tokens == 0 and one.usage is None and one.seconds >= 0 for one in said)
    name = scripted(words)
    assert load_outside("bob", PolicyConfig(script=name)).voice.answer(ASKED, SAMPLING)[0].text == "a dog 0 0"
    assert scripted(words) == name != scripted(replace_words := lambda messages, seed: "") == scripted(replace_words)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mine.py:broken", r"script mine.py:broken, agent bob: KeyError: .*no.*such word.* \(mine.py, line 3\)"),
        ("mine.py:number", "script mine.py:number, agent bob: expected a text, got 0"),
        ("mine.py:half", "its answer holds half a character"),
        ("mine.py:text", "expected a function 'text' in mine.py, got 'hi'"),
        ("mine.py:gone", "expected a function 'gone' in mine.py, got None"),
        ("other.py:fine", "script: there is no file other.py; check the path"),
        ("no.such.module:fine", "script: there is no module 'no.such.module'"),
        ("mine.py", "expected file.py:function or module:function, got 'mine.py'"),
        ("in-memory:nobody", "the function nobody was handed over in Python .*; hand it over again"),
    ],
)
def test_a_function_that_cannot_speak_is_one_line(empty_folder: Path, path: str, message: str) -> None:
    Path("mine.py").write_text(SCRIPT)
    with pytest.raises((ConfigError, EngineError), match=message) as found:
        load_outside("bob", PolicyConfig(script=path)).voice.answer(ASKED, SAMPLING)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RemoteConfig("http://me:secret@there/v1", "m"), r"remote.url: expected the address .*got 'there/v1'"),
        (lambda: RemoteConfig("ftp://there", "m"), "remote.url: expected the address of a server, like http://127"),
        (lambda: RemoteConfig("http://there/v1"), "remote: expected a url and a model, got .* the model ''"),
        (lambda: RemoteConfig(connections=0), "remote.connections: expected at least 1"),
        (lambda: RemoteConfig(per_minute=-1), "remote.per_minute: expected 0 or more"),
        (lambda: RemoteConfig(answer_price=float("nan")), "remote.answer_price"),
        (lambda: PolicyConfig(remote=RemoteConfig("http://x", "m"), script="a.py:b"), "script: m at http://x speaks"),
        (lambda: TeamConfig(policy=PolicyConfig(script="a.py:b"), shared=True), "team.shared: .*a.py:b does not learn"),
        (
            lambda: TeamConfig(seats={"bob": PolicyConfig(script="a.py:b")}, partners=PartnerConfig(share=0.5)),
            "team.partners: older selves play a team's own seats, and a.py:b has none",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        make()
    assert "secret" not in str(found.value)


def team_config(model: Path, script: str = "", **more: Any) -> TeamConfig:
    ann = PolicyConfig(model=str(model))
    return TeamConfig(policy=ann, seats={"bob": replace(ann, script=script, **more)}, device="cpu")


def test_a_seat_takes_nothing_of_a_model_over_and_comes_back_from_json(model_folder: Path) -> None:
    remote = RemoteConfig("http://127.0.0.1:9/v1", "m", cache="kept")
    bob = PolicyConfig("starter:large", lora=Lora(rank=4), remote=remote)
    assert (bob.model, bob.trainable, bob.lora.rank, bob.speaker) == ("", False, 0, "m at http://127.0.0.1:9/v1")
    run = tiny_run(model_folder, "fakes.odd:joint", GroupRelative(), team=TeamConfig(seats={"bob": bob, "cat": bob}))
    assert from_json(to_json(run)) == run and list(run.team.outside) == ["team.seats.bob"]


def test_what_needs_a_model_in_every_seat_is_refused(model_folder: Path) -> None:
    from fakes.odd import joint
    from madrigal.algorithms.ccpo import Ccpo
    from madrigal.algorithms.pmic import Pmic

    def refused(algorithm: Any, **changes: Any) -> str:
        run = tiny_run(model_folder, "fakes.odd:joint", algorithm, team=team_config(model_folder, "a.py:b"))
        with pytest.raises(ConfigError) as found:
            check_experiment(replace(run, **changes), joint)
        return str(found.value)

    assert "team.seats.bob: algorithm pmic reads answers as vectors" in refused(Pmic())
    assert "algorithm.alternate" in refused(Ccpo(alternate=1))
    nobody = TeamConfig(policy=PolicyConfig(script="a.py:b"), device="cpu")
    assert refused(GroupRelative(), team=nobody).startswith("team: no policy is trainable")


def test_a_plan_counts_no_memory_for_who_speaks_from_elsewhere(model_folder: Path) -> None:
    from fakes.odd import joint

    run = tiny_run(model_folder, "fakes.odd:joint", GroupRelative(), team=team_config(model_folder, "a.py:b"))
    plan = make_plan(run, joint, joint.examples("train"), joint.examples("test"))
    assert [body.name for body in plan.bodies] == ["ann"]
    assert plan.models["bob"] == "a.py:b, takes no memory here, does not learn"


TOPOLOGIES: list[Topology] = [Parallel(), Sequential(), Discussion(2), Asynchronous(turns=2), Coordinated("bob", 2)]


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("kind", ["script", "remote"])
def test_it_speaks_beside_models_in_every_topology(
    model_folder: Path, talker: Talker, url: str, topology: Topology, kind: str
) -> None:
    from fakes.odd import joint

    settings = {"remote": RemoteConfig(url, "m")} if kind == "remote" else {"script": scripted(words)}
    bob = load_outside("bob", PolicyConfig(**settings))  # type: ignore[arg-type]
    team = Team({"ann": tiny.load(model_folder), "bob": bob})
    task = coordinated(joint, topology)
    setup = EvalSetup(task, topology, task.examples("test")[:2], team.speaker(SAMPLING), judge_in_turn(task))
    turns = [turn for episode in play_examples(setup) for turn in episode.turns]
    assert {turn.agent for turn in turns} == {"ann", "bob"}
    for turn in turns:
        ours = turn.agent == "ann"
        assert bool(turn.completion.token_ids) == bool(turn.completion.logprobs) == ours
        assert ours or turn.completion.text.startswith(turn.prompt[-1].content)
    assert (team.policies, team.outside, team.trainable) == ((team.seats["ann"],), (bob,), (team.seats["ann"],))
