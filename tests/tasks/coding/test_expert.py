"""An expert that answers, stammers or is gone; and the same over HTTP against a server on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from madrigal.tasks.coding.config import ExpertConfig
from madrigal.tasks.coding.expert import Edits, consult, open_expert, read_edits
from madrigal.tasks.endpoint import TRIES
from madrigal.types import ConfigError, EngineError

GOOD = '{"aux": "square it", "main": "no change needed"}'
SECRET = "sk-never-shown"


class Script:
    """Gives its replies one after the other; None stands for no answer."""

    def __init__(self, *replies: str | None) -> None:
        self.replies, self.questions, self.pauses = list(replies), list[str](), list[float]()

    def __call__(self, question: str) -> str:
        self.questions.append(question)
        reply = self.replies.pop(0)
        if reply is None:
            raise EngineError("the expert m did not answer: no answer within 60 seconds")
        return reply


@pytest.mark.parametrize(
    ("replies", "failed", "pauses"),
    [((GOOD,), 0, []), (("I think ...", GOOD), 1, [1.0]), ((None, "{}", f"```json\n{GOOD}\n```"), 2, [1.0, 2.0])],
)
def test_tries_that_fail_are_counted(replies: tuple[str | None, ...], failed: int, pauses: list[float]) -> None:
    script = Script(*replies)
    edits = consult(script, "The problem.", "def f(): {}", script.pauses.append)
    assert (edits.aux, edits.main, edits.failed, edits.answered) == ("square it", "no change needed", failed, True)
    assert script.pauses == pauses and bool(edits.reason) is bool(failed)
    assert "The problem." in script.questions[0] and "def f(): {}" in script.questions[0]


def test_failures_alone_give_empty_edits_that_say_so() -> None:
    script = Script("no", "{", *[None] * (TRIES - 2))
    edits = consult(script, "p", "c", script.pauses.append)
    assert edits == Edits("", "", TRIES, False, "the expert m did not answer: no answer within 60 seconds")


@pytest.mark.parametrize(
    ("reply", "edits"),
    [
        (GOOD, ("square it", "no change needed")),
        (f"Here you are: {{x}} {GOOD} Good luck!", ("square it", "no change needed")),
        ('{"main": "", "aux": "", "why": 1}', ("", "")),
    ],
)
def test_json_is_found_wherever_it_stands(reply: str, edits: tuple[str, str]) -> None:
    assert read_edits(reply) == edits


@pytest.mark.parametrize("reply", ["", "{", "[]", '{"aux": 1, "main": "x"}', '{"aux": "x"}', "{" * 2000])
def test_what_is_no_advice(reply: str) -> None:
    with pytest.raises(EngineError, match="aux and main"):
        read_edits(reply)


class Handler(BaseHTTPRequestHandler):
    """Speaks just enough of the chat protocol; refuses everyone while `status` is not 200."""

    status = 200
    asked: dict[str, object]
    bodies: ClassVar[list[bytes]] = []  # sent first, one by one, in place of a completion
    drops = False  # one byte now and then, for longer than anybody waits

    def do_POST(self) -> None:
        type(self).asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": GOOD}}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        body = json.dumps(reply if self.status == 200 else {"error": {"message": f"bad key {SECRET}"}}).encode()
        body = self.bodies.pop(0) if self.bodies else body
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        for byte in body[:20] if self.drops else []:
            self.wfile.write(bytes([byte]))
            time.sleep(0.3)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def at_once(seconds: float) -> None:
    """Tests do not wait between tries."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExpertConfig]:
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield ExpertConfig(f"http://127.0.0.1:{server.server_port}/v1", "m", "EXPERT_API_KEY")
        server.shutdown()


def test_over_http_the_published_settings_are_sent(endpoint: ExpertConfig) -> None:
    edits = open_expert(endpoint, at_once)("The problem.", "def f(): pass")
    assert edits == Edits("square it", "no change needed")
    assert (Handler.asked["max_tokens"], Handler.asked["temperature"], Handler.asked["model"]) == (2048, 0.3, "m")


def test_over_http_a_refusal_is_counted_and_the_key_is_not_told(
    endpoint: ExpertConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "status", 401)
    edits = open_expert(endpoint, at_once)("p", "c")
    assert (edits.failed, edits.answered, edits.reason) == (
        TRIES,
        False,
        "the expert m did not answer: status 401",
    )
    assert SECRET not in repr(edits) + repr(endpoint)


def test_without_a_key_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPERT_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no key in EXPERT_API_KEY"):
        open_expert(ExpertConfig(model="m", key_variable="EXPERT_API_KEY"))


def test_a_key_that_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERT_API_KEY", "sk-\u00e9")
    with pytest.raises(ConfigError, match="plain ASCII characters in EXPERT_API_KEY"):
        open_expert(ExpertConfig(model="m", key_variable="EXPERT_API_KEY"))


@pytest.mark.parametrize("url", ["ftp://there/v1", "file:///etc/passwd", "there/v1", "http://", "http://a b"])
def test_an_endpoint_is_http_or_https(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url: expected one like https"):
        ExpertConfig(url, "m")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"<html>Log in to the hotel's network</html>",
        b"\xff\xfe",
        b"[1, 2]",
        b"[" * 5000,
        b'{"choices": []}',
        b'{"choices": "abc"}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": ' + b"9" * 5000 + b"}",
    ],
)
def test_an_answer_that_is_no_completion_is_a_failed_try_like_any_other(
    endpoint: ExpertConfig, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    monkeypatch.setattr(Handler, "bodies", [garbage])
    edits = open_expert(endpoint, at_once)("p", "c")
    assert (edits.main, edits.failed, edits.answered) == ("no change needed", 1, True)
    assert "expected a chat completion" in edits.reason


def test_answers_in_drops_or_without_end_are_failed_tries(
    endpoint: ExpertConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "drops", True)
    monkeypatch.setattr("madrigal.tasks.coding.expert.SECONDS", 0.05)
    monkeypatch.setattr("madrigal.tasks.endpoint.TRIES", 1)
    began = time.monotonic()
    edits = open_expert(endpoint, at_once)("p", "c")
    assert (edits.answered, edits.reason) == (False, "the expert m did not answer: no answer within 0.05 seconds")
    assert time.monotonic() - began < 4  # the drops take 6
    monkeypatch.setattr(Handler, "drops", False)
    monkeypatch.setattr(Handler, "bodies", [b"x" * 2000])
    monkeypatch.setattr("madrigal.tasks.coding.expert.SECONDS", 5.0)
    monkeypatch.setattr("madrigal.tasks.coding.expert.LARGEST", 1000)
    assert open_expert(endpoint, at_once)("p", "c").reason.endswith("more than 1000 bytes came back")
