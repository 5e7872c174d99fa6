"""What teams of `taboo` learn: right guesses, broken games, and what the clue is worth to the guesser.

    python benchmarks/clues.py --seeds 0 1 2 3 4

For each seed the recipe `taboo` through the command line, once without RL ("taught", `--steps 0`) and once with it;
whatever else is on the command line goes to both. Then every test game is played SAMPLES times with the same sampling
seeds, and the guesser hears something else than was said: nothing, its letters in another order, the next game's clue.
An A/A pair, the same team with other sampling seeds, is the floor of what differs by chance; games with the bans of
training show what is remembered. Intervals resample seeds, and games within.
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
KINDS = ("broken", "own", "shared", "another's", "no clue")
SEEN = "as said, bans of training"
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
            ends = ["--steps", "0"] if name == "taught" else []
            team = load_team(learning.run("taboo", folder, seed, [*settings, *ends]))
            plays.append(plays_of(learning.setup_of(team, team.task)))
            print(f"seed {seed}, {name}: {fmean(values(plays[-1]['as said'], 'return_percent')):.1f} %", flush=True)
    print(table(teams), clues_said(teams), sep="\n\n")


def plays_of(setup: EvalSetup) -> dict[str, Games]:
    """The test games under every condition."""
    said = play_examples(setup, samples=SAMPLES)
    games = {"as said": said, "as said, other draws (A/A)": play_examples(replace(setup, seed=1), samples=SAMPLES)}
    seen = {example.data["kind"]: example for example in setup.task.examples("train")}
    games[SEEN] = play_examples(replace(setup, examples=list(seen.values())), samples=SAMPLES)
    retell = messages.retellings(said[::SAMPLES])
    for name, change in CHANGES.items():
        task = MessageAblation(setup.task, GUESSER, retell[change])
        games[name] = play_examples(replace(setup, task=task, judge=judge_in_turn(task)), samples=SAMPLES)
    return games


def clues_said(teams: dict[str, list[dict[str, Games]]]) -> str:
    """Markdown: what the clues were, in percent of games, and how often the guesser is right by the animal's own."""
    lines = [f"| | games | {' | '.join(KINDS)} | right, of own |", f"|{'---|' * (len(KINDS) + 3)}"]
    for name, seeds in teams.items():
        for which in ("as said", SEEN):
            games = [one for plays in seeds for one in plays[which]]
            count = Counter(map(kind, games))
            right = fmean(one.steps[-1].metrics["return_percent"] for one in games if kind(one) == "own")
            shares = (f"{100 * count[each] / len(games):.1f}" for each in KINDS)
            lines.append(f"| {name} | {which} | {' | '.join(shares)} | {right:.1f} |")
    return "\n".join(lines)


def kind(game: Episode[Any]) -> str:
    """What the clue of a game was: broken, the animal's own, one that it shares, another animal's, or none."""
    word, details = game.start.state.example.data["word"], game.steps[-1].details
    if details["broken"]:
        return "broken"
    said = set(details["clue"].lower().split())
    *own, shared = CLUES[word]
    known = {clue for clues in CLUES.values() for clue in clues}
    found = [said & set(own), said & {shared}, said & known]
    return next((name for name, words in zip(KINDS[1:], found, strict=False) if words), KINDS[-1])


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
            apart = learning.interval_of(_less(right, said)) if len(right[0]) == len(said[0]) else ""
            cells = [*(learning.interval_of(each) for each in (right, broken)), apart]
            lines.append(f"| {name} | {condition} | {' | '.join(cells)} |")
    for which in ("as said", SEEN):
        taught, learned = ([values(one[which], "return_percent") for one in seeds] for seeds in teams.values())
        lines.append(f"\n{which}, after RL less taught: {learning.interval_of(_less(learned, taught))}")
    return "\n".join(lines)


def _less(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(one, other, strict=True)]


if __name__ == "__main__":
    main()
