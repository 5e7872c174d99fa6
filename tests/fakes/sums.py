"""An experiment that a whole comparison of takes seconds, and in which a random model learns something."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fakes import tiny
from fakes.runs import tiny_run
from fakes.synthetic import write_lines
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment
from madrigal.settings import EvaluationConfig, OptimizerConfig, RecordsConfig, Sampling
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.gsm8k import Gsm8k


def build_model(folder: Path) -> Path:
    """A random model that mostly says digits, so that it is right now and then."""
    policy = tiny.load(tiny.build_model(folder))
    spoken = [t for answer in tiny.answers(policy, Sampling(max_new_tokens=8), each=20) for t in answer.token_ids]
    digits = policy.tokenizer.convert_tokens_to_ids(list("0123456789"))
    common = [t for t, _ in Counter(spoken).most_common() if t not in digits and t not in policy.ends][:10]
    embedding = policy.model.model.embed_tokens.weight.data
    embedding[digits + common] = embedding[common + digits]
    embedding[digits] *= 1.6
    policy.save(folder)
    return folder


def sums_run(folder: Path) -> Experiment:
    """Two agents and numbers to guess: two steps of two prompts, eight answers each; a checkpoint after every step."""
    file = folder / "sums.jsonl"
    write_lines(file, [{"question": f"{n} + {n}?", "answer": "27"[n % 2]} for n in range(8)])
    return tiny_run(
        build_model(folder / "model"),
        Gsm8k(source=Source(str(file), train="train[:5]", test="train[5:]")),
        GroupRelative(width=8),
        recipe="sums",
        sampling=Sampling(max_new_tokens=5),
        optimizer=OptimizerConfig(lr=1e-2),
        evaluation=EvaluationConfig(examples=3, timed_examples=1),
        records=RecordsConfig(checkpoint_every=1, transcripts=1),
    )
