"""A server of OpenAI's protocol that takes and returns token ids: vLLM's own, or SGLang's, here or on another machine.

    POST /v1/completions          {"model", "prompt": [ids], "return_token_ids": true, "logprobs": 1, ...}
    GET  /v1/models               what it serves
    POST /v1/load_lora_adapter    {"lora_name", "lora_path"}: a hand-over, through a folder that both sides see
    POST /collective_rpc          {"method": "load_version", ...}: one of whole weights, to `madrigal engine serve`

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

from madrigal.policies.engines.client import PASSING, Client
from madrigal.policies.engines.engine import Answer, CopyingEngine, Request
from madrigal.policies.engines.files import SESSION, hosted_name, version_of, weight_files
from madrigal.policies.local import load_tokenizer, resolve_model
from madrigal.settings import PolicyConfig, Sampling
from madrigal.tasks.endpoint import RetryError
from madrigal.types import ConfigError, EngineError

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy

OLDEST = (0, 10, 2)  # vLLM from here on returns token ids
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
        self.base = self.client.ask("/v1/models", None, _models)[0][0]
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
        sampling, model = request.sampling, self.served[request.policy]
        body = {
            "model": model,
            "prompt": list(request.prompt_ids),
            "max_tokens": sampling.max_new_tokens,
            "seed": request.seed,
            "stop_token_ids": self.ends[request.policy],
            **drawn(sampling),
        }
        (tokens, logprobs, name), failed = self.client.ask_counting(
            "/v1/completions", body, lambda reply: read_completion(reply, body)
        )
        if request.policy in self.adapters:
            version = version_of(name)
        else:
            version = self.replaced.get(request.policy, self.versions.get(request.policy, -1)) if name == model else -1
        return Answer(tokens, logprobs, version, time.perf_counter() - began, failed)

    def _check_held(self, requests: Sequence[Request]) -> None:
        """Where whole weights were handed over the server says which it holds: nobody else may have replaced them."""
        for policy in dict.fromkeys(request.policy for request in requests if request.policy in self.replaced):
            held = self.client.ask("/weight_info", None, _text("weight_version"))
            if version_of(held) != self.replaced[policy]:
                raise EngineError(
                    f"policy {policy}: {self.name} holds {held!r} and was handed version {self.replaced[policy]}; "
                    "another process has replaced its weights"
                )

    def load(self, policy: LocalPolicy) -> None:
        """See `CopyingEngine`."""
        if policy.adapter:
            before, name = self.served[policy.name], hosted_name(policy)
            path = weight_files(policy, self.folder)
            self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
            self.served[policy.name] = name
            if before != self.base:
                self._post("/v1/unload_lora_adapter", {"lora_name": before})
        elif policy.trainable or policy.version:
            path = weight_files(policy, self.folder)
            kwargs = {"name": hosted_name(policy), "path": str(path)}
            self._post("/collective_rpc", {"method": "load_version", "kwargs": kwargs})
            self._post("/reset_prefix_cache", {})
            self._post("/update_weight_version", {"new_version": hosted_name(policy)})
            self.replaced[policy.name] = policy.version
        # A model that does not learn was loaded by whoever started the server; its first answers prove it.

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        """A request of which only the status counts; adapters are acknowledged in plain words.

        Raises:
            EngineError: if it is refused, or all tries fail; with the setting that is missing.
        """
        for failed in self.client.tries():
            try:
                status, content = self.client.exchange(path, body)
            except RetryError as error:
                reason = str(error)
                continue
            if status == HTTPStatus.OK or (failed and b"already been loaded" in content):
                return
            reason = f"{path} {self.client.reason(status, content)}"
            if status == HTTPStatus.NOT_FOUND or (status not in PASSING and status < HTTPStatus.INTERNAL_SERVER_ERROR):
                break
        raise EngineError(f"{self.name} does not take the weights: {reason}; {_remedy(path)}")

    def close(self) -> None:
        """See `Engine`; what was handed over is taken back."""
        for name in set(self.served.values()) - {self.base}:
            self.client.peek("/v1/unload_lora_adapter", {"lora_name": name})
        if self.own:
            self.own.cleanup()


def _remedy(path: str) -> str:
    whole = " --whole" if path == "/collective_rpc" else ""
    return f"start it with: madrigal engine serve{whole}; both sides must see engine.files under one name"


def drawn(sampling: Sampling) -> dict[str, Any]:
    """How tokens are drawn and returned, in the protocol's words, with nothing left to the server."""
    return {
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,  # ends are the policy's own
        "logprobs": 1,
        "return_token_ids": True,
        "skip_special_tokens": False,
    }


