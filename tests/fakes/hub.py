"""A small Hugging Face hub for tests: the few addresses by which a repository is made, filled and read."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "1" * 40


@dataclass
class Hub:
    """What it holds.

    Attributes:
        token: without which nobody writes.
        files: of each repository, by name.
        private: whether a repository is, by name.
        seen: method, path and authorization of every request.
    """

    token: str
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def open_hub(token: str) -> Iterator[Hub]:
    hub = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._route("HEAD")

        def do_GET(self) -> None:
            self._route("GET")

        def do_POST(self) -> None:
            self._route("POST")

        def _route(self, method: str) -> None:
            path = unquote(urlsplit(self.path).path)
            given = self.headers.get("Authorization", "")
            hub.seen.append((method, path, given))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refused = method == "POST" and path != "/api/validate-yaml" and given != f"Bearer {hub.token}"
            match path.strip("/").split("/"):
                case _ if refused:
                    self._send(401, {"error": "Invalid username or password."})
                case ["api", "validate-yaml"]:
                    self._send(200, {"errors": [], "warnings": []})
                case ["api", "repos", "create"]:
                    made = json.loads(body)
                    name = f"{made['organization']}/{made['name']}" if made.get("organization") else made["name"]
                    hub.files.setdefault(name, {})
                    hub.private[name] = bool(made.get("private")) or made.get("visibility") == "private"
                    self._send(200, {"url": f"{hub.address}/{name}", "name": name})
                case ["api", "models", owner, name, "preupload", _]:
                    wanted = json.loads(body)["files"]
                    modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]
                    self._send(200, {"files": modes})
                case ["api", "models", owner, name, "commit", _]:
                    values = [line["value"] for line in map(json.loads, body.splitlines()) if line["key"] == "file"]
                    made_of = {value["path"]: base64.b64decode(value["content"]) for value in values}
                    hub.files[f"{owner}/{name}"] |= made_of
                    self._send(200, {"commitUrl": f"{hub.address}/{owner}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
                case ["api", "models", owner, name, "tree", *_] if f"{owner}/{name}" in hub.files:
                    held = hub.files[f"{owner}/{name}"].items()
                    self._send(200, [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in held])
                case ["api", "models", owner, name, *_] if f"{owner}/{name}" in hub.files:
                    siblings = [{"rfilename": each} for each in hub.files[f"{owner}/{name}"]]
                    about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "private": True, "tags": []}
                    self._send(200, about)
                case [owner, name, "resolve", _, *parts] if "/".join(parts) in hub.files.get(f"{owner}/{name}", {}):
                    self._file(hub.files[f"{owner}/{name}"]["/".join(parts)], method)
                case [owner, name, "resolve", *_] if f"{owner}/{name}" in hub.files:
                    self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
                case [""]:
                    self._send(200, {})
                case _:
                    self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

        def _file(self, content: bytes, method: str) -> None:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if method == "GET":
                self.wfile.write(content)

        def _send(self, status: int, record: Any, headers: dict[str, str] | None = None) -> None:
            body = json.dumps(record).encode()
            self.send_response(status)
            for name, value in {
                **(headers or {}),
                "Content-Type": "application/json",
                "Content-Length": len(body),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
