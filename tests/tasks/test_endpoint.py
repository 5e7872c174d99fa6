"""Endpoints that fail one time in five, in every way: nothing is lost, and every failed try is counted."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from madrigal.tasks.coding.config import ExpertConfig
from madrigal.tasks.coding.expert import open_expert
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.tasks.discussion.verifier import Question, verified
from madrigal.tasks.discussion.verifier.config import VerifierConfig
from madrigal.tasks.discussion.verifier.service import HttpVerifier
from madrigal.tasks.endpoint import TRIES, tries
from madrigal.types import Example, RewardError

EDITS = json.dumps({"choices": [{"message": {"content": '{"aux": "a", "main": "m"}'}}]}).encode()
SHARE = 0.2
ASKED = 60
FAULTS = ("429", "500", "silence", "cut", "garbage", "page", "nothing")


class Faulty(ThreadingHTTPServer):
    """Answers as an expert and as a verifier do; a seeded share of its answers are faults."""

    daemon_threads = True

    def __init__(self, share: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.share, self.draws = share, random.Random(5)
        self.asked, self.faults, self.ended = 0, list[str](), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Faulty

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked += 1
        fault = self.server.draws.choice(FAULTS) if self.server.draws.random() < self.server.share else ""
        self.server.faults += [fault] * bool(fault)
        answer = json.dumps({"scores": [0.25] * len(body["answers"])}).encode() if "answers" in body else EDITS
        if fault == "silence":
            self.server.ended.wait()
            return
        self.send_response({"429": 429, "500": 500}.get(fault, 200))
        body = {"garbage": b"\xff{", "page": b"<html>Log in</html>", "nothing": b""}.get(fault, answer)
        self.send_header("content-length", str(len(body) + (fault == "cut")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setenv("EXPERT_API_KEY", "k")
    with Faulty(getattr(request, "param", SHARE)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def at_once(seconds: float) -> None:
    """Tests do not wait between tries."""


def test_no_advice_is_lost_and_failed_tries_are_counted(server: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("madrigal.tasks.coding.expert.SECONDS", 1.0)  # of a silent try
    expert = open_expert(ExpertConfig(f"{server.url}/v1", "m", "EXPERT_API_KEY"), at_once)
    edits = [expert("The problem.", f"def f(): return {n}") for n in range(ASKED)]
    assert all(each.answered and (each.aux, each.main) == ("a", "m") for each in edits)
    assert sum(each.failed for each in edits) == len(server.faults) == server.asked - ASKED > 0


def test_no_score_is_lost_and_failed_tries_are_counted(server: Faulty) -> None:
    verifier = HttpVerifier(server.url, seconds=1.0, pause=at_once)
    found = [verified(verifier, Question(str(n)), ["x"]) for n in range(ASKED)]
    assert set(found) == {(0.25,)}
    assert sum(each.failed_tries for each in found) == len(server.faults) == server.asked - ASKED > 0
    assert {"429", "500", "cut"} < set(server.faults)


@pytest.mark.parametrize("server", [0.6], indirect=True)
def test_a_round_says_how_many_tries_of_its_verifier_failed(server: Faulty) -> None:
    config = Debate(rounds=1, verifier=VerifierConfig("http", url=server.url))
    task = DebateTask(config, HttpVerifier(server.url, seconds=0.5, pause=at_once))
    example = Example("q", {"question": "1+1?", "answer": "#### 2"})
    before = len(server.faults)
    step = task.step(task.reset(example), dict.fromkeys(task.agents, "2"))
    assert step.metrics["verifier_failed_tries"] == len(server.faults) - before


@pytest.mark.parametrize("server", [1.0], indirect=True)
def test_an_endpoint_that_only_fails_is_asked_a_bounded_number_of_times(
    server: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_endpoint.FAULTS", ("429",))
    expert = open_expert(ExpertConfig(f"{server.url}/v1", "m", "EXPERT_API_KEY"), at_once)
    edits = expert("p", "c")
    assert (edits.failed, edits.answered, server.asked) == (TRIES, False, TRIES)
    assert edits.reason.endswith("status 429")
    with pytest.raises(RewardError, match=f"429: no reason given .{TRIES} tries."):
        HttpVerifier(server.url, pause=at_once)(Question("q"), ["x"])
    assert server.asked == 2 * TRIES


def test_a_silent_endpoint_is_left_after_three_times_the_time_of_a_try() -> None:
    waited = list[float]()
    assert list(tries(60.0, waited.append)) == list(range(TRIES))
    assert waited == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert list(tries(0.0, waited.append)) == [0]
