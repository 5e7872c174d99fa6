"""A verifier at the other end of an HTTP connection on this machine.

    POST /predict    {"question": "...", "answers": ["...", ...], "choices": [...]}    ->    {"scores": [0.93, ...]}

Every failure is an error, after three tries where another try may help: a server that is gone must not look like an
answer that is wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from madrigal.tasks.discussion.verifier import Question
from madrigal.tasks.discussion.verifier.config import check_url
from madrigal.tasks.post import PostError, TooLateError, post
from madrigal.types import RewardError

LARGEST = 1 << 20  # bytes of a reply
TRIES = 3


class _AgainError(Exception):
    """A failure that may pass: no answer, a busy server, half an answer."""


@dataclass(frozen=True, slots=True)
class HttpVerifier:
    """Asks a running server, one connection per request, without proxies or redirects.

    Attributes:
        url: like http://127.0.0.1:8501.
        seconds: how long one try may take as a whole.
        pause: waits that many seconds before the next try: 1, then 2.
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
        reason = ""
        for failed in range(TRIES):
            if failed:
                self.pause(float(failed))
            try:
                return self._scores(body)
            except _AgainError as error:
                reason = str(error)
        raise RewardError(f"verifier at {self.url}: {reason} ({TRIES} tries)")

    def _scores(self, body: dict[str, Any]) -> Sequence[float]:
        host, port = check_url(self.url)
        place = f"[{host}]" if ":" in host else host
        try:
            status, text = post(
                f"http://{place}:{port}/predict", body, seconds=self.seconds, largest=LARGEST, proxies=False
            )
        except TooLateError as error:
            raise _AgainError(f"{error}; raise task.verifier.seconds, or look at the server") from error
        except PostError as error:
            raise _AgainError(
                f"could not be asked ({error}); is it running? start one with: madrigal verifier serve"
            ) from error
        reply = _json(text)
        if status != HTTPStatus.OK:
            self._refuse(status, reply)
        match reply:
            case {"scores": list(scores)}:
                return scores
        raise _AgainError(f"expected {{'scores': [...]}}, got {text[:80]!r}")

    def _refuse(self, status: int, reply: Any) -> None:
        """Raises for a status other than 200: a busy or broken server may recover, a request it refuses stays wrong."""
        reason = (reply.get("error") if isinstance(reply, dict) else None) or "no reason given"
        message = f"refused with status {status}: {reason}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _AgainError(message)
        raise RewardError(f"verifier at {self.url}: {message}")


def _json(text: bytes) -> Any:
    """What JSON says; None where it is none, or too deep, or holds numbers of thousands of digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
