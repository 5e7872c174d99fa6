"""The report of runs while they go on, for a browser on this machine: a server that only reads, on loopback.

    GET /         the page
    GET /stamp    {"stamp": "...", "now": "..."}, or {"problem": "..."} where a run cannot be read

It answers no other path, and no request for another host: a page of a stranger, whose name was made to lead here, would
otherwise read the transcripts.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from madrigal.report.document import Live, page_of
from madrigal.report.results import duration
from madrigal.runs.folders import LOCK
from madrigal.runs.log import EPISODES, EVALUATION, STEPS, VALIDATION, WARM
from madrigal.runs.read import Run, is_number, read_runs
from madrigal.types import ConfigError

HOST, PORT = "127.0.0.1", 8640
SILENCE = 30.0  # seconds that a browser may take to send a request
READ = ("experiment.json", "run.json", STEPS, EPISODES, EVALUATION, VALIDATION, WARM)
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveServer(ThreadingHTTPServer):
    """Shows run folders on the loopback address.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: if a folder is no run, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, folders: Sequence[Path], port: int = PORT) -> None:
        self.folders = tuple(folders)
        self.lock = threading.Lock()
        self.seen: tuple[str, list[Run]] = stamp_of(folders), read_runs(folders)
        self.made = ("", b"")
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"view: port {port} of {HOST} cannot be had ({reason}); name another --port") from error

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def page(self) -> bytes:
        """The page as the files are now, made anew only when they have changed.

        Raises:
            ConfigError: if a run cannot be read any more.
        """
        with self.lock:
            stamp, runs = self._read()
            if self.made[0] != stamp:
                self.made = stamp, page_of(runs, Live(stamp, _now(runs))).encode("utf-8", "replace")
            return self.made[1]

    def state(self) -> dict[str, str]:
        """Whether there is something new, and what goes on."""
        try:
            with self.lock:
                stamp, runs = self._read()
            return {"stamp": stamp, "now": _now(runs)}
        except (ConfigError, OSError) as error:
            return {"problem": f"{error}; this is what was there last."}

    def _read(self) -> tuple[str, list[Run]]:
        """The runs, read again only where a file has changed; the stamp is the older of the two."""
        stamp = stamp_of(self.folders)
        if self.seen[0] != stamp:
            self.seen = stamp, read_runs(self.folders)
        return self.seen


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    timeout = SILENCE
    server_version, sys_version = "madrigal", ""

    def do_GET(self) -> None:
        names = {f"{name}:{self.server.port}" for name in (HOST, "localhost")}
        if self.headers.get("Host", "").lower() not in names:
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"asked for another host\n")
        elif self.path == "/":
            self._page()
        elif self.path == "/stamp":
            self._answer(HTTPStatus.OK, "application/json", json.dumps(self.server.state()).encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing but /\n")

    def _page(self) -> None:
        try:
            page = self.server.page()
        except (ConfigError, OSError) as error:
            line = f"{error}\n".encode("utf-8", "replace")
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", line)
        else:
            self._answer(HTTPStatus.OK, "text/html", page)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": f"{kind}; charset=utf-8"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing of requests."""


def stamp_of(folders: Sequence[Path]) -> str:
    """A digest that changes when a file of the runs does: of their sizes and times."""
    digest = hashlib.sha256()
    for folder in folders:
        for name in READ:
            try:
                state = (folder / name).stat()
            except FileNotFoundError:
                continue
            digest.update(f"{folder}/{name} {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _now(runs: Sequence[Run]) -> str:
    """Speed and memory of every run that goes on, and how old its last line is."""
    said = {run.name: words for run in runs if not run.ended and (words := _goes_on(run))}
    return "; ".join(f"{name}: {words}" if len(runs) > 1 else words for name, words in said.items())


def _goes_on(run: Run) -> str:
    parts = list[str]()
    if run.steps and is_number(speed := run.steps[-1].record.get("tokens_per_second")):
        parts.append(f"{speed:.0f} tokens/s in the last step")
    if (memory := _memory(run.folder)) is not None:
        parts.append(f"{memory:.1f} GB of memory")
    lines = run.folder / STEPS
    if lines.is_file():
        parts.append(f"last line {duration(max(0.0, time.time() - lines.stat().st_mtime))} ago")
    return ", ".join(parts)


def _memory(folder: Path) -> float | None:
    """GB that the process holds that writes a run, where it runs on this machine and the system tells."""
    try:
        words = (folder / LOCK).read_text().split()
        status = Path(f"/proc/{int(words[1])}/status").read_text()
    except (OSError, ValueError, LookupError):
        return None
    pages = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(pages[0]) / 2**20 if pages else None
