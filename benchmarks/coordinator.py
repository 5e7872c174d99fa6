"""Does a coordinator learn whom to ask? Its regret and calls per example, against who knows and who does not.

    python benchmarks/coordinator.py --seeds 0 1 2

For each seed two runs of the recipe `consult` through the command line: a warm start alone, which makes the
specialists, and RL from there in which only the coordinator learns; whatever else is on the command line goes to the
second. Then all play the same test questions with the same specialists and sampling seeds, and differ in who is called:

    untrained    the coordinator of the warm start, which has seen calls by chance
    trained      the coordinator after RL
    random       one specialist by chance, then done
    round-robin  one specialist, the next one with every question, then done
    everyone     all of them in turn, as many as there are rounds
    oracle       the specialist of the question's subject, then done

Regret is the oracle's return minus one's own, paired by question; its interval resamples seeds, and questions within.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import learning
from madrigal import load_team
from madrigal.evaluation.evaluate import play_examples
from madrigal.evaluation.statistics import hierarchical_bootstrap
from madrigal.policies.quiet import quiet_libraries
from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.rollouts.seeds import derive
from madrigal.tasks.consulting.task import COORDINATOR, DONE, SPECIALISTS
from madrigal.types import Completion, Episode, Example

Choice = Callable[[Example, int, int], str]  # whom to call: the example, its place among all, the round
NAMES = tuple(SPECIALISTS)
EXPERTS = {subject: name for name, subject in SPECIALISTS.items()}
CHOICES: dict[str, Choice] = {
    "random": lambda example, place, turn: DONE if turn else random.Random(derive("random", example.id)).choice(NAMES),
    "round-robin": lambda example, place, turn: DONE if turn else NAMES[place % len(NAMES)],
    "everyone": lambda example, place, turn: NAMES[turn % len(NAMES)],
    "oracle": lambda example, place, turn: DONE if turn else EXPERTS[example.data["subject"]],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/coordinator"))
    options, settings = parser.parse_known_args()
    quiet_libraries()
    played = [play_all(*trained(options.runs, seed, settings)) for seed in options.seeds]
    print(table(played))


def trained(runs: Path, seed: int, settings: Sequence[str]) -> tuple[Path, Path]:
    """The folders of a warm start and of the coordinator's training from there; those that exist are not made anew."""
    warm, folder = runs / f"warm-seed{seed}", runs / f"trained-seed{seed}"
    frozen = [flag for name in NAMES for flag in (f"--team.seats.{name}.trainable", "false")]
    start = ["--team.start", str(warm / "team"), "--warm.demonstrations", "", *frozen]
    for place, more in ((warm, ["--steps", "0"]), (folder, [*start, *settings])):
        learning.run("consult", place, seed, ["--evaluation.timed-examples", "0", *more])
    return warm, folder


def play_all(warm: Path, folder: Path) -> dict[str, list[Episode[Any]]]:
    """The test questions as every contender plays them."""
    return {
        "untrained": played(warm),
        "trained": played(folder),
        **{name: played(warm, choice) for name, choice in CHOICES.items()},
    }


def played(folder: Path, choice: Choice | None = None) -> list[Episode[Any]]:
    """The test questions as the team of a run plays them; with a choice in place of what its coordinator says."""
    seated = load_team(folder)
    setup = learning.setup_of(seated, seated.task)
    if choice:
        setup = replace(setup, speak=calling(setup.speak, choice, setup.examples))
    return play_examples(setup)


def calling(speak: Generate, choice: Choice, examples: Sequence[Example]) -> Generate:
    """A speaker in which the coordinator's words are a choice's."""
    places = {example.data["question"]: n for n, example in enumerate(examples)}

    def call(request: GenerationRequest) -> Completion:
        place = places[request.prompt[-1].content.partition("\n")[0]]
        return Completion(choice(examples[place], place, request.round))

    def answer(requests: Sequence[GenerationRequest]) -> list[Completion]:
        spoken = iter(speak([request for request in requests if request.agent != COORDINATOR]))
        return [call(request) if request.agent == COORDINATOR else next(spoken) for request in requests]

    return answer


def table(played: Sequence[dict[str, list[Episode[Any]]]]) -> str:
    """Markdown: a row for each contender."""
    lines = ["| who calls | right % | expert called % | calls | return % | regret |", "|---|---|---|---|---|---|"]
    for name in played[0]:
        right, expert, calls = (fmean(fmean(metric(seed[name], key)) for seed in played) for key in MEASURES)
        returns = [metric(seed[name], "return_percent") for seed in played]
        best = [metric(seed["oracle"], "return_percent") for seed in played]
        lost = [[b - own for b, own in zip(*pair, strict=True)] for pair in zip(best, returns, strict=True)]
        regret = hierarchical_bootstrap(lost)
        cells = f"{right:.0f} | {expert:.0f} | {calls:.2f} | {fmean(map(fmean, returns)):.1f}"
        lines.append(f"| {name} | {cells} | {regret.mean:.1f} [{regret.low:.1f}, {regret.high:.1f}] |")
    return "\n".join(lines)


MEASURES = ("right", "expert", "calls")


def metric(episodes: Sequence[Episode[Any]], name: str) -> list[float]:
    """Of each question, as the task counts it in the end."""
    return [episode.steps[-1].metrics[name] for episode in episodes]


if __name__ == "__main__":
    main()