def read_completion(reply: Any, body: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...], str]:
    """Token ids, log-probs and the name of the model that spoke.

    >>> choice = {"token_ids": [5, 2], "logprobs": {"token_logprobs": [-0.5, 0.0]}}
    >>> read_completion({"model": "ann@3-ab", "choices": [choice]}, {"prompt": [1]})
    ((5, 2), (-0.5, 0.0), 'ann@3-ab')

    Raises:
        ValueError: with what was expected and what came.
    """
    match reply:
        case {
            "model": str(name),
            "choices": [{"token_ids": list(tokens), "logprobs": {"token_logprobs": list(said)}, **more}],
        }:
            shown: Any = more.get("prompt_token_ids")
            if shown is not None and list(shown) != list(body["prompt"]):
                raise ValueError(f"an answer to a prompt of {len(body['prompt'])} tokens, not of {len(shown)} others")
            if all(type(token) is int for token in tokens) and all(type(each) in (int, float) for each in said):
                return tuple(tokens), tuple(map(float, said)), name
        case {"choices": [{"text": str(_)}, *_]}:
            raise ValueError(
                f"token ids and log-probs (return_token_ids), which vLLM returns from {'.'.join(map(str, OLDEST))} on "
                "and SGLang since 2026, got a text"
            )
    raise ValueError(f"a completion with token ids and log-probs, got {str(reply)[:60]!r}")


def _models(reply: Any) -> list[tuple[str, str]]:
    """Names and places of the models that are no adapters."""
    match reply:
        case {"data": [*cards]}:
            found = [(str(c["id"]), str(c.get("root") or "")) for c in cards if c.get("id") and not c.get("parent")]
            if found:
                return found
    raise ValueError(f"a list of models, got {str(reply)[:60]!r}; it is no server of OpenAI's protocol")


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
    models = client.ask("/v1/models", None, _models)
    if not {model, folder} & {known for pair in models for known in pair}:
        raise ConfigError(
            f"{name} serves {models[0][0]}, expected {model}; if these are the same, start it with "
            f"--served-model-name {model}"
        )
    _check_version(client)
    tokenizer = load_tokenizer(model, policy.pad_token)
    ids = list(tokenizer.encode(PROBE, add_special_tokens=False))
    asked = {"model": models[0][0], "prompt": PROBE, "add_special_tokens": False}
    status, content = client.peek("/tokenize", asked)
    theirs = _read_json(content).get("tokens") if status == HTTPStatus.OK else None
    if isinstance(theirs, list) and theirs != ids:
        raise ConfigError(f"{name} has another tokenizer than {model}: it makes {theirs[:8]} of what is {ids[:8]} here")
    # Of a single candidate the log-prob is 0 under the distribution that is sampled, and not under the model's own.
    body = {"model": models[0][0], "prompt": ids, "max_tokens": 1, "seed": 0, **drawn(Sampling(top_k=1))}
    _, logprobs, _ = client.ask("/v1/completions", body, lambda reply: read_completion(reply, body))
    cut = (sampling.temperature, sampling.top_k, sampling.top_p) != (1.0, 0, 1.0)
    if cut and abs(logprobs[0]) > 1e-4:
        raise ConfigError(
            f"{name} returns log-probs of the model's own distribution, not of the one that is sampled; start it with "
            "--logprobs-mode processed_logprobs, as madrigal engine serve does"
        )
    if policy.lora.rank:
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
            status, content = client.peek("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
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
