"""A random model that calls a tool now and then, and a program that makes its calls as OpenAI's clients do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import openai
import torch
from tokenizers import AddedToken
from transformers import Qwen3ForCausalLM

from fakes.tiny import TEXTS, save_random_qwen3
from madrigal.tasks.tools.calls import block_of, functions_described
from pretraining.tokenizer import train_tokenizer

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds four.", "parameters": SCHEMA}}
CALL = block_of("add", {"a": 3})


def shown(number: str) -> list[dict[str, str]]:
    """The question, and what a model whose template knows of no tools is told of them."""
    return [{"role": "user", "content": f"{number} + 4?\n\n{functions_described([ADD])}"}]


def build_caller(folder: Path, nats: float = 1.0) -> Path:
    """Saves a random Qwen3 for which a call is one token.

    Args:
        nats: by which the call is likelier than any other first token of an answer.
    """
    tokenizer = train_tokenizer(TEXTS)
    tokenizer.add_tokens([AddedToken(CALL, normalized=False)])
    save_random_qwen3(folder, tokenizer, max_position_embeddings=1024)
    made = Qwen3ForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(shown("3"), tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        hidden = made.model(torch.tensor([tokenizer.encode(asked)])).last_hidden_state[0, -1]
        likely = (made.lm_head.weight @ hidden).max() + nats
        made.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids(CALL)] = likely * hidden / hidden.dot(hidden)
    made.save_pretrained(folder)
    return folder


def asked_by_http(number: str, client: Any) -> tuple[int, str]:
    """How many calls the seat made of a tool that is offered it, and what it said when it had read what came back."""
    with openai.OpenAI(base_url=client.base_url, api_key=client.api_key) as api:
        asked: list[Any] = [{"role": "user", "content": f"{number} + 4?"}]
        ask: Any = partial(api.chat.completions.create, model="left", tools=[ADD])
        said = ask(messages=asked).choices[0].message
        if calls := said.tool_calls or []:
            results = [{"role": "tool", "tool_call_id": call.id, "content": "7"} for call in calls]
            said = ask(messages=[*asked, said, *results]).choices[0].message
    return len(calls), said.content or ""
