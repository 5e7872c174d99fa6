"""How long it takes to evaluate a starter team on 200 held-out examples.

    python benchmarks/evaluation.py tldr coding

Loads the untrained team of each recipe and plays 200 held-out examples once, and four of them again one at a time for
response times, as `madrigal evaluate` does. Prints one JSON row per recipe; loading is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from madrigal.recipes import recipe
from madrigal.training.checks import open_checked_task
from madrigal.training.held_out import evaluate_on
from madrigal.training.teams import make_team, open_rollout_workers, use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--examples", type=int, default=200)
    options = parser.parse_args()
    for name in options.recipes:
        run = recipe(name)
        run = replace(run, evaluation=replace(run.evaluation, examples=options.examples))
        use_threads(run.threads)
        with open_checked_task(run) as task:
            team = make_team(run.team, task.agents, run.seed)
            with open_rollout_workers(run, task, team) as (speak, judge):
                began = time.perf_counter()
                result, transcripts = evaluate_on(task, run, speak, judge)
                seconds = time.perf_counter() - began
        tokens = sum(turn["tokens"] for record in transcripts for turn in record["turns"])
        row = {"recipe": name, "examples": result.examples, "seconds": round(seconds, 1), "tokens": tokens}
        print(json.dumps({**row, "tokens_per_second": round(tokens / seconds)}), flush=True)


if __name__ == "__main__":
    main()
