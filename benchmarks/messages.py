"""Do teams of `relay` talk, or have they a convention? What is lost without messages, with others, and with strangers.

    python benchmarks/messages.py --seeds 0 1 2 3 4

For each seed a run of the recipe `relay` through the command line; whatever else is on the command line goes to it
(`--taught` begins with demonstrations of experts instead of novices, who are silent in a share `--silent` of their
messages; `--steps 0` ends there, and `--begin RUNS` goes on from the teams of the same seeds there). Then all test
questions are played with the same sampling seeds, and one agent hears something else than was said:

    as said      nothing is changed
    removed      it hears nothing
    scrambled    the letters of every message in another order
    swapped      what was said on the next question
    delayed      what was said a round earlier

A team talks where a change costs more on private questions, whose facts only the holder knows, than on shared ones:
the last column, with an interval that resamples seeds, and questions within. Two teams are compared as an A/A floor:
the same team, other sampling seeds. Bits per message: what the seeker's answer tells of the right color on private
questions, in bits, with messages less without them; what chance would tell (answers dealt out anew) is taken off.
Cross-play: the seeker of one seed with the holder of another. Silence: how often a message has no words, by who speaks
and whether the question is private.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
import trust
from madrigal import load_team
from madrigal.evaluation.ablations import MessageAblation, Retell
from madrigal.evaluation.cooperation import cross_play
from madrigal.evaluation.evaluate import EvalSetup, play_examples
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.play import judge_in_turn
from madrigal.tasks.messages.relay import HOLDER, SEEKER, colors_in
from madrigal.types import AgentId, Episode

SAMPLES, DEALS = 2, 50
CHANGES = ("removed", "scrambled", "swapped", "delayed")
Said = dict[tuple[str, int, AgentId], str]  # example, round, agent
Plays = dict[str, list[Episode[Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/messages"))
    parser.add_argument("--taught", action="store_true", help="begin with demonstrations of experts")
    parser.add_argument("--silent", type=float, default=0.0, help="share of the experts' messages that are not said")
    parser.add_argument("--begin", type=Path, help="go on from the teams of these runs, without a warm start")
    parser.add_argument("--questions", type=int, default=96, help="of the test split, the first so many")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    options, settings = parser.parse_known_args()
    quiet_libraries()
    if options.taught:
        settings = ["--warm.demonstrations", str(trust.expert_file(options.runs, options.silent)), *settings]
    setups = {}
    for seed in options.seeds:
        before = [f"--from={options.begin}/seed{seed}", "--warm.demonstrations="] if options.begin else []
        team = load_team(learning.run("relay", options.runs / f"seed{seed}", seed, [*before, *settings]))
        setup = learning.setup_of(team, team.task)
        setups[str(seed)] = replace(setup, examples=setup.examples[: options.questions])
    report(setups, options.changes)


def report(setups: Mapping[str, EvalSetup], changes: Collection[str]) -> None:
    """Prints what is measured of teams, by seed."""
    teams = [plays_of(setup, changes) for setup in setups.values()]
    print(table(teams), silence([team["as said"] for team in teams]), sep="\n\n")
    if len(teams) > 1:
        print(crossed(setups), flush=True)


def plays_of(setup: EvalSetup, chosen: Collection[str]) -> Plays:
    """The test questions under every condition; changes are named by who hears them."""
    said = play_examples(setup, samples=SAMPLES)
    changes = {"as said": said, "as said, again": play_examples(replace(setup, seed=1), samples=SAMPLES)}
    for listener in (SEEKER, HOLDER):
        for name, retell in retellings(said[::SAMPLES]).items():
            if name in chosen:
                task = MessageAblation(setup.task, listener, retell)
                changed = replace(setup, task=task, judge=judge_in_turn(task))
                changes[f"{listener}: {name}"] = play_examples(changed, samples=SAMPLES)
    return changes


def retellings(episodes: Sequence[Episode[Any]]) -> dict[str, Retell]:
    """What a listener is told instead of what was said in these episodes, by the name of the change."""
    said: Said = {}
    for episode in episodes:
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


def silence(teams: Sequence[Sequence[Episode[Any]]]) -> str:
    """Markdown: percent of messages without words."""
    lines = ["| silent % | private | shared | private less shared |", "|---|---|---|---|"]
    for message in ("question", "reply"):
        rows = [[silences(team, message, private) for team in teams] for private in (True, False)]
        apart = [[x - fmean(shared) for x in private] for private, shared in zip(*rows, strict=True)]
        lines.append(f"| {message} | {' | '.join(learning.interval_of(each) for each in (*rows, apart))} |")
    return "\n".join(lines)


def silences(episodes: Sequence[Episode[Any]], message: str, private: bool) -> list[float]:
    """100 for each silent message of its kind, 0 for each other."""
    ends = [one.steps[-1].details for one in episodes]
    return [100.0 * (not end[message]) for end in ends if end["private"] == private]


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


def crossed(setups: Mapping[str, EvalSetup]) -> str:
    """Markdown: the returns of each seeker with each holder."""
    found = cross_play(next(iter(setups.values())), {name: setup.speak for name, setup in setups.items()}, SEEKER)
    names = " | ".join(f"holder of {name}" for name in setups)
    head = ["", f"| seeker of | {names} |", f"|{'---|' * (len(setups) + 1)}"]
    rows = [
        f"| {name} | {' | '.join(f'{value:.1f}' for value in row)} |"
        for name, row in zip(found.teams, found.returns, strict=True)
    ]
    gap = found.gap
    last = f"own {found.own:.1f}, crossed {found.crossed:.1f}, gap {gap.mean:.1f} [{gap.low:.1f}, {gap.high:.1f}]"
    return "\n".join([*head, *rows, "", last])


if __name__ == "__main__":
    main()
