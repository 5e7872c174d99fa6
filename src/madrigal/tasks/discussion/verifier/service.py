"""A verifier with whatever it needs: nothing, a program for algebra, or a server with a model on this machine.

    POST /predict    {"question": "...", "answers": ["...", ...], "choices": [...]}    ->    {"scores": [0.93, ...]}

Every failure of a server is an error, after several tries where another may help: a server that is gone must not look
like an answer that is wrong.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from madrigal.tasks.discussion.verifier import Question, Scores, Verifier, exact
from madrigal.tasks.discussion.verifier.config import VerifierConfig, check_url
from madrigal.tasks.discussion.verifier.symbolic import SECONDS, Symbolic
from madrigal.tasks.endpoint import EndpointError, GivenUpError, RetryError, TooLateError, post_json, retried
from madrigal.types import ConfigError, EngineError, RewardError

LARGEST = 1 << 20  # bytes of a reply
START_SECONDS = 300.0  # until a large model is loaded
STOP_SECONDS = 10.0
SERVE = ("-c", "from madrigal.cli import main; main()", "verifier", "serve")


@contextmanager
def open_verifier(config: VerifierConfig) -> Iterator[Verifier]:
    """Yields the verifier that settings describe; leaving the context ends its process.

    Raises:
        ConfigError, EngineError: if it cannot be had.
    """
    match config.kind:
        case "exact":
            yield exact
        case "symbolic":
            with closing(Symbolic(min(SECONDS, config.seconds))) as symbolic:
                yield symbolic
        case "learned":
            with closing(Served(Path(config.model))) as served:
                yield HttpVerifier(served.url, config.seconds, served.wait)
        case "http":
            yield HttpVerifier(config.url, config.seconds)


class Served:
    """Owns a server of a learned verifier, until it is closed.

    It listens on this machine only, at a free port, and ends with this process whatever happens: it watches its input,
    which closes when we are gone.

    Attributes:
        url: where it listens.
    """

    def __init__(self, folder: Path) -> None:
        """Starts it.

        Raises:
            ConfigError: if there is no such folder.
            EngineError: if the server does not come up; in its own words.
        """
        if not folder.is_dir():
            raise ConfigError(f"verifier.model: expected the folder of a learned verifier at {folder}, found none")
        self.folder, self.url, self._lock = folder, "", threading.Lock()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        """Where it listened before, so that who waits for an answer finds it."""
        port = self.url.rpartition(":")[2] or "0"
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, *SERVE, str(self.folder), "--port", port, "--watch-input"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            try:
                self.url = _address(process, errors, self.folder)
            except BaseException:
                _end(process)
                raise
        return process

    def wait(self, seconds: float) -> None:
        """Waits before it is asked again, or starts it anew where it has ended.

        Raises:
            EngineError: as at first.
        """
        with self._lock:
            if self._process.poll() is not None:
                _end(self._process)
                self._process = self._start()
                return
        time.sleep(seconds)

    def close(self) -> None:
        """Ends it."""
        _end(self._process)


def _address(process: subprocess.Popen[str], errors: IO[str], folder: Path) -> str:
    """Where the server listens: its first line of output."""
    first = _first_line(process)
    try:
        return str(json.loads(first)["url"])
    except (ValueError, TypeError, KeyError) as error:
        errors.seek(0)
        lines = errors.read().strip().splitlines()
        output = f"it said {first.strip()[:60]!r}" if first else f"no word within {START_SECONDS:g} seconds"
        why = lines[-1].removeprefix("madrigal: error: ") if lines else output
        raise EngineError(f"verifier {folder}: the server did not start: {why}") from error


def _first_line(process: subprocess.Popen[str]) -> str:
    """The first line of output, "" where none comes in time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    return process.stdout.readline() if ready else ""


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


@dataclass(frozen=True, slots=True)
class HttpVerifier:
    """Asks a running server, one connection per request, without proxies or redirects.

    Attributes:
        url: like http://127.0.0.1:8501.
        seconds: how long one try may take as a whole.
        pause: waits that many seconds before the next try; see `tries`.
    """

    url: str
    seconds: float = 60.0
    pause: Callable[[float], None] = time.sleep

    def __call__(self, question: Question, answers: Sequence[str]) -> Sequence[float]:
        """Asks for the scores of all answers at once.

        Raises:
            RewardError: if the server cannot be reached in time, refuses, or answers anything but one list of scores.
        """
        body = {"question": question.text, "answers": list(answers), "choices": list(question.choices)}
        try:
            scores, failed = retried(lambda: Scores(self._scores(body)), self.seconds, self.pause)
        except GivenUpError as error:
            raise RewardError(f"verifier at {self.url}: {error}") from error
        scores.failed_tries = failed
        return scores

    def _scores(self, body: dict[str, Any]) -> Sequence[Any]:
        host, port = check_url(self.url)
        place = f"[{host}]" if ":" in host else host
        try:
            status, text = post_json(
                f"http://{place}:{port}/predict", body, seconds=self.seconds, largest=LARGEST, proxies=False
            )
        except TooLateError as error:
            raise RetryError(f"{error}; raise task.verifier.seconds, or look at the server") from error
        except EndpointError as error:
            raise RetryError(
                f"could not be asked ({error}); is it running? start one with: madrigal verifier serve"
            ) from error
        match status, _json(text):
            case HTTPStatus.OK, {"scores": list(scores)}:
                return scores
            case HTTPStatus.OK, _:
                raise RetryError(f"expected {{'scores': [...]}}, got {text[:80]!r}")
            case _, {"error": str(reason)}:
                message = f"refused with status {status}: {reason}"
            case _:
                message = f"refused with status {status}: no reason given"
        # A busy or broken server may recover, a request that it refuses stays wrong.
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise RetryError(message)
        raise RewardError(f"verifier at {self.url}: {message}")


def _json(text: bytes) -> Any:
    """What JSON says; None where it is none, or too deep, or holds numbers of thousands of digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
