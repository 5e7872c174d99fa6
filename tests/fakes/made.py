"""Transcripts and run folders made by hand: what each example came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes.synthetic import write_lines
from madrigal.compare.rows import Played
from madrigal.config import Experiment, to_json


def said(
    example: str, value: float, tokens: Sequence[int] = (10,), sample: int = 0, details: Any = None, **metrics: float
) -> dict[str, Any]:
    """A transcript of one example: its normalized return, and the lengths of its turns, one agent each."""
    turns = [{"agent": f"agent{n}", "round": 0, "text": "", "tokens": count} for n, count in enumerate(tokens)]
    return {
        "example": example,
        "sample": sample,
        "reward": value / 100,
        "return_percent": value,
        "metrics": metrics,
        "details": details or {},
        "turns": turns,
    }


def played(*values: float, seed: int = 0, **about: Any) -> Played:
    """One play of each of so many examples."""
    return Played([said(f"x{n}", value) for n, value in enumerate(values)], seed, **about)


def write_run(
    folder: Path, run: Experiment, *values: float, when: Sequence[str] = ("before", "after"), steps: int = 2
) -> Path:
    """A run folder whose evaluations all found these returns, one example each; with "after" it has a team."""
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(to_json(run))
    held = {
        "return_percent": sum(values) / len(values),
        "low": 0.0,
        "high": 100.0,
        "examples": len(values),
        "components": {"accuracy": 50.0},
        "intervals": {"accuracy": [0.0, 100.0]},
        "tokens_per_second": 40.0,
        "response_seconds": 0.5,
    }
    (folder / "evaluation.json").write_text(json.dumps(dict.fromkeys(when, held)))
    records = [
        {"evaluation": name, "step": 0, **said(f"x{n}", value, accuracy=value)}
        for name in when
        for n, value in enumerate(values)
    ]
    write_lines(folder / "episodes.jsonl", records)
    write_lines(folder / "steps.jsonl", [{"step": step, "tokens": 100} for step in range(steps)])
    if "after" in when:
        (folder / "team").mkdir()
    return folder
