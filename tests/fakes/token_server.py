"""A small server of token ids for tests: what vLLM's would answer, from policies in this process, and its bad days."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file

from madrigal.policies.engines.engine import Request
from madrigal.policies.generate import sample
from madrigal.policies.local import LocalPolicy, put_weights
from madrigal.settings import Sampling

Reply = tuple[int, bytes]


@dataclass
class Stub:
    """What a server holds, and how it fails.

    Attributes:
        policy: whose shape all models here have.
        served: what it calls its base model.
        key: that it wants; "" is none.
        largest_rank: of an adapter.
        fault: of each request for answers in turn: "", "429", "500", "cut", "garbage", "html" or "slow".
        changed: what is answered otherwise, by path.
        seen: (path, body) of all requests.
    """

    policy: LocalPolicy
    served: str
    key: str = ""
    largest_rank: int = 64
    version: str = "0.32.0"
    fault: Callable[[], str] = lambda: ""
    changed: Mapping[str, Callable[[Mapping[str, Any]], Reply]] = field(default_factory=dict)
    adapters: dict[str, LocalPolicy] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, path: str, body: Mapping[str, Any]) -> Reply:
        match path:
            case "/v1/models":
                named = [{"id": self.served}, *({"id": name, "parent": self.served} for name in self.adapters)]
                return said({"data": named})
            case "/version":
                return said({"version": self.version})
            case "/tokenize":
                return said({"tokens": self.policy.tokenizer.encode(body["prompt"], add_special_tokens=False)})
            case "/v1/load_lora_adapter":
                return self.load(body["lora_name"], Path(body["lora_path"]))
            case "/v1/unload_lora_adapter":
                del self.adapters[body["lora_name"]]
                return 200, b"Success"
            case "/v1/completions":
                return said(self.completion(body))
        return 404, b"<html>nothing here</html>"

    def load(self, name: str, folder: Path) -> Reply:
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.largest_rank:
            message = f"LoRA rank {rank} is greater than max_lora_rank {self.largest_rank}."
            return said({"error": {"message": message}}, 400)
        if not (folder / "adapter_model.safetensors").is_file():
            return said({"error": {"message": f"{folder} doesn't contain tensors"}}, 500)
        self.adapters[name] = with_weights(self.policy, folder / "adapter_model.safetensors")
        return 200, f"Success: LoRA adapter '{name}' added successfully.".encode()

    def completion(self, body: Mapping[str, Any]) -> Any:
        sampling = Sampling(
            temperature=body["temperature"] or 1.0,
            top_p=body["top_p"],
            top_k=max(0, body["top_k"]),
            max_new_tokens=body["max_tokens"],
            greedy=body["temperature"] == 0,
        )
        speaker = self.adapters.get(body["model"], self.policy)
        with self.lock:
            (one,) = sample(speaker, [Request("any", tuple(body["prompt"]), body["seed"], sampling)])
        choice = {
            "text": "",
            "token_ids": one.token_ids,
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": one.logprobs},
        }
        return {"model": body["model"], "choices": [choice]}


def with_weights(policy: LocalPolicy, file: Path) -> LocalPolicy:
    """A policy of the same shape."""
    other = replace(policy, model=copy.deepcopy(policy.model))
    put_weights(other, load_file(file))
    return other


def said(content: Any, status: int = 200) -> Reply:
    return status, json.dumps(content).encode()


@dataclass
class Talker:
    """An endpoint that answers in texts, in both protocols, and counts a token for each word.

    Attributes:
        say: what it answers to messages and a seed.
        key, fault, changed, seen: see `Stub`.
    """

    say: Callable[[list[dict[str, str]], int], str]
    key: str = ""
    fault: Callable[[], str] = lambda: ""
    changed: Mapping[str, Callable[[Mapping[str, Any]], Reply]] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def reply(self, path: str, body: Mapping[str, Any]) -> Reply:
        match path:
            case "/v1/models":
                return said({"data": []})
            case "/v1/chat/completions":
                text, counts = self.say(body["messages"], body["seed"]), counted(body["messages"])
                choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": counts, "completion_tokens": len(text.split())}
                return said({"choices": [choice], "usage": usage})
            case "/v1/responses":
                text, counts = self.say(body["input"], 0), counted(body["input"])
                content = [{"type": "output_text", "text": text}]
                output = [{"type": "reasoning", "summary": []}, {"type": "message", "content": content}]
                usage = {"input_tokens": counts, "output_tokens": len(text.split())}
                return said({"output": output, "status": "completed", "usage": usage})
        return 404, b"<html>nothing here</html>"


def counted(messages: list[dict[str, str]]) -> int:
    return sum(len(message["content"].split()) for message in messages)


class Answering(Protocol):
    """What a server answers, and how it fails."""

    key: str
    fault: Callable[[], str]
    changed: Mapping[str, Callable[[Mapping[str, Any]], Reply]]
    seen: list[tuple[str, Any]]

    def reply(self, path: str, body: Mapping[str, Any]) -> Reply: ...


@contextmanager
def serving(stub: Answering) -> Iterator[str]:
    """Answers on the loopback address, and yields it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Mapping[str, Any]) -> None:
            if stub.key and self.headers.get("Authorization") != f"Bearer {stub.key}":
                said_key = str(self.headers.get("Authorization"))
                self.send(*said({"error": {"message": f"no access with {said_key}"}}, 401))
                return
            stub.seen.append((self.path, body))
            answer = stub.changed.get(self.path) or partial(stub.reply, self.path)
            status, content = answer(body)
            fault = stub.fault() if self.path.endswith(("completions", "responses")) else ""
            match fault:
                case "429" | "500":
                    self.send(int(fault), b'{"error": {"message": "busy"}}')
                case "cut":
                    self.send(status, content[:-20], length=len(content))
                case "garbage":
                    self.send(200, b"\x00\xff{[")
                case "html":
                    self.send(200, b"<html><body>Welcome to the proxy</body></html>")
                case "slow":
                    time.sleep(1.5)
                    self.send(status, content)
                case _:
                    self.send(status, content)

        def send(self, status: int, content: bytes, length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
