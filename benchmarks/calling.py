"""Whether a seat learns to call a tool through the gateway: a random model of 28,000 weights, paid for a call.

    PYTHONPATH=src:tests:tools OMP_NUM_THREADS=1 python benchmarks/calling.py --seeds 0 1 2

A program asks the seat over HTTP with OpenAI's client, makes the call that it is answered with, and hands back the
result; a session is worth 1 if there was exactly one call, else 0. Prints a JSON row for each seed: the share of
sessions that were worth something, in ten steps after ten.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from fakes.calling import asked_by_http, build_caller
from madrigal import train_rollouts

ROWS = {"train": [{"id": str(n), "n": str(n)} for n in range(8)], "test": [{"id": "9", "n": "9"}]}


def rollout(example: Any, client: Any) -> float:
    calls, _ = asked_by_http(example.data["n"], client)
    return float(calls == 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = build_caller(Path(scratch) / "model", nats=-1.0)
        for seed in options.seeds:
            run = train_rollouts(
                rollout, ROWS, Path(scratch) / str(seed), agents=("left",), steps=options.steps, prompts=2, seed=seed,
                quiet=True, algorithm={"width": 8}, evaluation={"examples": 1}, sampling={"max_new_tokens": 8},
                optimizer={"lr": 1e-2}, team={"policy": {"model": str(model), "lora": {"rank": 0}}},
            )  # fmt: skip
            worth = [record["reward"] for record in run.curve]
            tens = [round(fmean(worth[n : n + 10]), 2) for n in range(0, len(worth), 10)]
            print(json.dumps({"seed": seed, "worth": tens}), flush=True)


if __name__ == "__main__":
    main()
