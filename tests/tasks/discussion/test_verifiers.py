"""Verifiers that a task is given: by rule, by algebra, and over HTTP on this machine."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from madrigal.tasks.discussion.verifier import Question, exact, verified
from madrigal.tasks.discussion.verifier.config import VerifierConfig, check_url
from madrigal.tasks.discussion.verifier.service import HttpVerifier, open_verifier
from madrigal.tasks.discussion.verifier.symbolic import Symbolic
from madrigal.types import ConfigError, RewardError
from madrigal.verifier import server as serving
from madrigal.verifier.server import address_of, make_server

ASKED = Question("3 + 4?", "3+4=7.\n#### 7")
ANSWERS = ["The answer is 7.", "It is 8", "no idea"]


def test_by_rule() -> None:
    assert exact(ASKED, ANSWERS) == [1.0, 0.0, 0.0]
    assert verified(exact, ASKED, ANSWERS) == (1.0, 0.0, 0.0)
    assert exact(Question("?", "no number"), ["no number"]) == [0.0]
    assert exact(Question("?", "yes", ("yes", "no")), ["The answer is no.", "Yes"]) == [0.0, 1.0]


def test_the_default_needs_nothing() -> None:
    with open_verifier(VerifierConfig()) as verifier:
        assert verifier is exact


# Algebra


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"verifier.kind symbolic needs math-verify: pip install 'madrigal\[math\]'"):
        Symbolic()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Symbolic, list[dict[str, Any]]]]:
    """A verifier whose program answers as it is told (None: not in time), and what it is asked."""

    def make(*replies: dict[str, Any] | None) -> tuple[Symbolic, list[dict[str, Any]]]:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
        symbolic, left, asked = Symbolic(), list(replies), list[dict[str, Any]]()

        def ask(body: dict[str, Any]) -> dict[str, Any] | None:
            asked.append(body)
            return left.pop(0)

        monkeypatch.setattr(symbolic, "_ask", ask)
        return symbolic, asked

    return make


def test_equal_is_one_and_not_shown_in_time_is_zero(told: Any) -> None:
    symbolic, asked = told({"equal": True}, {"equal": False}, None)
    assert symbolic(ASKED, ANSWERS) == [1.0, 0.0, 0.0]
    assert asked[0] == {"reference": "7", "answer": ANSWERS[0]}


def test_a_reference_that_is_no_mathematics_is_an_error(told: Any) -> None:
    symbolic, _ = told({"error": "expected a reference"})
    with pytest.raises(RewardError, match="verifier symbolic: expected a reference"):
        symbolic(ASKED, ANSWERS[:1])


def test_choices_are_not_algebra(told: Any) -> None:
    symbolic, asked = told()
    assert symbolic(Question("?", "yes", ("yes", "no")), ["no", "yes"]) == [0.0, 1.0]
    assert not asked


@pytest.mark.parametrize("kills", [1, 2])
def test_a_program_that_was_killed_is_started_anew_once(
    kills: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "compares"
    program.write_text(
        "#!/bin/sh\nread kills < kills; echo $((kills - 1)) > kills; echo '{}'; read question\n"
        "[ $kills -gt 0 ] && kill -9 $$; while echo '{\"equal\": true}'; do read question || exit; done\n"
    )
    program.chmod(0o700)
    (tmp_path / "kills").write_text(f"{kills}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr("sys.executable", str(program))
    with closing(Symbolic()) as symbolic:
        if kills == 1:
            assert symbolic(ASKED, ANSWERS[:2]) == [1, 1]
        else:
            with pytest.raises(RewardError, match="ended twice unasked"):
                symbolic(ASKED, ANSWERS[:1])


def test_algebra_for_real() -> None:
    pytest.importorskip("math_verify")
    with open_verifier(VerifierConfig("symbolic", seconds=2.0)) as verifier:
        assert verifier(Question("?", "#### 1/2"), ["The answer is 0.5.", r"$\frac{2}{4}$", "2", "none"]) == [
            1,
            1,
            0,
            0,
        ]
        assert verifier(Question("?", "7"), ["The answer is $9^{9^{9^{9}}}!$", "7"]) == [0, 1]


# HTTP


def by_length(question: Question, answers: Sequence[str]) -> list[float]:
    if question.text == "too long":
        raise RewardError("verifier: a question of 900 tokens leaves no room")
    return [min(1.0, len(answer) / 100) for answer in answers]


@contextmanager
def running(verifier: Any = by_length) -> Iterator[str]:
    server = make_server(verifier)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield address_of(server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_scores_travel() -> None:
    with running() as url, open_verifier(VerifierConfig("http", url=url)) as verifier:
        assert verified(verifier, ASKED, ["x" * 25, "x" * 50]) == (0.25, 0.5)


def test_the_server_never_sees_the_reference() -> None:
    seen: list[Question] = []

    def look(question: Question, answers: Sequence[str]) -> list[float]:
        seen.append(question)
        return [0.0] * len(answers)

    with running(look) as url:
        HttpVerifier(url)(Question("q", "the truth", ("a", "b")), ["x"])
    assert seen == [Question("q", "", ("a", "b"))]


def test_many_ask_at_once_and_one_is_served_at_a_time() -> None:
    busy, most = [0], [0]

    def slow(question: Question, answers: Sequence[str]) -> list[float]:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        threading.Event().wait(0.005)
        busy[0] -= 1
        return [int(question.text) / 10] * len(answers)

    found: dict[int, Sequence[float]] = {}
    with running(slow) as url:
        asking = [
            threading.Thread(target=lambda n=n: found.update({n: HttpVerifier(url)(Question(str(n)), ["x"])}))
            for n in range(8)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert found == {n: (n / 10,) for n in range(8)}
    assert most == [1]


def test_a_refusal_is_an_error_with_its_reason() -> None:
    with (
        running() as url,
        pytest.raises(RewardError, match="refused with status 422: verifier: a question of 900 tokens"),
    ):
        HttpVerifier(url)(Question("too long"), ["x"])


def test_a_server_that_is_gone_is_an_error() -> None:
    with running() as url:
        pass
    pauses: list[float] = []
    with pytest.raises(
        RewardError, match=r"could not be asked \(ConnectionRefusedError\).*start one with: madrigal ver.*8 tries"
    ):
        HttpVerifier(url, pause=pauses.append)(ASKED, ANSWERS)
    assert pauses == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


@contextmanager
def answering(*replies: bytes | None, pause: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes, one reply to each connection, the last to all others, and hangs up.

    Args:
        replies: None says nothing.
        pause: between the bytes of a reply.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def answer() -> None:
            for number in itertools.count():
                taken, _ = listener.accept()
                held.append(taken)
                if not taken.recv(1 << 16):
                    return
                reply = replies[min(number, len(replies) - 1)]
                with contextlib.suppress(OSError):
                    size = 1 if pause else 1 << 20
                    for start in range(0, len(reply or b""), size):
                        taken.sendall((reply or b"")[start : start + size])
                        ended.wait(pause)
                if reply is not None:
                    taken.close()

        ended = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        address = listener.getsockname()
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            ended.set()
            socket.create_connection(address).close()
            thread.join()
            for one in held:
                one.close()


def with_body(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (None, "no answer within 0.05 seconds; raise task.verifier.seconds"),
        (b"", "could not be asked"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{", r"could not be asked|expected \{'scores'"),
        (with_body(b"not json"), r"expected \{'scores'"),
        (with_body(b'{"result": [1]}'), r"expected \{'scores': \[...\]\}, got"),
        (with_body(b'{"error": "busy"}', "503 Service Unavailable"), "refused with status 503: busy"),
        (with_body(b"<html>", "500 Oops"), "refused with status 500: no reason given"),
        (with_body(b"", "302 Found"), "refused with status 302"),
    ],
)
def test_failures_are_errors_and_never_zeros(reply: bytes | None, complaint: str) -> None:
    with answering(reply) as url, pytest.raises(RewardError, match=complaint):
        HttpVerifier(url, seconds=0.05 if reply is None else 5.0, pause=lambda seconds: None)(ASKED, ANSWERS)


@pytest.mark.parametrize("failure", [b"", with_body(b"{", "500 Oops"), with_body(b"[" * 5000), with_body(b"<html>")])
def test_a_failure_that_passes_is_not_told(failure: bytes) -> None:
    with answering(failure, failure, with_body(b'{"scores": [0.5]}')) as url:
        assert HttpVerifier(url, pause=lambda seconds: None)(ASKED, ["x"]) == (0.5,)


def test_a_reply_in_drops_ends_in_time() -> None:
    """Each byte comes before a silence would be too long, the whole would take 100 s."""
    with answering(with_body(b" " * 2000 + b"1"), pause=0.05) as url:
        began = time.monotonic()
        with pytest.raises(RewardError, match=r"no answer within 0\.1 seconds"):
            HttpVerifier(url, seconds=0.1, pause=lambda seconds: None)(ASKED, ["x"])
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("score", [True, None, "1", -0.1, 1.1, 10**400, float("nan"), float("inf")])
def test_what_is_no_score(score: Any) -> None:
    with pytest.raises(RewardError, match="expected scores from 0 to 1"):
        verified(lambda question, answers: [score], ASKED, ["x"])


def post(url: str, body: bytes, path: str = "/predict", method: str = "POST", **headers: str) -> tuple[int, Any]:
    host, port = check_url(url)
    connection = http.client.HTTPConnection(host, port, timeout=60)
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text) if text.startswith(b"{") else text


GOOD = json.dumps({"question": "q", "answers": ["x" * 10]}).encode()


def test_the_server_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LARGEST", 1000)
    with running() as url:
        assert post(url, GOOD) == (200, {"scores": [0.1]})
        assert post(url, b"", "/health", "GET") == (200, {"status": "ok"})
        assert post(url, GOOD, "/elsewhere") == (404, {"error": "expected POST /predict or GET /health"})
        assert post(url, GOOD, Content_Type="text/plain")[0] == 415
        assert post(url, GOOD, Host="evil.example")[0] == 403
        assert post(url, b"x" * 1001) == (413, {"error": "expected at most 1000 bytes, got 1001"})
        assert post(url, GOOD, Content_Length="-1")[0] == 411
        assert post(url, b"[" * 900)[1] == {"error": "expected a body of JSON"}
        assert post(url, b"", "/predict", "PUT")[0] == 501


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"question": "q"}',
        b'{"question": "q", "answers": []}',
        b'{"question": "q", "answers": "x"}',
        b'{"question": "q", "answers": [1]}',
        b'{"question": 1, "answers": ["x"]}',
        b'{"question": "q", "answers": ["x"], "choices": "x"}',
        b'{"question": "q", "answers": ["x"], "more": 1}',
        json.dumps({"question": "q", "answers": ["x"] * 257}).encode(),
    ],
)
def test_bodies_that_are_no_requests(body: bytes) -> None:
    with running() as url:
        status, said = post(url, body)
    assert status == 400 and said["error"].startswith("expected ")


def test_odd_lengths_are_answered() -> None:
    with running() as url:
        assert post(url, GOOD, Content_Length="9" * 5000)[0] == 413
        assert post(url, GOOD, Content_Length="\u00b2")[0] == 411


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (TypeError("surrogates"), 500, "the verifier failed: TypeError: surrogates"),
        (RewardError("no room"), 422, "no room"),
        (float("nan"), 422, "verifier: expected scores from 0 to 1, got nan"),
        (2.0, 422, "verifier: expected scores from 0 to 1, got 2.0"),
    ],
)
def test_whatever_a_verifier_does_is_answered(
    failure: Any, status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(question: Question, answers: Sequence[str]) -> list[float]:
        if isinstance(failure, Exception):
            raise failure
        return [failure] * len(answers)

    with running(failing) as url:
        found, said = post(url, GOOD)
    assert found == status and said["error"].startswith(reason)
    assert capsys.readouterr().err == ""


def status_of(url: str) -> int:
    """0 where the server hangs up."""
    with socket.create_connection(check_url(url)) as client, contextlib.suppress(OSError):
        client.sendall(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        return int((client.recv(1000).split() or [b"", b"0"])[1])
    return 0


def test_clients_that_send_in_drops_are_few_and_soon_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 2)
    monkeypatch.setattr(serving, "SENDING", 0.2)
    with running() as url:
        slow = [socket.create_connection(check_url(url)) for _ in range(2)]
        for client in slow:
            client.sendall(b"POST /predict HT")
        deadline = time.monotonic() + 60
        while status_of(url) != 200:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"x")  # never silent, never done
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for client in slow:
            client.close()


def test_more_connections_than_places_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 0)
    with running() as url, socket.create_connection(check_url(url)) as client:
        said = client.recv(1000)
    assert said.startswith(b"HTTP/1.0 503 ") and said.endswith(b'{"error": "too many connections"}')


def test_only_this_machine_is_listened_to() -> None:
    server = make_server(by_length)
    try:
        assert server.server_address[0] == "127.0.0.1"
    finally:
        server.server_close()


def test_a_port_that_is_taken() -> None:
    with running() as url, pytest.raises(ConfigError, match=r"cannot be had .*name another with --port"):
        make_server(by_length, check_url(url)[1])
    with pytest.raises(ConfigError, match="port 99999 cannot be had"):
        make_server(by_length, 99999)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.org:80",
        "https://127.0.0.1:1",
        "http://127.0.0.1",
        "http://127.0.0.1:1/x",
        "http://127.0.0.1:a",
    ],
)
def test_answers_are_sent_nowhere_else(url: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one like http://127.0.0.1:8501, on this machine"):
        VerifierConfig("http", url=url)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"name a folder with --task.verifier.model"):
        VerifierConfig("learned")
    with pytest.raises(ConfigError, match="expected a positive number of seconds, got 0"):
        VerifierConfig(seconds=0)
