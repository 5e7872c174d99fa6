"""Quality against speed: what a team learns under different weights of the joint reward, and which of them pay.

    python benchmarks/frontier.py tldr --part speed --weights 0 0.5 1 2 --seeds 0 1 2 --steps 30 --prompts 4
    python benchmarks/frontier.py office --part cost --weights 0 0.08 0.3 --seeds 0 1 2 --task.work writing

Trains the recipe once per weight and seed through the command line, as a user would, then reads each run's held-out
evaluation after training. Prints a table in Markdown and writes it, the rows and a chart to the folder of the runs:

- quality: normalized return in percent, the task's own, whatever the weights are;
- response: tokens until the last word of an episode under decentralized execution, and the same in measured seconds;
- messages and words of an episode.

Means are over seeds, with a 95 % interval that resamples them. A weight is on the frontier if no other weight has at
least its quality in at most its response. A run that exists already is read, not repeated. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from learning import run
from madrigal.config import read_experiment
from madrigal.evaluation.statistics import Interval, bootstrap
from madrigal.rollouts.rewards import frontier, response
from madrigal.rollouts.topology import Topology
from madrigal.runs.log import read_lines
from madrigal.types import Completion, Turn

FIGURES = {
    "quality": "quality, %",
    "response": "response, tokens",
    "seconds": "response, s",
    "messages": "",
    "words": "",
}


@dataclass(frozen=True, slots=True)
class Point:
    """What one weight came to: each figure, mean over seeds with its interval."""

    weight: float
    figures: Mapping[str, Interval]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--part", choices=("speed", "cost"), default="speed", help="the weight that is varied")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.025, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/frontier"))
    options, settings = parser.parse_known_args()
    rows = []
    for weight in options.weights:
        for seed in options.seeds:
            folder = options.runs / f"{options.recipe}-{options.part}{weight:g}-seed{seed}"
            if not (folder / "team").is_dir():
                run(options.recipe, folder, seed, [f"--reward.{options.part}", str(weight), *settings])
            rows.append({"weight": weight, "seed": seed, **read(folder)})
            print(json.dumps(rows[-1]), flush=True)
    points = summed_up(rows)
    text = table(f"{options.recipe}: weight of {options.part}, {len(options.seeds)} seeds", points)
    print(text)
    (options.runs / "frontier.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.runs / "frontier.md").write_text(text + "\n")
    draw(points, options.part, options.runs / "frontier.svg")


def read(folder: Path) -> dict[str, float]:
    """The figures of one run, of its held-out evaluation after training."""
    topology = read_experiment(folder).topology
    after = json.loads((folder / "evaluation.json").read_text())["after"]
    episodes = [line["turns"] for line in read_lines(folder / "episodes.jsonl") if line.get("evaluation") == "after"]
    texts = [[turn["text"] for turn in turns if turn["text"].strip()] for turns in episodes]
    count = len(episodes)
    return {
        "quality": after["return_percent"],
        "response": sum(waited(turns, topology) for turns in episodes) / count,
        "seconds": after["response_seconds"],
        "messages": sum(map(len, texts)) / count,
        "words": sum(len(text.split()) for said in texts for text in said) / count,
    }


def waited(turns: Sequence[Mapping[str, Any]], topology: Topology) -> float:
    """Tokens until the last word of an episode: the longest chain of each round, summed over rounds."""
    said = [(t["round"], Turn(t["agent"], (), Completion(t["text"], token_ids=(0,) * t["tokens"]))) for t in turns]
    rounds = [[turn for _, turn in each] for _, each in groupby(said, key=itemgetter(0))]
    return sum(response(each, topology, lambda turn: float(len(turn.completion.token_ids))) for each in rounds)


def summed_up(rows: Sequence[Mapping[str, float]]) -> list[Point]:
    """One point per weight."""
    found: dict[float, list[Mapping[str, float]]] = defaultdict(list)
    for row in rows:
        found[row["weight"]].append(row)
    return [
        Point(w, {name: bootstrap([row[name] for row in several]) for name in FIGURES}) for w, several in found.items()
    ]


def best(points: Sequence[Point]) -> tuple[int, ...]:
    return frontier([(point.figures["quality"].mean, point.figures["response"].mean) for point in points])


def table(title: str, points: Sequence[Point]) -> str:
    """Markdown: a row per weight; bold weights are on the frontier."""
    lines = [f"### {title}", "", f"| weight | {' | '.join(what or name for name, what in FIGURES.items())} |"]
    lines.append("|---" * (len(FIGURES) + 1) + "|")
    on = best(points)
    for place, point in enumerate(points):
        cells = [f"{i.mean:.3g} [{i.low:.3g}, {i.high:.3g}]" for i in point.figures.values()]
        weight = f"**{point.weight:g}**" if place in on else f"{point.weight:g}"
        lines.append(f"| {weight} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(points: Sequence[Point], part: str, file: Path) -> None:
    """Quality over response, an interval in both, and a line through the frontier."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.0), layout="constrained")
    axes = figure.subplots()
    for point in points:
        x, y = point.figures["response"], point.figures["quality"]
        axes.plot((x.low, x.high), (y.mean, y.mean), color="0.75", linewidth=1.0, zorder=1)
        axes.plot((x.mean, x.mean), (y.low, y.high), color="0.75", linewidth=1.0, zorder=1)
        axes.annotate(f"{point.weight:g}", (x.mean, y.mean), textcoords="offset points", xytext=(5, 5), fontsize=8)
    for places, style in ((range(len(points)), "o"), (best(points), "o-")):
        ends = sorted((points[n].figures["response"].mean, points[n].figures["quality"].mean) for n in places)
        axes.plot(*zip(*ends, strict=True), style, markersize=4.5, zorder=2, color="0.55" if style == "o" else "C0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_xlabel("response, tokens of an episode")
    axes.set_ylabel("quality, % of the best")
    axes.set_title(f"by weight of {part}", fontsize=9)
    FigureCanvasSVG(figure).print_svg(str(file))


if __name__ == "__main__":
    main()
