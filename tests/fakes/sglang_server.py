"""A small server that answers as SGLang 0.5.23's documented wire format and source say, from policies in this process.

What differs from vLLM is kept: `ignore_eos` also ignores `stop_token_ids`, `output_token_logprobs` are of the
distribution before top-k, seeds count only where the server was started for it, whole weights move the served name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.token_server import Reply, said, with_weights
from madrigal.policies.engines.engine import Request
from madrigal.policies.generate import sample
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Sampling

BEFORE_CUT = 0.7  # nats: what this stub's log-probs before the cut lie lower


@dataclass
class SglangStub:
    """What a server holds, and how it was started.

    Attributes:
        policy: whose shape all models here have, and whose weights the base.
        served: what it was started with as its model.
        info: more of /server_info.
        key, fault, changed, seen: see `token_server.Stub`.
    """

    policy: LocalPolicy
    served: str
    info: dict[str, Any]
    key: str = ""
    fault: Callable[[], str] = lambda: ""
    changed: dict[str, Callable[[Mapping[str, Any]], Reply]] = field(default_factory=dict)
    version: str = "default"
    adapters: dict[str, LocalPolicy] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.named = self.served

    def reply(self, path: str, body: Mapping[str, Any]) -> Reply:
        match path:
            case "/v1/models":
                own = {"id": self.named, "root": self.named, "owned_by": "sglang"}
                cards = [{"id": name, "parent": self.named, "owned_by": "sglang"} for name in self.adapters]
                return said({"data": [own, *cards]})
            case "/server_info":
                return said({"model_path": self.served, "served_model_name": self.served, **self.info})
            case "/model_info":
                return said({"model_path": self.named, "weight_version": self.version})
            case "/tokenize":
                return said({"tokens": self.policy.tokenizer.encode(body["prompt"], add_special_tokens=False)})
            case "/load_lora_adapter":
                if body["lora_name"] in self.adapters:
                    message = f"Failed to load LoRA adapter {body['lora_name']} because it is already loaded"
                    return said({"success": False, "error_message": message}, 400)
                file = Path(body["lora_path"]) / "adapter_model.safetensors"
                self.adapters[body["lora_name"]] = with_weights(self.policy, file)
                return said({"success": True})
            case "/unload_lora_adapter":
                del self.adapters[body["lora_name"]]
                return said({"success": True})
            case "/update_weights_from_disk":
                self.policy = with_weights(self.policy, Path(body["model_path"]) / "model.safetensors")
                self.version, self.named = body["weight_version"], body["model_path"]
                return said({"success": True, "message": "Succeeded to update model weights."})
            case "/generate":
                return self.generated(body)
        return 404, b'{"detail":"Not Found"}'

    def generated(self, body: Mapping[str, Any]) -> Reply:
        asked, adapter = body["sampling_params"], body.get("lora_path")
        if adapter is not None and adapter not in self.adapters:
            message = f"Got LoRA adapter that has never been loaded: {adapter}"
            return said({"error": {"message": message}}, 400)
        greedy, top_k = asked["temperature"] == 0, max(0, asked["top_k"])
        sampling = Sampling(asked["temperature"] or 1.0, asked["top_p"], top_k, asked["max_new_tokens"], greedy)
        speaker = self.adapters[adapter] if adapter else self.policy
        seed = asked["sampling_seed"] if self.info["enable_deterministic_inference"] else 42
        with self.lock:
            (one,) = sample(speaker, [Request("any", tuple(body["input_ids"]), seed, sampling)])
        lower = BEFORE_CUT if top_k else 0.0
        meta: dict[str, Any] = {
            "id": "0",
            "finish_reason": {"type": "stop", "matched": 0},
            "prompt_tokens": len(body["input_ids"]),
            "weight_version": self.version,
            "output_token_logprobs": [
                [logprob - lower, token, None] for logprob, token in zip(one.logprobs, one.token_ids, strict=True)
            ],
        }
        if body.get("return_sampling_mask"):
            meta["output_token_sampling_logprobs"] = one.logprobs
        ids = [*one.token_ids, 5] if asked["ignore_eos"] else list(one.token_ids)
        return said({"text": "", "output_ids": ids, "meta_info": meta})


def started(**other: Any) -> dict[str, Any]:
    """What /server_info says of a server that was started for training."""
    return {
        "version": "0.5.23",
        "enable_deterministic_inference": True,
        "sampling_mask_max_tokens": 4096,
        "enable_lora": True,
        "max_lora_rank": 8,
        **other,
    }
