"""Run folders that look like real ones, made of random numbers: a team that learns to divide the work.

Kept apart from Madrigal's own writers, so that the files are what docs/run-folder.md says, and not what code does.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AGENTS = ("helper", "main")
SCHEMES = ("fallback", "decorator", "coordinator", "strategy_filter", "none")
SPEECH = """
    the a of to and in it you for on this with that is was have not are my but they when we at from or can had so what
    there one people because would if just like about out up time then them me been some only more get other how all
    money friend couch apartment post summary also however therefore first second finally although moreover landlord
    sister paint party weekend week letter lawyer rule family trust contact garden kitchen window summer
"""
WORDS = SPEECH.split()
SETTINGS: dict[str, Any] = {
    "recipe": "coding",
    "task": {"kind": "Coding", "name": "coding", "turns": 1},
    "topology": {"kind": "Parallel"},
    "team": {"policy": {"model": "starter:small", "trainable": True, "lora": {"rank": 0}}, "seats": {}},
    "algorithm": {"width": 8, "kl": 0.02, "clip": None},
    "sampling": {"temperature": 1.0, "max_new_tokens": 112},
    "optimizer": {"lr": 0.001, "betas": [0.9, 0.999]},
    "steps": 60,
    "prompts": 8,
    "seed": 0,
}


def write_run(
    folder: Path,
    *,
    steps: int = 60,
    every: int = 1,
    transcripts: int = 2,
    examples: int = 12,
    words: int = 40,
    seed: int = 0,
    pieces: bool = True,
    planned: int = 0,
    **settings: Any,
) -> Path:
    """Writes a run.

    Args:
        every: transcripts are recorded at every so many steps.
        words: length of an answer.
        pieces: whether transcripts say which tokens made up the text.
        planned: steps that the run was meant to make; more than `steps` leaves it without an end.
        settings: other settings than the ones above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    given = SETTINGS | {"steps": planned or steps, "seed": seed} | settings
    (folder / "experiment.json").write_text(json.dumps(given, indent=2))
    stages = ("before", "after") if planned <= steps else ("before",)
    skills = {"before": 0.3, "after": 0.9}
    episodes = [
        {"evaluation": "before", "step": 0, **_episode(draw, f"test/{n}", 0.3, words, pieces, False)}
        for n in range(examples)
    ]
    for step in range(0, steps, every):
        episodes += [
            {"step": step, **_episode(draw, f"train/{(step + n) % 200}", _skill(step, steps), words, pieces, True)}
            for n in range(transcripts)
        ]
    if "after" in stages:
        episodes += [
            {"evaluation": "after", "step": steps, **_episode(draw, f"test/{n}", 0.9, words, pieces, False)}
            for n in range(examples)
        ]
    write_lines(folder / "episodes.jsonl", episodes)
    write_lines(folder / "steps.jsonl", [_step(draw, step, steps) for step in range(steps)])
    evaluations = {stage: _evaluation(draw, skills[stage], examples) for stage in stages}
    (folder / "evaluation.json").write_text(json.dumps(evaluations))
    return folder


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _skill(step: int, steps: int) -> float:
    return 0.9 - 0.6 * math.exp(-4 * step / steps)


def _step(draw: random.Random, step: int, steps: int) -> dict[str, Any]:
    skill = _skill(step, steps) + draw.gauss(0, 0.04)
    shares = [skill / 3, skill / 4, skill / 5, skill / 10]
    shares.append(max(0.0, 1 - sum(shares)))
    record: dict[str, Any] = {
        "step": step,
        "seconds": 2 + draw.random(),
        "tokens": draw.randrange(5000, 7000),
        "tokens_per_second": 2000 + draw.gauss(0, 100),
        "episodes": 64,
        "reward": 4 * skill,
        "group/return_std": 1 - skill + draw.random() / 10,
        "group/zero_advantage_fraction": max(0.0, skill - 0.5),
        "component/return_percent": 100 * skill,
        "component/tests": 90 * skill + draw.gauss(0, 3),
        "component/syntax": 60 + 40 * skill,
        **{f"component/scheme/{name}": share for name, share in zip(SCHEMES, shares, strict=True)},
    }
    for place, agent in enumerate(AGENTS):
        length = 40 + 50 * place * skill
        record |= {
            f"agent/{agent}/reward": 4 * skill,
            f"agent/{agent}/tokens": length + draw.gauss(0, 2),
            f"agent/{agent}/truncated_fraction": max(0.0, 0.3 - skill / 3),
            f"agent/{agent}/seconds": length / 100,
            f"update/{agent}/loss": draw.gauss(0, 1),
            f"update/{agent}/entropy": 1.2 - skill + draw.gauss(0, 0.03),
            f"update/{agent}/kl": 0.6 * skill + abs(draw.gauss(0, 0.05)),
            f"update/{agent}/gradient_norm": 5 + draw.random(),
            f"update/{agent}/lr": 1e-3 * (1 - step / steps),
        }
    return record


def _episode(
    draw: random.Random, example: str, skill: float, words: int, pieces: bool, advantages: bool
) -> dict[str, Any]:
    reward = min(4.0, max(0.0, 4 * skill + draw.gauss(0, 0.6)))
    task = " ".join(random.Random(example).choices(WORDS, k=60))
    scheme = draw.choices(SCHEMES, weights=(skill, skill, skill, skill, 1))[0]
    turns = []
    for agent in AGENTS:
        said = [draw.choice(WORDS) for _ in range(draw.randint(words // 2, words))]
        turn: dict[str, Any] = {
            "round": 0,
            "agent": agent,
            "prompt": [{"role": "user", "content": f"{task}\n\nWrite your part, {agent}."}],
            "text": " ".join(said),
            "tokens": len(said) + 1,
            "finish": "stop" if draw.random() < 0.9 else "length",
            "reward": reward,
            "advantage": round(reward - 4 * skill, 4) if advantages else None,
        }
        if pieces:
            turn["pieces"] = [len(said[0]), *(len(word) + 1 for word in said[1:]), 0]
            turn["logprobs"] = [round(-draw.expovariate(1.5), 3) for _ in turn["pieces"]]
        turns.append(turn)
    return {
        "example": example,
        "reward": reward,
        "ending": "horizon",
        "metrics": {
            "tests": 100 * skill,
            "return_percent": 25 * reward,
            **{f"scheme/{name}": float(name == scheme) for name in SCHEMES},
        },
        "details": {"verdicts": [["test 1", "passed", ""], ["test 2", "failed", "expected 3, got 4"]]},
        "turns": turns,
    }


def _evaluation(draw: random.Random, skill: float, examples: int) -> dict[str, Any]:
    mean = 100 * skill + draw.gauss(0, 2)
    components = {"return_percent": mean, "tests": 0.9 * mean, "syntax": 60 + 0.4 * mean}
    return {
        "return_percent": mean,
        "low": mean - 6,
        "high": min(100.0, mean + 6),
        "examples": examples,
        "components": components,
        "intervals": {name: [value - 6, min(100.0, value + 6)] for name, value in components.items()},
        "tokens_per_second": 400.0,
        "response_seconds": 0.3,
    }
