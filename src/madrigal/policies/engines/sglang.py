"""SGLang's own dialect.

    POST /generate                    {"input_ids": [ids], "sampling_params": {...}, "return_logprob": true, ...}
    POST /load_lora_adapter           {"lora_name", "lora_path"}: a hand-over, through a folder that both sides see
    POST /update_weights_from_disk    {"model_path", "weight_version"}: one of whole weights, likewise
    GET  /model_info                  weight_version: which whole weights it holds
    GET  /server_info                 how it was started

Written from the source of SGLang 0.5.23. Two things differ from vLLM's: `ignore_eos` also ignores `stop_token_ids`,
and `return_logprob` is of the distribution before top-k and top-p; what is sampled after top-k comes by
`return_sampling_mask`, which needs a top-k.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madrigal.policies.engines.dialect import Dialect, Post, Speaker, Spoken, numbers
from madrigal.policies.engines.engine import Request
from madrigal.settings import PolicyConfig, Sampling
from madrigal.types import ConfigError

OLDEST = (0, 5, 23)  # what this was written for


def check_sglang(info: Mapping[str, Any], policy: PolicyConfig, sampling: Sampling) -> None:
    """Looks at how a server was started: version, seeds, cuts, adapters.

    Raises:
        ConfigError: one line, with what to start it with.
    """
    name, version = policy.engine.name, str(info.get("version", ""))
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST:
        raise ConfigError(f"{name} is SGLang {version}, expected {'.'.join(map(str, OLDEST))} or newer")
    if not info.get("enable_deterministic_inference"):
        raise ConfigError(f"{name} does not look at seeds; start it with --enable-deterministic-inference")
    if policy.engine.transfer != "files" and not policy.lora.rank:
        raise ConfigError(f"engine.transfer: {name} is SGLang, which takes whole weights from us by files only")
    _check_cut(sampling)
    most = int(info.get("sampling_mask_max_tokens") or 0)
    if sampling.top_k > most:
        raise ConfigError(
            f"sampling.top_k: {name} returns log-probs of what is sampled up to a top_k of {most}, got "
            f"{sampling.top_k}; start it with --sampling-mask-max-tokens {sampling.top_k}"
        )
    rank, largest = policy.lora.rank, int(info.get("max_lora_rank") or 0)
    if rank and not info.get("enable_lora"):
        raise ConfigError(
            f"{name} takes no adapters; start it with --enable-lora --max-lora-rank {rank} --lora-target-modules all"
        )
    if rank > largest > 0:
        raise ConfigError(
            f"{name} does not take adapters of rank {rank}, {largest} at most; start it with --max-lora-rank {rank}"
        )


def _check_cut(sampling: Sampling) -> None:
    if sampling.top_p < 1:
        raise ConfigError(
            f"sampling.top_p: SGLang does not return log-probs of what is sampled after a top_p ({sampling.top_p}) "
            "alone, and after top_k it cuts by other sums; take top_k alone, vLLM or the local engine"
        )


def _body(request: Request, speaker: Speaker) -> dict[str, Any]:
    sampling = request.sampling
    if not sampling.greedy:
        _check_cut(sampling)
    drawn = {
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_k": -1 if sampling.greedy else sampling.top_k or -1,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "max_new_tokens": sampling.max_new_tokens,
        "stop_token_ids": list(speaker.ends),
        "ignore_eos": False,
        "no_stop_trim": True,
        "skip_special_tokens": False,
        "sampling_seed": request.seed,
    }
    body = {"input_ids": list(request.prompt_ids), "sampling_params": drawn, "return_logprob": True}
    if sampling.top_k and not sampling.greedy:
        body |= {"return_sampling_mask": True, "sampling_logprobs_mode": "selected"}
    return body | ({"lora_path": speaker.name} if speaker.adapter else {})


def read_generated(reply: Any, body: Mapping[str, Any]) -> Spoken:
    """Token ids, log-probs, and the name of what spoke: the adapter that was asked for, or the version of the weights.

    >>> meta = {"finish_reason": {"type": "stop"}, "prompt_tokens": 1, "weight_version": "ann@3-ab"}
    >>> meta["output_token_logprobs"] = [[-0.5, 5, None], [0.0, 2, None]]
    >>> read_generated({"output_ids": [5, 2], "meta_info": meta}, {"input_ids": [1]})
    ((5, 2), (-0.5, 0.0), 'ann@3-ab')

    Raises:
        ValueError: with what was expected and what came.
    """
    match reply:
        case {"meta_info": {"finish_reason": {"type": "abort", **why}}}:
            raise ValueError(f"an answer, got one that was given up: {str(why.get('message'))[:200]}")
        case {
            "output_ids": list(tokens),
            "meta_info": {
                "output_token_logprobs": list(rows),
                "prompt_tokens": int(count),
                "weight_version": str(version),
                **more,
            },
        }:
            if count != len(body["input_ids"]):
                raise ValueError(f"an answer to a prompt of {len(body['input_ids'])} tokens, got one of {count}")
            rest: Any = more
            said = [row[0] for row in rows if isinstance(row, list) and len(row) > 1]
            if "return_sampling_mask" in body:
                said = rest.get("output_token_sampling_logprobs") or []
            spans = {str(span["version"]) for span in rest.get("weight_versions") or [{"version": version}]}
            spoke = body.get("lora_path") or (spans.pop() if len(spans) == 1 else "")
            if [row[1] for row in rows] == tokens and numbers(tokens, int) and numbers(said, int, float):
                return tuple(tokens), tuple(map(float, said)), spoke
    raise ValueError(f"token ids and their log-probs, got {str(reply)[:60]!r}")


def _replace(name: str, folder: Path) -> Post:
    return "/update_weights_from_disk", {"model_path": str(folder), "weight_version": name, "flush_cache": True}


SGLANG = Dialect(
    answers="/generate",
    body=_body,
    read=read_generated,
    load="/load_lora_adapter",
    unload="/unload_lora_adapter",
    replace=_replace,
    after=lambda name: [],
    held="/model_info",
)
