"""A team behind OpenAI's interface: clients that exist, bad input, slow and leaving clients, signals."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from fakes.chromium import Page
from fakes.command_line import refused
from fakes.serving import Gate, GatedTeam
from madrigal import cli, load_team, train
from madrigal.rollouts.task import SingleRound
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.runs.signals import ending_cleanly
from madrigal.serving import web
from madrigal.serving.pages import team_app
from madrigal.serving.service import Limits, TeamService
from madrigal.serving.web import listen, serving
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import ConfigError, Example

POST = "My dog ate my homework and my teacher does not believe me."
ASKED: dict[str, Any] = {"model": "team/tldr", "messages": [{"role": "user", "content": POST}]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = {"evaluation": {"examples": 1, "timed_examples": 0}, "sampling": {"max_new_tokens": 8}}
    return train("tldr", tmp_path_factory.mktemp("runs") / "tldr", steps=0, quiet=True, **small).folder


@pytest.fixture(scope="module")
def team(run: Path) -> TrainedTeam:
    return load_team(run)


@pytest.fixture(scope="module")
def service(team: TrainedTeam) -> Iterator[TeamService]:
    service = TeamService(team, "tldr")
    yield service
    assert service.worker.close(10)


@pytest.fixture(scope="module")
def url(service: TeamService) -> Iterator[str]:
    with serving(team_app(service)) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def gate() -> Gate:
    return Gate(concise="Brief.", detailed="At length.")


@pytest.fixture
def gated(team: TrainedTeam, gate: Gate) -> Iterator[TeamService]:
    """A server whose team speaks when `gate` is opened."""
    service = TeamService(GatedTeam(team.run, team.task, team.team, voice=gate), "tldr", Limits(playing=2, waiting=1))
    yield service
    gate.open.release(100)
    assert service.worker.close(10)


def inside(service: TeamService, **settings: Any) -> TestClient:
    """A client without a socket."""
    return TestClient(team_app(service, **settings), base_url="http://127.0.0.1")


def chat(client: openai.OpenAI, text: str = POST, model: str = "team/tldr", **fields: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **fields)


# Clients


def test_openais_client_lists_models_and_reads_answers(client: openai.OpenAI, team: TrainedTeam) -> None:
    names = ["team/tldr", "team/tldr/concise", "team/tldr/detailed"]
    assert [model.id for model in client.models.list()] == names
    assert client.models.retrieve(names[1]).id == names[1]
    told, own = chat(client, seed=3), team.answer(POST, seed=3)
    (choice,) = told.choices
    assert choice.message.content == own.text and choice.finish_reason == "length"
    assert choice.message.reasoning_content == "".join(f"{t['agent']}: {t['text']}\n\n" for t in own.turns)
    assert choice.madrigal["answers"] == own.answers
    agents = told.madrigal["agents"]
    assert told.usage.completion_tokens == sum(turn["tokens"] for turn in own.turns)
    assert told.usage.total_tokens == sum(agent["total_tokens"] for agent in agents.values())
    assert all(agent["seconds"] > 0 for agent in agents.values()) and told.madrigal["seed"] == 3


@pytest.mark.parametrize(("model", "stop"), [("team/tldr", None), ("team/tldr", "a"), ("team/tldr/detailed", None)])
def test_a_stream_holds_what_the_whole_answer_does(client: openai.OpenAI, model: str, stop: str | None) -> None:
    asked: dict[str, Any] = {"seed": 4, "n": 2, "model": model, "stop": stop}
    whole = chat(client, **asked)
    parts = list(chat(client, **asked, stream=True, stream_options={"include_usage": True}))
    assert parts[-1].usage == whole.usage and not parts[-1].choices
    for choice in whole.choices:
        own = [part for part in parts[:-1] if part.choices[0].index == choice.index]
        deltas = [part.choices[0].delta for part in own]
        assert deltas[0].role == "assistant"
        assert "".join(delta.content or "" for delta in deltas) == choice.message.content
        told = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        assert told == (getattr(choice.message, "reasoning_content", None) or "")
        assert [p.choices[0].finish_reason for p in own if p.choices[0].finish_reason] == [choice.finish_reason]
        extra = [part.madrigal for part in own[:-1]]
        turns = [one["turn"] for one in extra if "turn" in one]
        for turn in turns:
            words = [one["words"]["text"] for one in extra if one.get("words", {}).get("agent") == turn["agent"]]
            assert turn["text"].startswith("".join(words))
        if not stop:  # words come before their turn is over
            first = next(n for n, one in enumerate(extra) if "turn" in one)
            assert 0 < sum(bool(delta.content) for delta in deltas[: first + 1]) <= first
    assert model != "team/tldr" or whole.choices[0].message.content != whole.choices[1].message.content


@pytest.mark.parametrize("topology", [Parallel(), Sequential()])
def test_the_content_is_of_those_who_answer(team: TrainedTeam, topology: Topology) -> None:
    rows = [Example(name, {"post": name}) for name in "ab"]
    task = SingleRound(
        "one", team.agents, rows[:1], rows[1:], lambda e, a: e.data["post"], len, answering=("detailed",)
    )
    service = TeamService(replace(team, task=task, run=replace(team.run, topology=topology)), "tldr")
    client = inside(service)
    whole = client.post("/v1/chat/completions", json=ASKED | {"seed": 1}).json()
    parts = client.post("/v1/chat/completions", json=ASKED | {"seed": 1, "stream": True}).text
    assert service.worker.close(10)
    told = whole["choices"][0]["madrigal"]["answers"]
    assert list(told) == ["concise", "detailed"]
    assert whole["choices"][0]["message"]["content"] == told["detailed"]
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in parts.splitlines() if line.startswith("data: {")]
    assert "".join(delta.get("content", "") for delta in deltas) == told["detailed"]


def test_equal_seeds_give_equal_answers_alone_or_among_others(client: openai.OpenAI, team: TrainedTeam) -> None:
    texts = [f"{POST} It was number {n}." for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        among = list(pool.map(lambda text: chat(client, text, seed=7).choices[0].message.content, texts))
    assert among == [answer.text for answer in team.answer_many(texts, seed=7)]
    assert chat(client, texts[3], seed=7).choices[0].message.content == among[3]
    assert chat(client, texts[3], seed=7, n=2).choices[0].message.content == among[3]


def test_sampling_is_of_the_request(client: openai.OpenAI, team: TrainedTeam) -> None:
    greedy = team.answer(POST, greedy=True).text
    assert chat(client, temperature=0).choices[0].message.content == greedy
    short = chat(client, temperature=0, max_tokens=2, top_p=0.9)
    assert short.usage.completion_tokens == 4 and short.choices[0].finish_reason == "length"
    assert chat(client, temperature=0, max_completion_tokens=9999).choices[0].message.content == greedy
    letter = greedy[3]
    cut = chat(client, temperature=0, stop=letter).choices[0]
    assert cut.madrigal["answers"]["concise"] == greedy[: greedy.index(letter)]


def test_an_agent_answers_a_chat_alone(client: openai.OpenAI, team: TrainedTeam) -> None:
    turn = team.answer(POST, greedy=True).turns[1]
    told = client.chat.completions.create(
        model=f"team/tldr/{turn['agent']}", messages=list(turn["prompt"]), temperature=0
    )
    assert told.choices[0].message.content == turn["text"]
    assert told.usage.completion_tokens == turn["tokens"]
    said = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert client.chat.completions.create(model="team/tldr/concise", messages=said).usage.prompt_tokens > 4


def test_fields_of_an_example_are_asked_as_json(client: openai.OpenAI) -> None:
    fields = chat(client, json.dumps({"post": POST}), seed=1)
    assert fields.choices[0].madrigal["answers"].keys() == {"concise", "detailed"}
    with pytest.raises(openai.BadRequestError, match="prompt or post, got title"):
        chat(client, json.dumps({"title": POST}))


def test_openais_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is team/tldr") as unknown:
        chat(client, model="gpt")
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="not supported") as tools:
        chat(client, tools=[{"type": "function", "function": {"name": "x"}}])
    assert tools.value.param == "tools"
    with pytest.raises(openai.BadRequestError, match="context of 2048") as long:
        chat(client, "dog " * 4000)
    assert long.value.code == "context_length_exceeded"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_curl_reads_a_stream(url: str) -> None:
    body = json.dumps({**ASKED, "stream": True})
    command = ["curl", "-sN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""] and all(line.startswith("data: {") for line in lines[:-2])


def test_langchain_chats(url: str, team: TrainedTeam) -> None:
    chat_openai = pytest.importorskip("langchain_openai").ChatOpenAI
    model = chat_openai(base_url=f"{url}/v1", api_key="none", model="team/tldr", temperature=0, max_retries=0)
    greedy = team.answer(POST, greedy=True).text
    told = model.invoke(POST)
    assert told.content == greedy and told.usage_metadata["output_tokens"] > 0
    assert "".join(part.content for part in model.stream(POST)) == greedy


def test_turns_come_before_the_next_is_spoken(team: TrainedTeam, gate: Gate) -> None:
    sequential = replace(team.run, topology=Sequential())
    turns = GatedTeam(sequential, team.task, team.team, voice=gate).iter_turns(POST)
    gate.open.release()
    assert next(turns)["agent"] == "concise" and len(gate.calls) == 1
    gate.open.release()
    assert [turn["text"] for turn in turns] == ["At length."] and len(gate.calls) == 2


# Requests that are refused


def no_json(depth: int) -> bytes:
    return b"[" * depth


BAD: list[tuple[Any, int, str]] = [
    (b"\x00\xff\xfe", 400, "UTF-8"),
    (b"", 400, "expected JSON"),
    (no_json(100_000), 400, "too deep"),
    (b"[]", 400, "JSON object"),
    ({"model": None}, 400, "model"),
    ({"model": "team/other"}, 404, "there is no"),
    ({"messages": []}, 400, "at least one"),
    ({"messages": "hello"}, 400, "expected a list"),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "expected a role of"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, 400, "expected a role of"),
    ({"messages": [{"role": "user", "content": " \n"}]}, 400, "an empty one"),
    ({"messages": [{"role": "user", "content": None}]}, 400, "expected a text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "expected a text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "the user's"),
    ({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]}, 400, "--ignore-history"),
    ({"n": 0}, 400, "1 to 16"),
    ({"n": True}, 400, "1 to 16"),
    ({"n": 1e9}, 400, "1 to 16"),
    ({"temperature": -1}, 400, "0 to 2"),
    ({"temperature": "hot"}, 400, "a number"),
    ({"temperature": float("nan")}, 400, "0 to 2"),
    ({"top_p": 0}, 400, "top_p"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_completion_tokens": 1.5}, 400, "max_completion_tokens"),
    ({"stop": [""]}, 400, "none of them empty"),
    ({"stop": {"a": 1}}, 400, "stop"),
    ({"seed": 2**70}, 400, "seed"),
    ({"stream": "yes"}, 400, "true or false"),
    ({"stream_options": [1]}, 400, "an object"),
    ({"logprobs": True}, 400, "not supported"),
    ({"response_format": {"type": "json_schema"}}, 400, "not supported"),
    ({"audio": {"voice": "x"}}, 400, "not supported"),
    ({"functions": [{"name": "x"}]}, 400, "not supported"),
]


@pytest.mark.parametrize(("change", "status", "hint"), BAD)
def test_what_cannot_be_answered_says_why(service: TeamService, change: Any, status: int, hint: str) -> None:
    body = change if isinstance(change, bytes) else json.dumps({**ASKED, **change}).encode()
    reply = inside(service).post("/v1/chat/completions", content=body, headers=JSON)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert hint in error["message"] and error["type"] == "invalid_request_error" and "\n" not in error["message"]


def test_unknown_fields_are_ignored_and_so_is_history_if_asked_for(gated: TeamService, gate: Gate) -> None:
    gate.open.release(9)
    extra = {"user": "x", "store": True, "tools": [], "response_format": {"type": "text"}, "logprobs": False}
    reply = inside(gated).post("/v1/chat/completions", json={**ASKED, **extra})
    assert reply.json()["choices"][0]["message"]["content"] == "Brief.\n\nAt length."
    gated.limits = Limits(ignore_history=True)
    before = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "y"},
        {"role": "assistant", "content": "z"},
    ]
    reply = inside(gated).post("/v1/chat/completions", json={**ASKED, "messages": [*before, *ASKED["messages"]]})
    assert reply.status_code == 200
    assert POST in gate.calls[-1][0].prompt[-1].content and gate.calls[0][0].prompt == gate.calls[-1][0].prompt


def test_only_this_machine_and_this_page_may_ask(service: TeamService) -> None:
    client = inside(service)
    assert client.get("/health").json() == {"status": "ok"}
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", ""):
        assert client.get("/health", headers={"Host": host}).status_code == 403
    for host in ("localhost:80", "[::1]:80", "127.0.0.1"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    foreign = {"Origin": "http://evil.example", **JSON}
    reply = client.post("/v1/chat/completions", json=ASKED, headers=foreign)
    assert reply.status_code == 403
    preflight = client.options("/v1/chat/completions", headers={"Origin": "http://127.0.0.1"})
    assert preflight.status_code == 405
    for one in (reply, preflight, client.get("/")):
        assert not [name for name in one.headers if name.startswith("access-control")]
    plain = client.post("/v1/chat/completions", content=json.dumps(ASKED), headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/v1/chat/completions").status_code == 405
    assert client.get("/v1/models/gpt").json()["error"]["code"] == "model_not_found"


def test_a_key_is_asked_for_and_never_told(
    service: TeamService, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client = inside(service, key="s3cret-kéy")
    right = {"Authorization": "Bearer s3cret-kéy".encode()}
    assert client.get("/v1/models", headers=right).status_code == 200
    replies = [
        client.get("/v1/models"),
        client.get("/v1/models", headers={"Authorization": "Bearer s3cret"}),
        client.get("/metrics", headers={"Authorization": "Bearer "}),
        client.post("/v1/chat/completions", json=ASKED),
    ]
    assert [reply.status_code for reply in replies] == [401] * 4
    assert (
        replies[0].json()["error"]["code"] == "invalid_api_key" and replies[0].headers["www-authenticate"] == "Bearer"
    )
    assert client.get("/").status_code == client.get("/health").status_code == 200
    in_url = [client.get(f"/v1/models?{name}=s3cret-kéy", headers=right) for name in ("api_key", "key", "access_token")]
    assert [reply.status_code for reply in in_url] == [400] * 3
    seen = capfd.readouterr()
    told = "".join(reply.text for reply in (*replies, *in_url)) + seen.out + seen.err
    told += "".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert "s3cret" not in told


def test_counts_are_told_as_prometheus_reads_them(gated: TeamService, gate: Gate) -> None:
    gate.open.release(9)
    client = inside(gated)
    client.post("/v1/chat/completions", json=ASKED)
    client.post("/v1/chat/completions", json={**ASKED, "n": 0})
    counts = client.get("/metrics").text
    for line in (
        'madrigal_requests_total{outcome="answered"} 1.0',
        'madrigal_requests_total{outcome="refused 400"} 1.0',
        'madrigal_tokens_total{agent="concise",kind="prompt"} 2.0',
        'madrigal_tokens_total{agent="detailed",kind="completion"} 1.0',
        "madrigal_playing 0.0",
    ):
        assert f"{line}\n" in counts


# Crowds, and clients that are slow or leave


def test_a_full_queue_says_when_to_come_again(gated: TeamService, gate: Gate) -> None:
    with serving(team_app(gated)) as url, ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, url, n=2)
        assert gate.begun.acquire(timeout=10)
        second = pool.submit(post, url)
        wait_for(lambda: gated.worker.load == (2, 1))
        status, headers, body = post(url)
        assert status == 429 and int(headers["Retry-After"]) >= 1
        assert body["error"]["code"] == "queue_full" and body["error"]["type"] == "rate_limit_error"
        gate.open.release(9)
        assert (first.result()[0], second.result()[0]) == (200, 200)


def test_what_takes_too_long_is_ended(gated: TeamService, gate: Gate) -> None:
    with serving(team_app(gated, timeout=0.3)) as url:
        status, _, body = post(url)
        assert status == 504 and body["error"]["code"] == "timeout"
        gate.open.release(1)
        wait_for(lambda: gated.worker.load == (0, 0))
    assert len(gate.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_takes_its_play_with_it(gated: TeamService, gate: Gate, stream: bool) -> None:
    with serving(team_app(gated)) as url:
        line = raw(url)
        line.sendall(request(json.dumps({**ASKED, "stream": stream}).encode()))
        assert gate.begun.acquire(timeout=10)
        line.close()
        wait_for(lambda: 'outcome="left"} 1.0' in gated.metrics.text().decode())
        gate.open.release(1)
        wait_for(lambda: gated.worker.load == (0, 0))


@pytest.fixture
def in_turn(team: TrainedTeam, gate: Gate) -> Iterator[TeamService]:
    """A gated team whose agents speak one by one."""
    run = replace(team.run, topology=Sequential())
    service = TeamService(GatedTeam(run, team.task, team.team, voice=gate), "tldr")
    yield service
    gate.open.release(100)
    assert service.worker.close(10)


def test_a_client_that_leaves_a_stream_hears_no_more(in_turn: TeamService, gate: Gate) -> None:
    gate.open.release(1)
    with serving(team_app(in_turn)) as url:
        with raw(url) as line:
            line.sendall(request(json.dumps({**ASKED, "stream": True}).encode()))
            read_until(line, b"Brief.", inside=True)
        wait_for(lambda: 'outcome="left"} 1.0' in in_turn.metrics.text().decode())
        gate.open.release(1)
        wait_for(lambda: in_turn.worker.load == (0, 0))


def test_a_stream_that_takes_too_long_ends_with_an_error(in_turn: TeamService, gate: Gate) -> None:
    gate.open.release(1)
    with serving(team_app(in_turn, timeout=1.0)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        parts: list[Any] = []
        with pytest.raises(openai.APIError, match="no answer within 1 s"):
            for part in chat(client, stream=True):
                parts.append(part)
        turns = [part.madrigal["turn"] for part in parts if "turn" in getattr(part, "madrigal", {})]
        assert [turn["agent"] for turn in turns] == ["concise"]


def test_a_huge_body_is_refused_before_it_is_read(url: str) -> None:
    with raw(url) as line:
        line.sendall(request(b"", length=100_000_000))
        assert b" 413 " in line.recv(4096)
    with raw(url) as line, contextlib.suppress(OSError):
        line.sendall(request(b"", length=None))
        for _ in range(40):  # 40 x 64 KB of 100 MB
            line.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert b" 413 " in line.recv(4096)
    assert post(url, n=0)[0] == 400


def test_drop_by_drop_is_not_waited_for(gated: TeamService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SENDING", 0.3)
    with serving(team_app(gated)) as url:
        with raw(url) as line:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            for letter in b"X-Slow: yes":
                time.sleep(0.05)
                with contextlib.suppress(OSError):
                    line.sendall(bytes([letter]))
            assert dropped(line)
        with raw(url) as line:  # the second request of a connection, too
            line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b" 200 " in read_until(line, b"}")
            line.sendall(b"GET /hea")
            assert dropped(line)
        with raw(url) as line:
            line.sendall(request(b"{", length=50))
            assert b" 408 " in line.recv(4096)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure(
    gated: TeamService, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(team_app(gated)) as url:
        with raw(url) as line:
            line.sendall(request(b"{", length=50))
            assert health(url) == 200
        assert health(url) == 200
    assert "failed" not in caplog.text


def test_who_sends_slowly_makes_room_and_who_waits_for_an_answer_does_not(
    gated: TeamService, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "CONNECTIONS", 3)
    whole = json.dumps(ASKED).encode()
    with serving(team_app(gated)) as url, contextlib.ExitStack() as stack:

        def send(part: bytes) -> socket.socket:
            line = stack.enter_context(raw(url))
            line.sendall(part)
            time.sleep(0.05)
            return line

        first, body, head = send(request(whole)), send(request(b"{", length=50)), send(b"GET /hea")
        assert gate.begun.acquire(timeout=10)
        for slow in (body, head):
            send(request(whole))
            assert dropped(slow)
        assert b" 503 " in send(b"").recv(4096)
        gate.open.release(9)
        assert b" 200 " in first.recv(4096)
        first.close()
        wait_for(lambda: health(url) == 200)


# The command


def test_what_cannot_be_served_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], team: TrainedTeam
) -> None:
    assert "nowhere" in refused(capsys, "serve", "nowhere", "--port", "0")
    with listen(0, "serve") as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} cannot be had" in refused(capsys, "serve", str(run), "--port", port)
    with pytest.raises(ConfigError, match="name another with --port"):
        listen(70_000, "serve")
    assert "--playing: expected 1 or more" in refused(capsys, "serve", str(run), "--playing", "0")
    settings = json.loads((run / "experiment.json").read_text())
    for name, change in (
        ("untrained", {"steps": 5}),
        ("baseless", {"team": {**settings["team"], "policy": {**settings["team"]["policy"], "model": "/no/model"}}}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "experiment.json").write_text(json.dumps({**settings, **change}))
    assert "there is no saved team yet" in refused(capsys, "serve", str(tmp_path / "untrained"), "--port", "0")
    assert "/no/model" in refused(capsys, "serve", str(tmp_path / "baseless"), "--port", "0")


def test_a_signal_lets_what_runs_end(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MADRIGAL_SERVE_KEY", "s3cret")
    with listen(0, "serve") as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def ask() -> tuple[int, int]:
        try:
            wait_for(lambda: answers(port), seconds=60)
            assert post(url)[0] == 401
            with raw(url) as line:
                headers = {"Authorization": "Bearer s3cret"}
                line.sendall(request(json.dumps({**ASKED, "model": "team/mine", "n": 16}).encode(), headers))
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGTERM)
                answer = http.client.HTTPResponse(line)
                answer.begin()
                return answer.status, len(json.load(answer)["choices"])
        except BaseException:
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    with ThreadPoolExecutor(1) as pool, ending_cleanly():
        asked = pool.submit(ask)
        assert cli.run(["serve", str(run), "--port", str(port), "--name", "mine"]) == 0
    assert asked.result() == (200, 16)
    shown = capsys.readouterr()
    assert shown.out.startswith(f"team/mine answers at {url}/v1, with the key of MADRIGAL_SERVE_KEY") and not shown.err
    assert "s3cret" not in shown.out


# The page


def test_the_page_allows_its_own_script_only(service: TeamService) -> None:
    reply = inside(service).get("/")
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "team/tldr" in reply.text and "http" not in reply.text.replace("http-equiv", "")
    assert "innerHTML" not in reply.text


def test_the_page_shows_agents_side_by_side_and_runs_nothing_they_say(
    browser: Page, team: TrainedTeam, gate: Gate
) -> None:
    gate.script = {"concise": "<img src=x onerror='window.hit = 1'>", "detailed": "</script><b>Long</b>"}
    gate.open.release(9)
    service = TeamService(GatedTeam(team.run, team.task, team.team, voice=gate), "tldr")
    browser.errors.clear()
    with serving(team_app(service, key="s3cret")) as url:
        browser.send("Page.navigate", url=f"{url}/")
        browser.wait("document.documentElement && document.documentElement.dataset.ready === 'yes'")
        browser.ask(f"document.getElementById('question').value = {json.dumps(POST)}")
        browser.ask("document.getElementById('ask').click()")
        browser.wait("!document.getElementById('lock').hidden")  # it asks for the key
        browser.errors.clear()  # the browser itself complains of a 401
        browser.ask("document.getElementById('key').value = 's3cret'; document.getElementById('ask').click()")
        browser.wait("document.getElementById('state').textContent.startsWith('Done')")
        columns = browser.ask("[...document.querySelectorAll('#agents > div')].map((one) => one.innerText)")
        joint = browser.ask("document.getElementById('answer').textContent")
        assert browser.ask("[window.hit, document.querySelectorAll('main img, main b, .growing').length]") == [None, 0]
    assert [column.split("\n")[0] for column in columns] == ["concise", "detailed"]
    assert gate.script["concise"] in columns[0] and joint == "\n\n".join(gate.script.values())
    assert browser.errors == []
    service.worker.close(5)


# Helpers


def raw(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def request(body: bytes, headers: dict[str, str] | None = None, length: int | None = -1) -> bytes:
    """A request as bytes; with another length than that of the body, or None for one in chunks."""
    size = len(body) if length == -1 else length
    sent = {**JSON, **(headers or {}), "Host": "127.0.0.1"}
    sent |= {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
    lines = [f"{name}: {value}" for name, value in sent.items()]
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""]).encode() + body


def post(url: str, **fields: Any) -> tuple[int, HTTPMessage, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps({**ASKED, **fields}), JSON)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.load(answer)


def health(url: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return health(f"http://127.0.0.1:{port}") == 200
    return False


def read_until(line: socket.socket, end: bytes, *, inside: bool = False) -> bytes:
    read = b""
    while not (end in read if inside else read.endswith(end)):
        read += line.recv(4096)
    return read


def dropped(line: socket.socket) -> bool:
    try:
        return line.recv(4096) == b""
    except ConnectionError:
        return True


def wait_for(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)
