"""A verifier with whatever it needs: nothing, a checker of algebra, or a server with a model.

Knows: which process a configuration calls for, and when it ends. Does not know: how scores come about.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from madrigal.tasks.discussion.verifier import Verifier
from madrigal.tasks.discussion.verifier.client import HttpVerifier
from madrigal.tasks.discussion.verifier.config import VerifierConfig
from madrigal.tasks.discussion.verifier.exact import exact
from madrigal.tasks.discussion.verifier.symbolic import SECONDS, Symbolic
from madrigal.types import ConfigError, EngineError

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
            with Symbolic(min(SECONDS, config.seconds)) as symbolic:
                yield symbolic
        case "learned":
            with serving(Path(config.model)) as url:
                yield HttpVerifier(url, config.seconds)
        case "http":
            yield HttpVerifier(config.url, config.seconds)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Starts a server for a learned verifier and yields its address.

    It listens on this machine only, at a free port, and ends with this process whatever happens: it watches its input,
    which closes when we are gone.

    Raises:
        ConfigError: if there is no such folder.
        EngineError: if the server does not come up; in its own words.
    """
    if not folder.is_dir():
        raise ConfigError(f"verifier.model: expected the folder of a learned verifier at {folder}, found none")
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *SERVE, str(folder), "--port", "0", "--watch-input"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            yield _address(process, said, folder)
        finally:
            _end(process)


def _address(process: subprocess.Popen[str], said: IO[str], folder: Path) -> str:
    """What the server says first: where it listens."""
    first = _first_line(process)
    try:
        return str(json.loads(first)["url"])
    except (ValueError, TypeError, KeyError) as error:
        said.seek(0)
        words = said.read().strip().splitlines()
        heard = f"it said {first.strip()[:60]!r}" if first else f"no word within {START_SECONDS:g} seconds"
        why = words[-1].removeprefix("madrigal: error: ") if words else heard
        raise EngineError(f"verifier {folder}: the server did not start: {why}") from error


def _first_line(process: subprocess.Popen[str]) -> str:
    """The first line of output, "" where none comes in time."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda out: lines.put(out.readline()), args=(process.stdout,), daemon=True).start()
    try:
        return lines.get(timeout=START_SECONDS)
    except queue.Empty:
        return ""


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
