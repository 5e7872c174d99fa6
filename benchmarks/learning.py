"""What a recipe learns: held-out results before and after training, over several seeds.

    python benchmarks/learning.py tldr --seeds 0 1 2

Trains the recipe once per seed through the command line, as a user would, then reads the runs' evaluations. Prints
one JSON row per seed and a table in Markdown: before, after a warm start if there is one, and after training, the mean
over seeds with a 95 % interval that resamples seeds; then what RL added, paired by example, with one that resamples
seeds and examples. A run that exists already is read, not repeated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from madrigal.config import Experiment
from madrigal.evaluation.evaluate import EvalSetup
from madrigal.evaluation.statistics import Interval, bootstrap, hierarchical_bootstrap
from madrigal.rollouts.play import judge_in_turn
from madrigal.rollouts.task import Task
from madrigal.runs.log import read_lines
from madrigal.training.train import train_experiment
from madrigal.training.trained_team import TrainedTeam

WHEN = ("before", "warm", "after")  # of a run's evaluations
RETURN = "return_percent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    options, settings = parser.parse_known_args()
    rows, gains = [], []
    for seed in options.seeds:
        folder = options.runs / f"{options.recipe}-seed{seed}"
        rows.append(read(run(options.recipe, folder, seed, settings), seed))
        print(json.dumps(rows[-1]), flush=True)
        gains.append(added(folder))
    print(table(options.recipe, rows, gains))


def run(recipe: str, folder: Path, seed: int, settings: Sequence[str]) -> Path:
    """The folder of a run in a process of its own, by the command line, made where it is not there."""
    if (folder / "team").is_dir():
        return folder
    command = [sys.executable, "-c", "from madrigal.cli import main; main()", "train", recipe]
    command += ["--name", folder.name, "--runs", str(folder.parent), "--overwrite", "--seed", str(seed), *settings]
    began, used = time.perf_counter(), _processor_seconds()
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    done.check_returncode()
    taken = {"wall": time.perf_counter() - began, "processor": _processor_seconds() - used}
    (folder / "seconds.json").write_text(json.dumps(taken))
    return folder


def made(experiment: Experiment, folder: Path) -> Path:
    """The folder of a run of this process, made where it is not there.

    Raises:
        SystemExit: if a signal has ended it.
    """
    if not (folder / "team").is_dir() and not train_experiment(experiment, folder, overwrite=True):
        raise SystemExit(f"stopped; {folder} is unfinished, remove it before the next start")
    return folder


def interval_of(runs: Sequence[Sequence[float]]) -> str:
    """A mean over runs and examples, with its interval over both."""
    found = hierarchical_bootstrap(runs)
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def setup_of(seated: TrainedTeam, task: Task[Any]) -> EvalSetup:
    """The test questions of a task as a trained team plays them."""
    speak = seated.team.speaker(seated.run.sampling)
    return EvalSetup(task, seated.run.topology, task.examples("test"), speak, judge_in_turn(task))


def _processor_seconds() -> float:
    """Of all runs so far, all cores: what a crowded machine does not lengthen much."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def read(folder: Path, seed: int) -> dict[str, Any]:
    """The figures of one run."""
    evaluations = json.loads((folder / "evaluation.json").read_text())
    steps = read_lines(folder / "steps.jsonl")
    file = folder / "seconds.json"
    taken = json.loads(file.read_text()) if file.is_file() else {"wall": None, "processor": None}
    return {
        "seed": seed,
        "steps": len(steps),
        "tokens": sum(step["tokens"] for step in steps),
        "seconds": taken["wall"] and round(taken["wall"]),
        "processor": taken["processor"] and round(taken["processor"]),
        **{when: evaluations[when] for when in WHEN if when in evaluations},
    }


def added(folder: Path) -> dict[str, list[float]]:
    """What RL added to each measure of one run, a number for each held-out example that has it."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in read_lines(folder / "episodes.jsonl"):
        for name, value in {**row["metrics"], RETURN: row.get("return_percent")}.items():
            values.setdefault((row.get("evaluation"), name, row["example"]), []).append(value)
    began = "warm" if any(when == "warm" for when, *_ in values) else "before"
    changes = dict[str, list[float]]()
    for (when, *measure), after in values.items():
        if when == "after" and (before := values.get((began, *measure))):
            changes.setdefault(measure[0], []).append(fmean(after) - fmean(before))
    return changes


def table(recipe: str, rows: list[dict[str, Any]], gains: Sequence[dict[str, list[float]]]) -> str:
    """Markdown: each component and the return, before and after, and what RL added."""
    first = rows[0]["before"]
    stages = [when for when in WHEN if when in rows[0]]
    lines = [f"### {recipe}: {len(rows)} seeds, {first['examples']} held-out examples each", ""]
    lines += [f"| | {' | '.join(stages)} | by RL |", f"|{'---|' * (len(stages) + 2)}"]
    for name in [*(name for name in first["components"] if name != RETURN), RETURN]:
        cells = [_cell([_of(row[when], name) for row in rows]) for when in stages]
        cells.append(interval_of([each[name] for each in gains]) if all(name in each for each in gains) else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    taken = ", ".join(f"{row['seconds']}" for row in rows)
    lines += ["", f"{rows[0]['steps']} steps; {taken} s in all per run, evaluation included."]
    return "\n".join(lines)


def _of(evaluation: dict[str, Any], name: str) -> float:
    value: float = evaluation[name] if name == RETURN else evaluation["components"][name]
    return value


def _cell(values: list[float]) -> str:
    interval: Interval = bootstrap(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


if __name__ == "__main__":
    main()
