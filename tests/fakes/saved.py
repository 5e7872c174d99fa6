"""Run folders with a saved team that nobody had to train: weights that were moved at random, and results by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from fakes.runs import tiny_run
from fakes.synthetic import write_lines
from madrigal.algorithms.group import GroupRelative
from madrigal.config import Experiment, to_json
from madrigal.settings import TeamConfig
from madrigal.tasks.data import Source
from madrigal.tasks.discussion.gsm8k import Gsm8k
from madrigal.training.saving import save_team
from madrigal.training.teams import make_team

AGENTS = ("ann", "bob")
RESULT = {"components": {"accuracy": 25.0}, "intervals": {"accuracy": [10.0, 40.0]}, "tokens_per_second": 9.0}
BEFORE = RESULT | {"return_percent": 12.5, "low": 5.0, "high": 20.0, "examples": 8, "response_seconds": 0.1}
AFTER = BEFORE | {"return_percent": 50.25, "low": 40.0, "high": 60.0}


def saved_run(folder: Path, team: TeamConfig, task: Any = None, **changes: Any) -> Experiment:
    """A run folder whose saved team is its base models with noise on all that is trainable."""
    folder.mkdir(parents=True)
    if task is None:
        data = folder.parent / "numbers.jsonl"
        write_lines(data, [{"question": f"{n} + {n}?", "answer": "27"[n % 2]} for n in range(4)])
        task = Gsm8k(Source(str(data), train="train[:2]", test="train[2:]"), agents=AGENTS)
    run = tiny_run(folder, task, GroupRelative(width=2), **{"team": team, **changes})
    (folder / "experiment.json").write_text(to_json(run))
    (folder / "evaluation.json").write_text(json.dumps({"before": BEFORE, "after": AFTER}))
    made = make_team(team, AGENTS, run.seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for policy in made.trainable:
            for weight in policy.parameters().values():
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
    save_team(made, folder / "team")
    return run
