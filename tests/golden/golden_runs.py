"""Tiny whole runs of every algorithm and recipe, as numbers: `python tests/golden/golden_runs.py FILE` writes them.

Numbers must agree between processors whose float paths differ in the last bits. So two things are kept small: the
draws that could lie on a border (top-k 2 has one border per token) and the learning rate (AdamW makes of a gradient of
rounding errors a step of full size). Weights are compared by their movement in units of the rate: eight projections on
random signs, which a change of direction moves by about the square root of the number of weights.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.config import Experiment
from madrigal.policies.starter import model_path
from madrigal.recipes import recipe
from madrigal.runs.log import read_lines
from madrigal.training.train import train_experiment

# Recipes on starter models; debate and kuhn are run as maporl and self_play.
RECIPES = ["tldr", "arxiv", "coding", "coding-two-turns", "gsm8k", "debate-no-verifier", "tictactoe", "office"]
RATE, PROJECTIONS, STEPS = 1e-6, 8, 2
PLAIN = GroupRelative(width=8, kl=0.01)  # whose common settings algorithms on tldr have
# What an algorithm is run on where tldr does not fit it.
BASE = {
    "self_play": "kuhn",
    "maporl": "debate",
    "marti": "debate",
    "at_grpo": "coding-two-turns",
    "multi_turn_grpo": "coding-two-turns",
    "matpo": "coding-two-turns",
    "dr_mas": "coding-two-turns",
    "counterfactual": "coding-two-turns",
    "collm_cc": "coding-two-turns",
    "pmic": "coding-two-turns",
}
MANY = ("counterfactual", "office")  # turns of an episode, or branches of it
CLOCKS = ("seconds", "tokens_per_second")


def tiny(name: str, base: str) -> Experiment:
    """Two steps of two prompts of a recipe; with another algorithm, or, by its own name, with its own."""
    run = recipe(base)
    if base == "tldr" and name != base:
        run = replace(run, algorithm=PLAIN)
    algorithm = run.algorithm if name == base else switch_algorithm(run.algorithm, name)
    longest = 160 if base == "arxiv" else 64  # shorter ones earn nothing
    changes: dict[str, Any] = {"width": 3 if algorithm.branching.width > 1 else 1}
    if name == "pmic":
        changes |= {"start": 2, "fits": 1}
    if name == "independent_grpo":
        run = replace(run, reward=replace(run.reward, share="difference"))
    return replace(
        run,
        algorithm=replace(algorithm, **changes),
        sampling=replace(run.sampling, top_k=2, max_new_tokens=min(longest, run.sampling.max_new_tokens)),
        optimizer=replace(run.optimizer, lr=RATE, warmup=0, lr_schedule="constant"),
        evaluation=replace(run.evaluation, examples=1, timed_examples=0),
        records=replace(run.records, transcripts=99, checkpoint_every=0),
        steps=STEPS,
        prompts=1 if name in MANY else 2,
    )


def cases() -> dict[str, Experiment]:
    """Every algorithm and every recipe on starter models, by name."""
    named = {f"algorithm-{name}": tiny(name, BASE.get(name, "tldr")) for name in ALGORITHMS}
    return named | {f"recipe-{name}": tiny(name, name) for name in RECIPES}


def numbers(run: Experiment, folder: Path) -> dict[str, Any]:
    """What a run came to: its records without clocks, advantages of its turns, and how its weights have moved."""
    with patch("madrigal.training.train._Evaluator.__call__", lambda *_: None):  # says nothing of what is learned
        train_experiment(run, folder)
    steps = [
        {key: value for key, value in record.items() if key.rpartition("/")[2] not in CLOCKS}
        for record in read_lines(folder / "steps.jsonl")
    ]
    advantages = [
        [turn["advantage"] for turn in episode["turns"] if turn["advantage"] is not None]
        for episode in read_lines(folder / "episodes.jsonl")
    ]
    moved = {each.name: movement(each) for each in sorted((folder / "team").iterdir()) if each.is_dir()}
    return {"steps": steps, "advantages": advantages, "moved": moved}


def movement(folder: Path) -> list[float]:
    """Projections of a saved model's movement from the starter's weights, in learning rates and root weights."""
    before, after = (load_file(path / "model.safetensors") for path in (model_path("small"), folder))
    generator = torch.Generator().manual_seed(0)
    total, count = torch.zeros(PROJECTIONS, dtype=torch.float64), 0
    for name in sorted(after):
        change = (after[name].double() - before[name].double()).flatten() / RATE
        signs = torch.randint(0, 2, (PROJECTIONS, len(change)), generator=generator, dtype=torch.int8) * 2 - 1
        total += signs.double() @ change
        count += len(change)
    return [round(value, 4) for value in (total / math.sqrt(count)).tolist()]


def rounded(value: Any) -> Any:
    """The same with floats of seven digits: more than two processors agree on."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def main(file: Path) -> None:
    """Runs all cases and writes their numbers as JSON, one case a line."""
    found = {}
    for name, run in cases().items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = numbers(run, Path(folder))
        print(name, flush=True)
    lines = [f'"{name}":{json.dumps(rounded(each), separators=(",", ":"))}' for name, each in found.items()]
    file.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
