"""What teams of `taboo` learn: right guesses, broken games, and what the clue is worth to the guesser.

    python benchmarks/clues.py --seeds 0 1 2 3 4

For each seed the recipe `taboo` through the command line, once without RL ("taught", `--steps 0`) and once with it;
whatever else is on the command line goes to both. Then every test game is played SAMPLES times with the same sampling
seeds, and the guesser hears something else than was said: nothing, its letters in another order, the next game's clue.
An A/A pair, the same team with other sampling seeds, is the floor of what differs by chance. Intervals resample seeds,
and games within.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
import messages
from madrigal import load_team
from madrigal.evaluation.ablations import MessageAblation
from madrigal.evaluation.evaluate import EvalSetup, play_examples
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.play import judge_in_turn
from madrigal.tasks.messages.taboo import CLUES, GUESSER
from madrigal.types import Episode

SAMPLES = 8
CHANGES = {"nothing": "removed", "letters scrambled": "scrambled", "the next game's": "swapped"}
Games = list[Episode[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/clues"))
    options, settings = parser.parse_known_args()
    quiet_libraries()
    teams: dict[str, list[dict[str, Games]]] = {"taught": [], "after RL": []}
    for seed in options.seeds:
        for name, plays in teams.items():
            folder = options.runs / f"{name.replace(' ', '-')}{seed}"
            if not (folder / "team").is_dir():
                learning.run("taboo", folder, seed, [*settings, *(["--steps", "0"] if name == "taught" else [])])
            team = load_team(folder)
            plays.append(plays_of(learning.setup_of(team, team.task)))
            found = kinds(plays[-1]["as said"])
            print(
                f"seed {seed}, {name}: {', '.join(f'{kind} {share:.0f}' for kind, share in found.items())}", flush=True
            )
    print(table(teams))


def plays_of(setup: EvalSetup) -> dict[str, Games]:
    """The test games under every condition."""
    said = play_examples(setup, samples=SAMPLES)
    games = {"as said": said, "as said, other draws (A/A)": play_examples(replace(setup, seed=1), samples=SAMPLES)}
    retell = messages.retellings(said[::SAMPLES])
    for name, change in CHANGES.items():
        task = MessageAblation(setup.task, GUESSER, retell[change])
        games[name] = play_examples(replace(setup, task=task, judge=judge_in_turn(task)), samples=SAMPLES)
    return games


def kinds(games: Games) -> dict[str, float]:
    """Percent of games by what the clue was: broken, the animal's own, shared with others, of another animal, none."""
    count = Counter(kind(one.start.state.example.data["word"], one.steps[-1].details) for one in games)
    return {name: 100 * count[name] / len(games) for name in ("broken", "own", "shared", "another's", "no clue")}


def kind(word: str, details: Any) -> str:
    """What kind of clue the last step of a game tells of."""
    if details["broken"]:
        return "broken"
    said = details["clue"].lower().split()
    for name, clues in (("own", CLUES[word][:-1]), ("shared", CLUES[word][-1:])):
        if set(clues) & set(said):
            return name
    return "another's" if any(set(clues) & set(said) for clues in CLUES.values()) else "no clue"


def values(games: Games, metric: str) -> list[float]:
    """Of each game the mean of its samples, in percent."""
    each = [one.steps[-1].metrics[metric] for one in games]
    return [fmean(each[n : n + SAMPLES]) for n in range(0, len(each), SAMPLES)]


def table(teams: dict[str, list[dict[str, Games]]]) -> str:
    """Markdown: a row for each condition before and after RL."""
    lines = ["| | the guesser hears | right % | broken % | right, less as said |", "|---|---|---|---|---|"]
    for name, seeds in teams.items():
        said = [values(one["as said"], "return_percent") for one in seeds]
        for condition in seeds[0]:
            right, broken = ([values(one[condition], which) for one in seeds] for which in ("return_percent", "broken"))
            cells = [learning.interval_of(each) for each in (right, broken, _less(right, said))]
            lines.append(f"| {name} | {condition} | {' | '.join(cells)} |")
    taught, learned = ([values(one["as said"], "return_percent") for one in seeds] for seeds in teams.values())
    lines.append(f"\nafter RL less taught: {learning.interval_of(_less(learned, taught))}")
    return "\n".join(lines)


def _less(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(one, other, strict=True)]


if __name__ == "__main__":
    main()
