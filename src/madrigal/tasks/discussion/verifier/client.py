"""A verifier at the other end of an HTTP connection on this machine.

Knows: what is sent and what comes back. Does not know: what stands at the other end.

    POST /predict    {"question": "...", "answers": ["...", ...], "choices": [...]}    ->    {"scores": [0.93, ...]}

Every failure is an error: a server that is gone must not look like an answer that is wrong.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.tasks.discussion.verifier import Question
from madrigal.tasks.discussion.verifier.config import check_url
from madrigal.types import RewardError

LARGEST = 1 << 20  # bytes of a reply


@dataclass(frozen=True, slots=True)
class HttpVerifier:
    """Asks a running server, one connection per request, without proxies or redirects.

    Attributes:
        url: like http://127.0.0.1:8501.
        seconds: how long connecting may take, and each silence of the server after that.
    """

    url: str
    seconds: float = 60.0

    def __call__(self, question: Question, answers: Sequence[str]) -> Sequence[float]:
        """Asks for the scores of all answers at once.

        Raises:
            RewardError: if the server cannot be reached in time, refuses, or answers anything but one list of scores.
        """
        body = {"question": question.text, "answers": list(answers), "choices": list(question.choices)}
        match reply := self._post(body):
            case {"scores": list(scores)}:
                return scores
        raise RewardError(f"verifier at {self.url}: expected {{'scores': [...]}}, got {str(reply)[:80]!r}")

    def _post(self, body: dict[str, Any]) -> Any:
        host, port = check_url(self.url)
        connection = http.client.HTTPConnection(host, port, timeout=self.seconds)
        try:
            connection.request("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read(LARGEST + 1)
        except TimeoutError as error:
            raise RewardError(
                f"verifier at {self.url}: no answer within {self.seconds:g} seconds; raise task.verifier.seconds, or "
                "look at the server"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise RewardError(
                f"verifier at {self.url}: could not be asked ({type(error).__name__}: {error}); is it running? start "
                "one with: madrigal verifier serve"
            ) from error
        finally:
            connection.close()
        return self._read(response.status, text)

    def _read(self, status: int, text: bytes) -> Any:
        try:
            reply = json.loads(text) if len(text) <= LARGEST else None
        except ValueError:
            reply = None
        if status != http.client.OK:
            why = reply.get("error") if isinstance(reply, dict) else None
            raise RewardError(f"verifier at {self.url}: refused with status {status}: {why or 'no reason given'}")
        if reply is None:
            raise RewardError(f"verifier at {self.url}: expected JSON of at most {LARGEST} bytes, got {text[:60]!r}")
        return reply
