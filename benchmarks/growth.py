"""How cost grows: tokens per second, memory and overhead of a training step against what a team is made of.

    python benchmarks/growth.py                        all axes, at 1M parameters
    python benchmarks/growth.py --axes agents group    some of them
    python benchmarks/growth.py --draw rows.jsonl      the chart of rows that were printed before

One step (play, credit, update; as in the training loop, agents side by side) on random weights, of the team at the
middle of all axes but one: two agents, G = 8, one turn, a prompt of one post, 64 new tokens, 1M parameters, 2 examples.
Each cell is a process of its own and makes one step to warm up; of `--repeats` others the one counts that took least of
the processor, so that what else the machine does matters less. "Overhead" is the share of the step that is neither
sampling nor judging nor the update: play, credit, threads. Time per token is processor time: on two cores the time by
the clock must grow with the number of agents, that of the processor must not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from madrigal.algorithms.group_relative import GroupRelative
from madrigal.rollouts.play import judge_in_threads
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.log import read_lines
from madrigal.tasks.embedded import posts
from versus import SHAPES, Cell, Madrigal, make_tokenizer

AXES: dict[str, Sequence[Any]] = {
    "agents": (1, 2, 4, 8),
    "group": (2, 4, 8, 16, 32),
    "chains": (1, 2, 4),
    "tree": (1, 2, 3),
    "posts": (1, 2, 4, 8),
    "new_tokens": (16, 32, 64, 128, 256),
    "parameters": ("1M", "10M", "135M"),
    "workers": (0, 1, 2, 4),
}
NAMES = {
    "chains": "turns, chains",
    "tree": "turns, tree of G = 4",
    "posts": "prompt, posts",
    "new_tokens": "new tokens",
}
MIDDLE = Cell("1M", "float32", ("ann0", "ann1"), group=8, new_tokens=64, turns=1, prompts=2, posts=1)


def cell_of(axis: str, value: Any) -> Cell:
    """The team at one place of one axis."""
    if axis == "agents":
        return replace(MIDDLE, agents=tuple(f"ann{n}" for n in range(value)))
    if axis == "tree":
        return replace(MIDDLE, turns=value, group=4)
    if axis == "chains":
        return replace(MIDDLE, turns=value)
    if axis == "parameters" and value == "135M":
        return replace(MIDDLE, parameters=value, dtype="bfloat16")
    return replace(MIDDLE, **{axis: value})


def measure(axis: str, value: Any, repeats: int) -> dict[str, Any]:
    """The row of one cell."""
    cell = cell_of(axis, value)
    texts = [example.data["post"] for example in posts.examples("train")[: cell.prompts * cell.posts]]
    texts = ["\n\n".join(texts[n :: cell.prompts]) for n in range(cell.prompts)]
    tokenizer = make_tokenizer(SHAPES[cell.parameters][2][0])
    side = Madrigal(cell, texts, tokenizer, beside=True)
    side.algorithm = GroupRelative(width=cell.group, tree=axis == "tree", updates="turn", leaf_limit=4096)
    step(side)
    rows = [step(side) for _ in range(repeats)]
    best = min(rows, key=lambda row: row["processor"])
    return {"axis": axis, "value": value, **best, "memory_gb": round(peak(), 3)}


def measure_workers(count: int, steps: int = 7) -> dict[str, Any]:
    """The row of so many rollout workers."""
    cluster = ["--cluster", "local", "--cluster.workers", str(count)] if count else []
    settings = [
        "--steps",
        str(steps),
        "--threads",
        "1",
        "--evaluation.examples",
        "1",
        "--evaluation.timed-examples",
        "0",
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = ["--runs", folder, "--name", "run"]
        command = [sys.executable, "-m", "madrigal", "train", "tldr", *settings, *cluster, *place]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        records = read_lines(Path(folder) / "run/steps.jsonl")[1:]
    tokens, seconds = (float(median(record[name] for record in records)) for name in ("tokens", "seconds"))
    return {"axis": "workers", "value": count, "tokens": round(tokens), "seconds": round(seconds, 4)}


def step(side: Madrigal) -> dict[str, float]:
    """One step, as `Madrigal.run` makes it, taken apart by the clock."""
    spent = {"speak": 0.0, "judge": 0.0}

    def timed(name: str, call: Any) -> Any:
        def wrapped(requests: Sequence[Any]) -> Any:
            began = time.perf_counter()
            result = call(requests)
            spent[name] += time.perf_counter() - began
            return result

        return wrapped

    began, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1) as judges, ThreadPoolExecutor(len(side.policies)) as pool:
        speak = timed("speak", side.team.speaker(side.sampling))
        judge = timed("judge", judge_in_threads(side.task, judges))
        branching = side.algorithm.branching
        groups = rollout_groups(side.task, Parallel(), side.origins, branching, speak, judge, (0, side.runs))
        stages, _ = side.algorithm.credit(groups, side.algorithm.begin())
        shares = [[[s for s in stage if s.turn.agent == p.name] for stage in stages] for p in side.policies]
        updating = time.perf_counter()
        list(pool.map(lambda n: side.learners[n].update(shares[n], side.algorithm.loss), range(len(shares))))
        updated = time.perf_counter()
    seconds, side.runs = time.perf_counter() - began, side.runs + 1
    tokens = sum(len(s.turn.completion.token_ids) for stage in stages for s in stage)
    parts = {**spent, "update": updated - updating}
    return {
        "tokens": tokens,
        "seconds": round(seconds, 4),
        "processor": round(time.process_time() - processor, 4),
        **{name: round(part, 4) for name, part in parts.items()},
        "overhead_percent": round(100 * (1 - sum(parts.values()) / seconds), 2),
    }


def peak() -> float:
    """GB of memory that this process has held at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e9


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| axis | value | tokens | seconds | tokens/s | ms of processor a token | peak GB | overhead % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [NAMES.get(row["axis"], row["axis"]), row["value"], row["tokens"], f"{row['seconds']:.2f}"]
        cells.append(f"{row['tokens'] / row['seconds']:.0f}")
        if "processor" in row:
            each = 1000 * row["processor"] / row["tokens"]
            cells += [f"{each:.3f}", f"{row['memory_gb']:.2f}", f"{row['overhead_percent']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Time per token and memory along every axis."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    axes = [axis for axis in AXES if any(row["axis"] == axis and "processor" in row for row in rows)]
    figure, plots = pyplot.subplots(2, len(axes), figsize=(2.1 * len(axes), 4.2), squeeze=False, sharey="row")
    for column, axis in enumerate(axes):
        along = [row for row in rows if row["axis"] == axis]
        places, names = range(len(along)), [str(row["value"]) for row in along]
        each = [1000 * row["processor"] / row["tokens"] for row in along]
        for plot, values in zip(plots[:, column], (each, [row["memory_gb"] for row in along]), strict=True):
            plot.plot(places, values, marker="o", color="#2a6f97")
            plot.set_xticks(places, names)
            plot.set_yscale("log")
            plot.grid(alpha=0.3)
        plots[0, column].set_title(NAMES.get(axis, axis), fontsize=9)
    plots[0, 0].set_ylabel("ms of processor a token")
    plots[1, 0].set_ylabel("peak memory, GB")
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chart", type=Path, default=Path("growth.svg"))
    parser.add_argument("--draw", type=Path, help="rows to draw, instead of measuring")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        axis, value = options.cell
        number = next(one for one in AXES[axis] if str(one) == value)
        print(json.dumps(measure_workers(number) if axis == "workers" else measure(axis, number, options.repeats)))
        return
    if options.draw:
        rows = [json.loads(line) for line in options.draw.read_text().splitlines() if line.startswith("{")]
    else:
        rows = []
        for axis in options.axes:
            for value in AXES[axis]:
                command = [sys.executable, __file__, "--cell", axis, str(value), "--repeats", str(options.repeats)]
                rows.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
                print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    draw(rows, options.chart)


if __name__ == "__main__":
    main()
