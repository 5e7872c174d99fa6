"""What every algorithm learns on one task: held-out returns before and after, tokens and time, over several seeds.

    python benchmarks/algorithms.py tldr --seeds 0 1 2 --steps 40

Trains the recipe once per algorithm of `madrigal list` and seed through the command line, as a user would; whatever
else is on the command line goes to all of them. The gain of every held-out example is the return after training minus
the return before; its 95 % interval resamples seeds, and examples within them. Time is of the processor, all cores,
with loading and both evaluations: steadier than a clock where other programs run. Algorithms that cannot learn from
the recipe's task say why and are listed below the table. A run that exists already is read, not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.evaluation.statistics import Interval, bootstrap, hierarchical_bootstrap
from madrigal.runs.log import read_lines

REFUSED = 2  # the exit code of a mistake in the settings
# What some algorithms need beside the recipe, so that all can be tried on one task.
NEEDED = {
    "independent_grpo": ["--reward.share", "difference"],  # a reward of its own for every agent
    # The public code's 4 epochs of 8 minibatches are 32 updates a step; 4 suffice here, and take an eighth of the time.
    "maporl": ["--reward.share", "difference", "--algorithm.epochs", "1", "--algorithm.minibatches", "4"],
    "pmic": ["--algorithm.within", "all"],  # with one round there is nothing to compare within an episode
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/algorithms"))
    options, settings = parser.parse_known_args()
    lines, refused = [], dict[str, str]()
    for name in options.only:
        rows = []
        for seed in options.seeds:
            folder = options.runs / f"{options.recipe}-{name}-seed{seed}"
            own = [*NEEDED.get(name, []), *settings]
            why = train(options.recipe, folder, seed, name, own)
            if why:
                refused[name] = why
                break
            rows.append({**learning.read(folder, seed), "gains": gains(folder)})
        if rows:
            lines.append(line(name, rows))
            print(lines[-1], flush=True)
    print(table(options.recipe, len(options.seeds), lines, refused))


def train(recipe: str, folder: Path, seed: int, algorithm: str, settings: list[str]) -> str:
    """One run in its own process; the reason why this algorithm cannot learn from this task, or ""."""
    try:
        learning.run(recipe, folder, seed, ["--algorithm", algorithm, *settings])
    except subprocess.CalledProcessError as error:
        if error.returncode != REFUSED:
            raise
        return str(error.stderr).strip().splitlines()[-1]
    return ""


def gains(folder: Path) -> list[float]:
    """For each held-out example its return after training minus its return before, in points of 100."""
    played: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
    for episode in read_lines(folder / "episodes.jsonl"):
        if episode.get("evaluation") in played:
            played[episode["evaluation"]].setdefault(episode["example"], []).append(
                episode["metrics"]["return_percent"]
            )
    before, after = played["before"], played["after"]
    return [fmean(after[example]) - fmean(before[example]) for example in before]


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """One row of the table, in Markdown."""
    before, after = (bootstrap([row[when]["return_percent"] for row in rows]) for when in ("before", "after"))
    gain = hierarchical_bootstrap([row["gains"] for row in rows])
    tokens, seconds = (fmean(row[key] for row in rows) for key in ("tokens", "processor"))
    return f"| `{name}` | {before.mean:.1f} | {after.mean:.1f} | {_cell(gain)} | {tokens / 1000:.0f} | {seconds:.0f} |"


def table(recipe: str, seeds: int, lines: list[str], refused: dict[str, str]) -> str:
    """All rows, and who is not among them."""
    head = [f"### {recipe}: {seeds} seeds", "", "| algorithm | before | after | gain | thousand tokens | processor s |"]
    left_out = [f"- `{name}`: {why}" for name, why in refused.items()]
    return "\n".join([*head, "|---|---|---|---|---|---|", *lines, "", *left_out])


def _cell(interval: Interval) -> str:
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


if __name__ == "__main__":
    main()
