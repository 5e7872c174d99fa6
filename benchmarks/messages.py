"""Do teams of `relay` talk, or have they a convention? What is lost without messages, with others, and with strangers.

    python benchmarks/messages.py --seeds 0 1 2 3 4

For each seed a run of the recipe `relay` through the command line; whatever else is on the command line goes to it
(`--taught` begins with demonstrations of experts instead of novices, `--steps 0` ends there). Then all test questions
are played with the same sampling seeds, and one agent hears something else than was said:

    as said      nothing is changed
    removed      it hears nothing
    scrambled    the letters of every message in another order
    swapped      what was said on the next question
    delayed      what was said a round earlier

A team talks where a change costs more on private questions, whose facts only the holder knows, than on shared ones:
the last column, with an interval that resamples seeds, and questions within. Two teams are compared as an A/A floor:
the same team, other sampling seeds. Bits per message: what the seeker's answer tells of the right color on private
questions, in bits, with messages less without them; what chance would tell (answers dealt out anew) is taken off.
Cross-play: the seeker of one seed with the holder of another.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
import trust
from madrigal import load_team
from madrigal.evaluation.ablations import MessageAblation, Retell
from madrigal.evaluation.cooperation import cross_play
from madrigal.evaluation.evaluate import play_examples
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.task import Task
from madrigal.tasks.messages.relay import HOLDER, SEEKER, colors_in
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import AgentId, Episode

SAMPLES, DEALS = 2, 50
Said = dict[tuple[str, int, AgentId], str]  # example, round, agent
Plays = dict[str, list[Episode[Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/messages"))
    parser.add_argument("--taught", action="store_true", help="begin with demonstrations of experts")
    options, settings = parser.parse_known_args()
    quiet_libraries()
    if options.taught:
        settings = ["--warm.demonstrations", str(trust.expert_file(options.runs)), *settings]
    teams = {seed: trained(options.runs / f"seed{seed}", seed, settings) for seed in options.seeds}
    print(table([plays_of(team) for team in teams.values()]))
    if len(teams) > 1:
        print(crossed({str(seed): team for seed, team in teams.items()}))


def trained(folder: Path, seed: int, settings: list[str]) -> TrainedTeam:
    if not (folder / "team").is_dir():
        learning.run("relay", folder, seed, settings)
    return load_team(folder)


def plays_of(seated: TrainedTeam) -> Plays:
    """The test questions under every condition; changes are named by who hears them."""
    task = seated.task
    said = played(seated, task)
    changes = {"as said": said, "as said, again": played(seated, task, seed=1)}
    for listener in (SEEKER, HOLDER):
        for name, retell in retellings(said).items():
            changes[f"{listener}: {name}"] = played(seated, MessageAblation(task, listener, retell))
    return changes


def played(seated: TrainedTeam, task: Task[Any], seed: int = 0) -> list[Episode[Any]]:
    return play_examples(replace(learning.setup_of(seated, task), seed=seed), samples=SAMPLES)


def retellings(episodes: Sequence[Episode[Any]]) -> dict[str, Retell]:
    """What a listener is told instead of what was said, by the name of the change; messages are of the first sample."""
    said: Said = {}
    for episode in episodes[::SAMPLES]:
        said |= {(episode.start.example, turn.round, turn.agent): turn.completion.text for turn in episode.turns}
    names = list(dict.fromkeys(example for example, _, _ in said))
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return {
        "removed": lambda example, turn, agent: None,
        "scrambled": lambda example, turn, agent: scrambled(said.get((example, turn, agent)), f"{example}/{turn}"),
        "swapped": lambda example, turn, agent: said.get((following[example], turn, agent)),
        "delayed": lambda example, turn, agent: said.get((example, turn - 1, agent)),
    }


def scrambled(text: str | None, key: str) -> str | None:
    """The same letters in another order.

    >>> sorted(scrambled("hat", "x") or "")
    ['a', 'h', 't']
    """
    return text and "".join(random.Random(key).sample(text, len(text)))


def table(teams: Sequence[Plays]) -> str:
    """Markdown: a row for each condition."""
    lines = [
        "| heard | right, private | right, shared | loss, private | loss, shared | private less shared | bits |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in teams[0]:
        cells = [f"{fmean(fmean(rights(team[name], private)) for team in teams):.1f}" for private in (True, False)]
        losses = [[_losses(team, name, private) for team in teams] for private in (True, False)]
        cells += [learning.interval_of(loss) for loss in losses]
        # Private and shared questions are others: what is compared is their mean, question by question resampled.
        apart = [[x - fmean(shared) for x in private] for private, shared in zip(*losses, strict=True)]
        cells += [learning.interval_of(apart), f"{fmean(bits(told(team[name])) for team in teams):.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rights(episodes: Sequence[Episode[Any]], private: bool) -> list[float]:
    """Of each question of its kind, the share of samples that answer it, in percent."""
    return [
        fmean(one.steps[-1].metrics["return_percent"] for one in episodes[n : n + SAMPLES])
        for n in range(0, len(episodes), SAMPLES)
        if episodes[n].steps[-1].details["private"] == private
    ]


def _losses(team: Plays, name: str, private: bool) -> list[float]:
    return [a - b for a, b in zip(rights(team["as said"], private), rights(team[name], private), strict=True)]


def told(episodes: Sequence[Episode[Any]]) -> list[tuple[str, str]]:
    """Of every private question the right color and what the seeker answered."""
    return [
        (one.steps[-1].details["right"], " ".join(sorted(colors_in(one.turns[-1].completion.text))))
        for one in episodes
        if one.steps[-1].details["private"]
    ]


def bits(pairs: Sequence[tuple[Hashable, Hashable]]) -> float:
    """The mutual information of two columns in bits, less what is found where one of them is dealt out anew.

    >>> bits([(0, 0), (1, 1)] * 200) > 0.98, abs(bits([(0, 0), (0, 1), (1, 0), (1, 1)] * 100)) < 0.02
    (True, True)
    """
    rng, (one, other) = random.Random(0), zip(*pairs, strict=True)
    dealt = [_information(list(zip(one, rng.sample(other, len(other)), strict=True))) for _ in range(DEALS)]
    return _information(pairs) - fmean(dealt)


def _information(pairs: Sequence[tuple[Hashable, Hashable]]) -> float:
    count: Callable[..., Counter[Any]] = Counter
    both, one, other = count(pairs), count(a for a, _ in pairs), count(b for _, b in pairs)
    total = len(pairs)
    return sum(n / total * math.log2(n * total / (one[a] * other[b])) for (a, b), n in both.items())


def crossed(teams: dict[str, TrainedTeam]) -> str:
    """Markdown: the returns of each seeker with each holder."""
    first = next(iter(teams.values()))
    speakers = {name: team.team.speaker(team.run.sampling) for name, team in teams.items()}
    found = cross_play(learning.setup_of(first, first.task), speakers, SEEKER)
    head = ["", f"| seeker of | {' | '.join(f'holder of {name}' for name in teams)} |", f"|{'---|' * (len(teams) + 1)}"]
    rows = [
        f"| {name} | {' | '.join(f'{value:.1f}' for value in row)} |"
        for name, row in zip(found.teams, found.returns, strict=True)
    ]
    gap = found.gap
    last = f"own {found.own:.1f}, crossed {found.crossed:.1f}, gap {gap.mean:.1f} [{gap.low:.1f}, {gap.high:.1f}]"
    return "\n".join([*head, *rows, "", last])


if __name__ == "__main__":
    main()
