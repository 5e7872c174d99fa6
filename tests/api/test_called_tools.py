"""A seat that learns to call tools through the gateway comes to the weights of the same training in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fakes.calling import asked_by_http, build_caller, shown
from fakes.elsewhere import AGENTS, ROWS
from madrigal import TrainingResult, train_rollouts
from madrigal.runs.log import read_lines
from madrigal.tasks.tools.calls import calls_in

RESULT = "<tool_response>\n7\n</tool_response>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_caller(tmp_path_factory.mktemp("model"))


def by_http(example: Any, client: Any) -> float:
    """As a program of somebody else does: OpenAI's client, its tools, and messages of the role tool."""
    return worth(*asked_by_http(example.data["n"], client))


def in_process(example: Any, client: Any) -> float:
    """The same in texts alone."""
    before = shown(example.data["n"])
    words, calls = calls_in(said := client.chat("left", before))
    if calls:
        results = {"role": "user", "content": "\n".join([RESULT] * len(calls))}
        words, _ = calls_in(client.chat("left", [*before, {"role": "assistant", "content": said}, results]))
    return worth(len(calls), words)


def worth(calls: int, words: str) -> float:
    return min(1.0, calls / 2 + len(words) % 3 / 4)


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
        assert {n: v for n, v in told.items() if n.startswith("update/") and v != own[n]} == {}
    # Only what was sampled is counted and learned: what the tool said stands in prompts alone.
    episodes = [line for line in read_lines(theirs.folder / "episodes.jsonl") if "evaluation" not in line]
    turns = [turn for episode in episodes for turn in episode["turns"]]
    again = [turn for turn in turns if any(message["role"] == "tool" for message in turn["prompt"])]
    assert len(turns) > len(episodes) and len(again) == len(turns) - len(episodes)
    assert all("7" in json.dumps(turn["prompt"][-1]) and RESULT not in turn["text"] for turn in again)
    assert sum(record["tokens"] for record in theirs.curve) == sum(turn["tokens"] for turn in turns)
