"""A seat that learns to call tools through the gateway comes to the weights of the same training in process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import Qwen3ForCausalLM

from fakes.elsewhere import AGENTS, ROWS
from fakes.tiny import TEXTS, save_random_qwen3
from madrigal import TrainingResult, train_rollouts
from madrigal.runs.log import read_lines
from madrigal.tasks.tools.calls import block_of, calls_in, functions_described
from pretraining.tokenizer import train_tokenizer

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds four.", "parameters": SCHEMA}}
CALL, RESULT = block_of("add", {"a": 3}), "<tool_response>\n7\n</tool_response>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model for which a call is one token, that it says in about half of its answers."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), train_tokenizer(TEXTS)
    tokenizer.add_tokens([AddedToken(CALL, normalized=False)])
    save_random_qwen3(folder, tokenizer, max_position_embeddings=1024)
    made = Qwen3ForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(shown("3"), tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        hidden = made.model(torch.tensor([tokenizer.encode(asked)])).last_hidden_state[0, -1]
        likely = (made.lm_head.weight @ hidden).max() + 1
        made.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids(CALL)] = likely * hidden / hidden.dot(hidden)
    made.save_pretrained(folder)
    return folder


def by_http(example: Any, client: Any) -> float:
    """As a program of somebody else does: OpenAI's client, its tools, and messages of the role tool."""
    with openai.OpenAI(base_url=client.base_url, api_key=client.api_key) as api:
        asked: list[Any] = [{"role": "user", "content": f"{example.data['n']} + 4?"}]
        ask: Any = partial(api.chat.completions.create, model="left", tools=[ADD])
        said = ask(messages=asked).choices[0].message
        if calls := said.tool_calls or []:
            results = [{"role": "tool", "tool_call_id": call.id, "content": "7"} for call in calls]
            said = ask(messages=[*asked, said, *results]).choices[0].message
    return worth(calls, said.content)


def in_process(example: Any, client: Any) -> float:
    """The same in texts alone."""
    before = shown(example.data["n"])
    words, calls = calls_in(said := client.chat("left", before))
    if calls:
        results = {"role": "user", "content": "\n".join([RESULT] * len(calls))}
        words, _ = calls_in(client.chat("left", [*before, {"role": "assistant", "content": said}, results]))
    return worth(calls, words)


def shown(number: str) -> list[dict[str, str]]:
    """The question, and what the model is told of the tool."""
    return [{"role": "user", "content": f"{number} + 4?\n\n{functions_described([ADD])}"}]


def worth(calls: Sequence[Any], words: str | None) -> float:
    return min(1.0, len(calls) / 2 + len(words or "") % 3 / 4)


def trained(rollout: Any, folder: Path, model: Path) -> TrainingResult:
    return train_rollouts(
        rollout, ROWS, folder, agents=AGENTS, steps=2, prompts=1, quiet=True, task={"gather": 20.0},
        algorithm={"width": 3}, evaluation={"examples": 1}, sampling={"max_new_tokens": 8}, optimizer={"lr": 1e-3},
        records={"transcripts": 6}, team={"policy": {"model": str(model), "lora": {"rank": 0}}},
    )  # fmt: skip


def test_calls_over_http_and_texts_in_process_come_to_the_same_weights(model: Path, tmp_path: Path) -> None:
    theirs, ours = (trained(play, tmp_path / play.__name__, model) for play in (by_http, in_process))
    one, other = (load_file(run.folder / "team" / "left" / "model.safetensors") for run in (theirs, ours))
    assert all(torch.equal(one[name], other[name]) for name in one)
    before = load_file(model / "model.safetensors")
    assert not all(torch.equal(one[name], before[name]) for name in one)
    for told, own in zip(theirs.curve, ours.curve, strict=True):
        assert [
            (told[name], own[name]) for name in told if name.startswith("update/") and told[name] != own[name]
        ] == []
    # Only what was sampled is counted and learned: what the tool said stands in prompts alone.
    episodes = [line for line in read_lines(theirs.folder / "episodes.jsonl") if "evaluation" not in line]
    turns = [turn for episode in episodes for turn in episode["turns"]]
    again = [turn for turn in turns if any(message["role"] == "tool" for message in turn["prompt"])]
    assert len(turns) > len(episodes) and len(again) == len(turns) - len(episodes)
    assert all("7" in json.dumps(turn["prompt"][-1]) and RESULT not in turn["text"] for turn in again)
    assert sum(record["tokens"] for record in theirs.curve) == sum(turn["tokens"] for turn in turns)
