"""The verifier that compares results by algebra: 1 where an answer was shown to equal the reference answer, else 0.

Model-written expressions can take for ever ("10^(10^10)"), and math-verify stops what takes too long by signals, which
reach only a main thread. So this file is run as a program of its own too: one line of JSON in, one out,

    {"reference": "1/2", "answer": "0.5"}    ->    {"equal": true}, or {"error": "..."}

An answer that is not shown to be equal in time counts as unequal, which is what the score says; a program that breaks
is an error.
"""

from __future__ import annotations

import importlib.util
import json
import math
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from madrigal.tasks.discussion.verifier import Question, exact
from madrigal.types import ConfigError, EngineError, RewardError

SECONDS = 5.0  # math-verify's own limit
START_SECONDS = 60.0
GRACE_SECONDS = 2.0  # beyond what the program allows itself
MARK = "####"


class Symbolic:
    """Owns the program that compares, until it is closed. One request at a time."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """Makes sure that math-verify is there; the program starts with the first request.

        Args:
            seconds: how long one comparison may take.

        Raises:
            ConfigError: if math-verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("verifier.kind symbolic needs math-verify: pip install 'madrigal[math]'")
        self.seconds = max(1, math.ceil(seconds))
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __call__(self, question: Question, answers: Sequence[str]) -> list[float]:
        """1 for each answer that was shown to equal the reference. Where there are choices, they are compared by name.

        Raises:
            RewardError: if the reference cannot be read, or the program breaks.
        """
        if question.choices:
            return exact(question, answers)
        reference = question.reference.rpartition(MARK)[2].strip()
        with self._lock:
            return [float(self._equal(reference, answer)) for answer in answers]

    def _equal(self, reference: str, answer: str) -> bool:
        reply = self._ask({"reference": reference, "answer": answer})
        if reply is None:
            return False
        if "error" in reply:
            raise RewardError(f"verifier symbolic: {reply['error']}; mend the data, or take task.verifier.kind exact")
        return bool(reply["equal"])

    def _ask(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The program's reply, of a second one where the first was killed; None where none came in time."""
        for _ in range(2):
            try:
                process = self._process or self._start()
                assert process.stdin is not None
                print(json.dumps(body), file=process.stdin, flush=True)
                # Reading the reference, reading the answer and comparing them may each take the whole time.
                return self._reply(process, 4 * self.seconds + GRACE_SECONDS)
            except (OSError, EOFError):
                self.close()
        raise RewardError("verifier symbolic: the program that compares ended twice unasked; is math-verify sound?")

    def _start(self) -> subprocess.Popen[str]:
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self._reply(process, START_SECONDS) is None:
            raise EngineError(f"verifier symbolic: the program did not start in {START_SECONDS:g} seconds")
        return process

    def _reply(self, process: subprocess.Popen[str], seconds: float) -> dict[str, Any] | None:
        """One line of output; None, and an end of the program, where none comes in time.

        Raises:
            EOFError: if it has ended.
        """
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], seconds)[0]:
            self.close()
            return None
        line = process.stdout.readline()
        if not line:
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        return reply


def main() -> None:
    """Answers requests until the input ends; the argument is how many seconds one comparison may take."""
    seconds = int(sys.argv[1])
    from math_verify import parse, verify  # type: ignore[import-not-found,unused-ignore]

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(compare(parse, verify, request["reference"], request["answer"], seconds)), flush=True)


def compare(parse: Any, verify: Any, reference: str, answer: str, seconds: int) -> dict[str, Any]:
    """Whether the answer was shown to equal the reference in time."""
    gold = parse(reference, parsing_timeout=seconds) or parse(f"${reference}$", parsing_timeout=seconds)
    if not gold:
        return {"error": f"expected a reference answer that can be read as mathematics, got {reference[:60]!r}"}
    read = parse(answer, parsing_timeout=seconds)
    return {"equal": bool(read) and bool(verify(gold, read, timeout_seconds=seconds))}


if __name__ == "__main__":
    main()
