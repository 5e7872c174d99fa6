"""A partner that lies: when is it distrusted, what is kept of the return, and is it heard again when it turns honest.

    python benchmarks/trust.py --seeds 0 1 2

For each seed a team of the recipe `relay` is taught to talk, by a warm start on demonstrations of experts (RL goes on
from there with --steps N, and whatever else is on the command line). All its test questions are played with its holder
heard, heard and lying (every color that it names is another one), and unheard. Of these plays streams of 300 episodes
are drawn: 100 in which the holder is honest, 100 in which it lies in a share of them, 100 in which it is honest again.
The seeker trusts by `evaluation.trust`: what it hears is decided by its running estimate of what the holder's words
were worth.

Delays are in episodes, medians over streams, a dash where more than half of the streams have none; returns are of the
phase of lies, in percent, means over streams; their intervals resample seeds, and streams within.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import learning
from madrigal import load_team
from madrigal.evaluation.ablations import MessageAblation, reworded_actions
from madrigal.evaluation.evaluate import play_examples
from madrigal.evaluation.statistics import hierarchical_bootstrap
from madrigal.evaluation.trust import Trust, first, gates, kept
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.play import Play
from madrigal.rollouts.task import Task
from madrigal.tasks.messages.relay import COLORS, HOLDER, SEEKER, Relay, RelayTask

PHASE, STREAMS, SAMPLES = 100, 200, 2
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TRUST = Trust(estimate=0.25, rate=0.1)
Plays = dict[str, list[float]]  # "honest", "lying", "unheard": the return of every question played so


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/trust"))
    options, settings = parser.parse_known_args()
    quiet_libraries()
    teams = [plays_of(taught(options.runs, seed, settings)) for seed in options.seeds]
    for seed, plays in zip(options.seeds, teams, strict=True):
        print(f"seed {seed}: " + ", ".join(f"{name} {100 * fmean(row):.1f} %" for name, row in plays.items()))
    print(table(teams))


def taught(runs: Path, seed: int, settings: Sequence[str]) -> Path:
    """The folder of a team that has learned to talk; not made anew where there is one."""
    folder = runs / f"seed{seed}"
    if not (folder / "team").is_dir():
        learning.run(
            "relay", folder, seed, ["--steps", "0", "--warm.demonstrations", str(expert_file(runs)), *settings]
        )
    return folder


def expert_file(folder: Path, silent: float = 0.0) -> Path:
    """The file of demonstrations in a folder, written there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "experts.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in experts(silent)))
    return file


def experts(silent: float = 0.0) -> list[dict[str, Any]]:
    """Demonstrations of a seeker that asks for the object, a holder that says its color, and a seeker that says so.

    Args:
        silent: the share of messages that are not said, drawn without a look at the question. Who has not been asked
            replies with any of its colors. The seeker then says the right color where it is shown the facts, else what
            it heard, or any color.
    """
    rows = []
    for example in RelayTask(Relay()).examples("train"):
        facts, rng = example.data["facts"], random.Random(f"{example.id}/{silent}")
        thing, color = example.data["asked"], facts[example.data["asked"]]
        asks, replies = rng.random() >= silent, rng.random() >= silent
        reply = (color if asks else rng.choice(list(facts.values()))) if replies else ""
        answer = color if not example.data["private"] else reply or rng.choice(COLORS)
        said = {SEEKER: [thing if asks else "", "-", answer], HOLDER: ["-", reply, "-"]}
        rows.append({"id": example.id, "answers": said})
    return rows


def plays_of(folder: Path) -> Plays:
    """The return of all test questions under the three conditions, with the same sampling seeds."""
    seated = load_team(folder)

    def returns(task: Task[Any], *, lies: bool = False) -> list[float]:
        change = (lambda moves, _: lying(moves)) if lies else None
        episodes = play_examples(learning.setup_of(seated, task), change, samples=SAMPLES)
        return [sum(step.rewards[SEEKER] for step in episode.steps) for episode in episodes]

    unheard = MessageAblation(seated.task, SEEKER, lambda example, turn, agent: None)
    return {"honest": returns(seated.task), "lying": returns(seated.task, lies=True), "unheard": returns(unheard)}


def lying(moves: Play) -> Play:
    """A play in which every color that the holder names is another one."""
    return reworded_actions(moves, HOLDER, lambda turn, said: turned(said))


def turned(text: str) -> str:
    """The text with the next color in place of each.

    >>> turned("The hat is red.")
    'The hat is blue.'
    """
    following = dict(zip(COLORS, (*COLORS[1:], COLORS[0]), strict=True))
    return re.sub(r"[A-Za-z]+", lambda word: following.get(word[0].lower(), word[0]), text)


def table(teams: Sequence[Plays]) -> str:
    """Markdown: a row for each share of lies."""
    head = ["lies", "distrusted before any lie %", "distrusted after", "heard again after"]
    head += ["return with trust", "always heard", "never heard"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for share in SHARES:
        found = [[stream(plays, share, random.Random(f"{share}/{n}")) for n in range(STREAMS)] for plays in teams]
        rows = [row for seed in found for row in seed]
        cells = [f"{100 * fmean(row['early'] for row in rows):.0f}"]
        cells += [delay([row[key] for row in rows]) for key in ("distrusted", "again")]
        for key in ("kept", "always", "never"):
            mean = hierarchical_bootstrap([[100 * row[key] for row in seed] for seed in found])
            cells.append(f"{mean.mean:.1f} [{mean.low:.1f}, {mean.high:.1f}]")
        lines.append(f"| {100 * share:.0f} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def stream(plays: Plays, share: float, rng: random.Random) -> dict[str, Any]:
    """One stream of three phases: its delays and the returns of its middle."""
    places = [rng.randrange(len(plays["honest"])) for _ in range(3 * PHASE)]
    lies = [PHASE <= n < 2 * PHASE and rng.random() < share for n in range(3 * PHASE)]
    heard = [plays["lying" if lie else "honest"][place] for place, lie in zip(places, lies, strict=True)]
    unheard = [plays["unheard"][place] for place in places]
    gate, middle = gates(TRUST, heard, unheard), slice(PHASE, 2 * PHASE)
    return {
        "early": not all(gate[:PHASE]),
        "distrusted": first(gate[middle], 0, open=False),
        "again": first(gate, 2 * PHASE, open=True),
        "kept": kept(gate[middle], heard[middle], unheard[middle]),
        "always": fmean(heard[middle]),
        "never": fmean(unheard[middle]),
    }


def delay(found: Sequence[int | None]) -> str:
    """The median of delays, a dash where it is of those that never came.

    >>> delay([3, None, 5]), delay([3, None, None])
    ('5', '-')
    """
    middle = median(float("inf") if one is None else one for one in found)
    return "-" if middle == float("inf") else f"{middle:.0f}"


if __name__ == "__main__":
    main()
