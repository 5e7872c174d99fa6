"""A server that takes and returns token ids: vLLM's or SGLang's, here or on another machine.

GET /v1/models says which of the two it is; paths and bodies are in `dialect` and `sglang`.

What may pass (no answer, a busy or broken server, half an answer) is asked again (`client`); a request that is refused
stays wrong.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from madrigal.policies.engines.client import PASSING, Client
from madrigal.policies.engines.dialect import OLDEST, OPENAI, Dialect, Speaker
from madrigal.policies.engines.engine import Answer, CopyingEngine, Request
from madrigal.policies.engines.files import SESSION, hosted_name, version_of, weight_files
from madrigal.policies.engines.group import offered, send
from madrigal.policies.engines.sglang import SGLANG, check_sglang
from madrigal.policies.engines.vllm import whole_weights
from madrigal.policies.local import load_tokenizer, resolve_model
from madrigal.settings import PolicyConfig, Sampling
from madrigal.tasks.endpoint import RetryError
from madrigal.types import ConfigError, EngineError

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy

PROBE = "Two agents: one writes\n a title, 3 words; the other {explains} it."


class ServerEngine(CopyingEngine):
    """A running server, for all policies of one model that speak by its adapters, or for one of whole weights."""

    remote = True

    def __init__(
        self,
        policies: Sequence[LocalPolicy],
        tolerance: float | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Looks at what it serves; nothing is handed over yet.

        Raises:
            EngineError: if it cannot be asked.
        """
        config = policies[0].config.engine
        super().__init__(config.name, tolerance)
        self.client, self.connections = Client(config, pause), config.connections
        self.by_group = config.transfer == "group"
        self.dialect, models = self.client.ask("/v1/models", None, _models)
        self.base = self._held() if self.dialect is SGLANG else models[0][0]
        self.ends = {policy.name: sorted(policy.ends) for policy in policies}
        self.served = {policy.name: self.base for policy in policies}  # what speaks for a policy
        self.adapters = {policy.name for policy in policies if policy.adapter}
        self.replaced: dict[str, int] = {}  # versions of whole weights that were handed over
        self.own = tempfile.TemporaryDirectory(prefix="madrigal-engine-") if not config.files else None
        self.folder = Path(config.files or self.own.name).expanduser().absolute()  # type: ignore[union-attr]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """See `Engine`; a request each, many at a time: the server batches them."""
        began = time.perf_counter()
        pool = ThreadPoolExecutor(min(len(requests), self.connections))
        try:
            answers = list(pool.map(lambda request: self._answer(request, began), requests))
        finally:
            pool.shutdown(cancel_futures=True)
        self._check_held(requests)
        return answers

    def _answer(self, request: Request, began: float) -> Answer:
        adapter, served = request.policy in self.adapters, self.served[request.policy]
        body = self.dialect.body(request, Speaker(served, adapter, self.ends[request.policy]))
        (tokens, logprobs, name), failed = self.client.ask_counting(
            self.dialect.answers, body, lambda reply: self.dialect.read(reply, body)
        )
        if adapter:
            version = version_of(name)
        else:
            version = self.replaced.get(request.policy, self.versions.get(request.policy, -1)) if name == served else -1
        return Answer(tokens, logprobs, version, time.perf_counter() - began, failed)

    def _check_held(self, requests: Sequence[Request]) -> None:
        """Where whole weights were handed over the server says which it holds: nobody else may have replaced them."""
        for policy in dict.fromkeys(request.policy for request in requests if request.policy in self.replaced):
            held = self._held()
            if version_of(held) != self.replaced[policy]:
                raise EngineError(
                    f"policy {policy}: {self.name} holds {held!r} and was handed version {self.replaced[policy]}; "
                    "another process has replaced its weights"
                )

    def _held(self) -> str:
        return self.client.ask(self.dialect.held, None, _text("weight_version"))

    def load(self, policy: LocalPolicy) -> None:
        """See `CopyingEngine`."""
        if policy.adapter:
            before, name = self.served[policy.name], hosted_name(policy)
            path = weight_files(policy, self.folder)
            self._post(self.dialect.load, {"lora_name": name, "lora_path": str(path)})
            self.served[policy.name] = name
            if before != self.base:
                self._post(self.dialect.unload, {"lora_name": before})
        elif policy.trainable or policy.version:
            name = hosted_name(policy)
            if self.dialect is SGLANG:  # vLLM's worker refuses by itself
                if version_of(held := self._held()) > policy.version:
                    raise EngineError(f"policy {policy.name}: {self.name} holds {held}, newer than {name}")
                self.served[policy.name] = name
            if self.by_group:
                self._send(policy, name)
            else:
                self._post(*self.dialect.replace(name, weight_files(policy, self.folder)))
            for then in self.dialect.after(name):
                self._post(*then)
            self.replaced[policy.name] = policy.version
        # A model that does not learn was loaded by whoever started the server; its first answers prove it.

    def _send(self, policy: LocalPolicy, name: str) -> None:
        """Hands whole weights over by a process group, while the server is asked to join it."""
        seconds = self.client.config.seconds
        try:
            store, place = offered(str(urlsplit(self.client.url).hostname), seconds)
        except (OSError, RuntimeError) as error:
            raise EngineError(f"{self.name}: no process group can be offered to it: {error}") from error
        asked = {"method": "load_version", "kwargs": {"name": name, "place": place, "seconds": seconds}}
        with ThreadPoolExecutor(1) as pool:
            posted = pool.submit(self._post, "/collective_rpc", asked, once=True)

            def over() -> bool:
                return posted.done() and posted.result() is None

            try:
                send(store, name, whole_weights(policy), seconds, over)
            except RuntimeError as error:
                posted.result()  # what the server says of it comes first
                raise EngineError(f"{self.name}: {name} did not get there by a process group: {error}") from error
            posted.result()

    def _post(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> None:
        """A request of which only the status counts; adapters are acknowledged in plain words.

        Raises:
            EngineError: if it is refused, or all tries fail; with the setting that is missing.
        """
        for failed in self.client.tries():
            try:
                status, content = self.client.exchange(path, body)
            except RetryError as error:
                reason = str(error)
                if once:
                    break
                continue
            if status == HTTPStatus.OK or (failed and b"already" in content and b"loaded" in content):
                return
            reason = f"{path} {self.client.reason(status, content)}"
            passing = status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            if once or not passing:
                break
        raise EngineError(f"{self.name} does not take the weights: {reason}; {_remedy(path)}")

    def close(self) -> None:
        """See `Engine`; what was handed over is taken back."""
        for name in {self.served[policy] for policy in self.adapters} - {self.base}:
            self.client.peek(self.dialect.unload, {"lora_name": name})
        if self.own:
            self.own.cleanup()


def _remedy(path: str) -> str:
    shared = "both sides must see engine.files under one name"
    if path in (SGLANG.load, "/update_weights_from_disk"):
        return shared
    whole = " --whole" if path == "/collective_rpc" else ""
    return f"start it with: madrigal engine serve{whole}; {shared}"


def _models(reply: Any) -> tuple[Dialect, list[tuple[str, str]]]:
    """How the server is asked; names and places of its models that are no adapters."""
    match reply:
        case {"data": [*cards]}:
            own = [card for card in cards if card.get("id") and not card.get("parent")]
            if own:
                dialect = SGLANG if own[0].get("owned_by") == "sglang" else OPENAI
                return dialect, [(str(card["id"]), str(card.get("root") or "")) for card in own]
    raise ValueError(f"a list of models, got {str(reply)[:60]!r}; it is no server of OpenAI's protocol")


def _object(reply: Any) -> dict[str, Any]:
    if isinstance(reply, dict):
        return reply
    raise ValueError(f"an object, got {str(reply)[:60]!r}")


def _text(key: str) -> Callable[[Any], str]:
    def read(reply: Any) -> str:
        match reply:
            case {**fields} if isinstance(fields.get(key), str):
                return str(fields[key])
        raise ValueError(f"{key!r}, got {str(reply)[:60]!r}")

    return read


def check_server(policy: PolicyConfig, sampling: Sampling, pause: Callable[[float], None] = time.sleep) -> None:
    """Looks at a server before anything is loaded: is it there, of what version, with which model, tokens and limits.

    Raises:
        ConfigError, EngineError: one line each.
    """
    client, model, folder = Client(policy.engine, pause), policy.model, resolve_model(policy.model)
    name = policy.engine.name
    dialect, models = client.ask("/v1/models", None, _models)
    if dialect is SGLANG:
        info = client.ask("/server_info", None, _object)
        models = [(str(info.get("served_model_name")), str(info.get("model_path")))]  # what it was started with
    if not {model, folder} & {known for pair in models for known in pair}:
        raise ConfigError(
            f"{name} serves {models[0][0]}, expected {model}; if these are the same, start it with "
            f"--served-model-name {model}"
        )
    if dialect is SGLANG:
        check_sglang(info, policy, sampling)
    else:
        _check_version(client)
    tokenizer = load_tokenizer(model, policy.pad_token)
    ids = list(tokenizer.encode(PROBE, add_special_tokens=False))
    asked = {"model": models[0][0], "prompt": PROBE, "add_special_tokens": False}
    status, content = client.peek("/tokenize", asked)
    theirs = _read_json(content).get("tokens") if status == HTTPStatus.OK else None
    if isinstance(theirs, list) and theirs != ids:
        raise ConfigError(f"{name} has another tokenizer than {model}: it makes {theirs[:8]} of what is {ids[:8]} here")
    # Of a single candidate the log-prob is 0 under the distribution that is sampled, and not under the model's own.
    probe = Request("", tuple(ids), 0, Sampling(top_k=1, max_new_tokens=1))
    body = dialect.body(probe, Speaker(models[0][0]))
    _, logprobs, _ = client.ask(dialect.answers, body, lambda reply: dialect.read(reply, body))
    cut = (sampling.temperature, sampling.top_k, sampling.top_p) != (1.0, 0, 1.0)
    if cut and abs(logprobs[0]) > 1e-4:
        raise ConfigError(
            f"{name} returns log-probs of the model's own distribution, not of the one that is sampled; start it with "
            "--logprobs-mode processed_logprobs, as madrigal engine serve does"
        )
    if policy.lora.rank and dialect is OPENAI:
        _check_rank(client, policy)


def _check_version(client: Client) -> None:
    status, content = client.peek("/version", None)
    version = str(_read_json(content).get("version", "")) if status == HTTPStatus.OK else ""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if len(numbers) == len(OLDEST) and numbers < OLDEST:
        raise ConfigError(
            f"{client.config.name} is vLLM {version}, expected {'.'.join(map(str, OLDEST))} or newer, which returns "
            "token ids"
        )


def _check_rank(client: Client, policy: PolicyConfig) -> None:
    """Offers an adapter without a file of weights, which is refused: for its rank, or only then for what it lacks."""
    with tempfile.TemporaryDirectory(prefix="madrigal-engine-") as temporary:
        folder = Path(policy.engine.files or temporary).expanduser().absolute() / f"probe-{SESSION}"
        folder.mkdir(parents=True)
        try:
            kind = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": ["q_proj"], "bias": "none"}
            record = {**kind, "r": policy.lora.rank, "lora_alpha": policy.lora.alpha}
            (folder / "adapter_config.json").write_text(json.dumps(record))
            name = f"probe-{SESSION}"
            status, content = client.peek(OPENAI.load, {"lora_name": name, "lora_path": str(folder)})
            reason = client.reason(status, content)
            if "rank" in reason.replace(str(folder), "").lower():
                raise ConfigError(
                    f"{client.config.name} does not take adapters of rank {policy.lora.rank} ({reason}); start it with "
                    f"--max-lora-rank {policy.lora.rank} or more, as madrigal engine serve does"
                )
            if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) and name not in reason:
                raise ConfigError(
                    f"{client.config.name} takes no adapters while it runs; start it with --enable-lora and "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, as madrigal engine serve does"
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _read_json(content: bytes) -> dict[str, Any]:
    """An object of JSON; {} where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
