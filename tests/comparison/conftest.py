"""The tiny model of the core tests, and an experiment that a whole comparison of takes seconds."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "core"))

import tiny

from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, RecordsConfig, TeamConfig
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.learning.learner import Optimiser
from madrigal.maths.sampling import Sampling
from madrigal.policies.local import PolicyConfig
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.gsm8k import Gsm8k

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that mostly says digits, so that it is right now and then and something can be learned."""
    folder = tiny.build_model(tmp_path_factory.mktemp("model"))
    policy = tiny.load(folder)
    said = [t for answer in tiny.answers(policy, Sampling(max_new_tokens=8), each=20) for t in answer.token_ids]
    digits = policy.tokenizer.convert_tokens_to_ids(list("0123456789"))
    common = [t for t, _ in Counter(said).most_common() if t not in digits and t not in policy.ends][:10]
    embedding = policy.model.model.embed_tokens.weight.data
    embedding[digits + common] = embedding[common + digits]
    embedding[digits] *= 1.6
    policy.save(folder)
    return folder


@pytest.fixture(scope="session")
def sums(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Two agents and numbers to guess: two steps of two prompts, eight answers each; a checkpoint after every step."""
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [{"question": f"{n} + {n}?", "answer": "27"[n % 2]} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Experiment(
        recipe="sums",
        task=Gsm8k(source=Source(str(file), train="train[:5]", test="train[5:]")),
        team=TeamConfig(policy=PolicyConfig(model=str(model_folder)), device="cpu"),
        algorithm=GroupRelative(width=8),
        sampling=Sampling(max_new_tokens=5),
        optimiser=Optimiser(lr=1e-2),
        evaluation=EvaluationConfig(examples=3, timed=1),
        records=RecordsConfig(checkpoint_every=1, transcripts=1),
        steps=2,
        prompts=2,
        threads=1,
    )
