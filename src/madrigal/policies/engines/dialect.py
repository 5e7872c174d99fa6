"""What a kind of server is asked, and by which paths; vLLM's dialect, which is OpenAI's with token ids.

POST /v1/completions          {"model", "prompt": [ids], "return_token_ids": true, "logprobs": 1, ...}
POST /v1/load_lora_adapter    {"lora_name", "lora_path"}: a hand-over, through a folder that both sides see
POST /collective_rpc          {"method": "load_version", ...}: one of whole weights, to `madrigal engine serve`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madrigal.policies.engines.engine import Request
from madrigal.settings import Sampling

OLDEST = (0, 10, 2)  # vLLM from here on returns token ids
Post = tuple[str, dict[str, Any]]
Spoken = tuple[tuple[int, ...], tuple[float, ...], str]


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is to answer.

    Attributes:
        name: an adapter's, or what the server calls the whole weights that it holds.
        adapter: which of the two.
        ends: tokens that end an answer.
    """

    name: str
    adapter: bool = False
    ends: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a kind of server is asked.

    Attributes:
        answers: the path of a request for an answer.
        body: what is posted there.
        read: token ids, log-probs and the name of what spoke; raises ValueError for anything else.
        load: where an adapter is handed over.
        unload: where it is taken back.
        replace: path and body of what replaces the whole weights by the files of a folder, under a name.
        after: those of all that is to follow.
        held: the path that says the name of the whole weights that it holds, as weight_version.
    """

    answers: str
    body: Callable[[Request, Speaker], dict[str, Any]]
    read: Callable[[Any, Mapping[str, Any]], Spoken]
    load: str
    unload: str
    replace: Callable[[str, Path], Post]
    after: Callable[[str], list[Post]]
    held: str


def _body(request: Request, speaker: Speaker) -> dict[str, Any]:
    return {
        "model": speaker.name,
        "prompt": list(request.prompt_ids),
        "max_tokens": request.sampling.max_new_tokens,
        "seed": request.seed,
        "stop_token_ids": list(speaker.ends),
        **_drawn(request.sampling),
    }


def _drawn(sampling: Sampling) -> dict[str, Any]:
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


def read_completion(reply: Any, body: Mapping[str, Any]) -> Spoken:
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
            if numbers(tokens, int) and numbers(said, int, float):
                return tuple(tokens), tuple(map(float, said)), name
        case {"choices": [{"text": str(_)}, *_]}:
            raise ValueError(
                f"token ids and log-probs (return_token_ids), which vLLM returns from {'.'.join(map(str, OLDEST))} on, "
                "got a text"
            )
    raise ValueError(f"a completion with token ids and log-probs, got {str(reply)[:60]!r}")


def numbers(found: Sequence[Any], *kinds: type) -> bool:
    """Whether all are numbers of these kinds, and none a bool.

    >>> numbers([1, 2], int), numbers([1, True], int), numbers([None], int, float)
    (True, False, False)
    """
    return all(type(each) in kinds for each in found)


def _replace(name: str, folder: Path) -> Post:
    return "/collective_rpc", {"method": "load_version", "kwargs": {"name": name, "path": str(folder)}}


def _after(name: str) -> list[Post]:
    return [("/reset_prefix_cache", {}), ("/update_weight_version", {"new_version": name})]


OPENAI = Dialect(
    answers="/v1/completions",
    body=_body,
    read=read_completion,
    load="/v1/load_lora_adapter",
    unload="/v1/unload_lora_adapter",
    replace=_replace,
    after=_after,
    held="/weight_info",
)
