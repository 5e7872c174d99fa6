"""The verifier that compares results by algebra: 1 where an answer was shown to equal the reference answer, else 0.

Knows: a process that compares (`algebra`), and that it may have to be ended. Does not know: algebra.

Model-written expressions can take for ever ("10^(10^10)"). An answer that is not shown to be equal in time counts as
unequal, which is what the score says; a process that breaks is an error.
"""

from __future__ import annotations

import importlib.util
import json
import math
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from madrigal.tasks.discussion.verifier import Question
from madrigal.tasks.discussion.verifier.exact import exact
from madrigal.types import ConfigError, EngineError, RewardError

SECONDS = 5.0  # math-verify's own limit
START_SECONDS = 60.0
GRACE_SECONDS = 2.0  # beyond what the program allows itself
MARK = "####"


class Symbolic:
    """Owns the process that compares; a context that ends it. One request at a time."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """Makes sure that math-verify is there; the process starts with the first request.

        Args:
            seconds: how long one comparison may take.

        Raises:
            ConfigError: if math-verify is not installed.
        """
        if importlib.util.find_spec("math_verify") is None:
            raise ConfigError("verifier.kind symbolic needs math-verify: pip install 'madrigal[math]'")
        self.seconds = max(1, math.ceil(seconds))
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def __enter__(self) -> Symbolic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def __call__(self, question: Question, answers: Sequence[str]) -> list[float]:
        """1 for each answer that was shown to equal the reference. Where there are choices, they are compared by name.

        Raises:
            RewardError: if the reference cannot be read, or the process breaks.
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
        """The program's reply; None where none came in time, after which it is started anew."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            print(json.dumps(body), file=process.stdin, flush=True)
            # Reading the reference, reading the answer and comparing them may each take the whole time.
            line = self._lines.get(timeout=4 * self.seconds + GRACE_SECONDS)
        except queue.Empty:
            self.close()
            return None
        except OSError as error:
            self.close()
            raise RewardError(f"verifier symbolic: the process that compares broke off: {error}") from error
        return self._read(line)

    def _start(self) -> subprocess.Popen[str]:
        program = "madrigal.tasks.discussion.verifier.algebra"
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", program, str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines = lines = queue.Queue[str]()

        def listen(out: Any) -> None:
            for line in out:
                lines.put(line)
            lines.put("")

        threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
        try:
            self._read(lines.get(timeout=START_SECONDS))
        except queue.Empty as error:
            self.close()
            raise EngineError(f"verifier symbolic: the process did not start in {START_SECONDS:g} seconds") from error
        return process

    def _read(self, line: str) -> dict[str, Any]:
        if not line:
            self.close()
            raise RewardError("verifier symbolic: the process that compares ended unasked; is math-verify sound?")
        reply: dict[str, Any] = json.loads(line)
        return reply
