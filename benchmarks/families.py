"""Transfer across architectures: what a seat is worth that another family of models takes, in `tldr`.

    python benchmarks/families.py --models FOLDER --families qwen3 llama gpt2 mistral --seeds 0 1 2

FOLDER holds a model of each family, as `tools/pretraining --family NAME --domains tldr` makes them: one width and
depth, one tokenizer, one corpus. The first family is at home; every other one is a stranger:

    zero-shot     both seats as they come, one of each family
    trained apart a seat of a team of one family in a team of another, both trained at home
    taken         one seat of a trained team of the first family is taken by an untrained stranger: at once, after
                  `--further` steps in which it alone learns, and distilled instead, fine-tuned on what the seat's
                  owner answered to training posts
    together      trained from the start with a family in each seat

Returns on held-out posts, intervals over seeds and posts. The owner's own kind, untrained, takes the seat as well (what
a stranger costs beside it is the family's), and teams of one family that differ in their seed exchange a seat (the A/A
floor). Runs that exist already are read, not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import learning
from madrigal import load_team
from madrigal.config import Experiment
from madrigal.evaluation.ablations import by_agent
from madrigal.evaluation.evaluate import normalized_returns, play_examples
from madrigal.policies.quiet import quiet_libraries
from madrigal.recipes import recipe
from madrigal.settings import EvaluationConfig, PolicyConfig, RecordsConfig, WarmConfig
from madrigal.training.trained_team import TrainedTeam
from madrigal.types import AgentId

TAKEN, KEPT = "concise", "detailed"
WIDTH = 4  # joint answers to a post, a quarter of the recipe's: an hour for all runs instead of four
LONGEST = 100  # tokens of an answer that is taught, of 112 that may be said: what was cut off teaches never to end
SHOWN = 160  # training posts whose answers a stranger is taught
Returns = list[list[float]]  # of each seed, of each post


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--families", nargs="+", default=["qwen3", "llama", "gpt2", "mistral"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--further", type=int, default=20, help="steps of a stranger in a trained team")
    parser.add_argument("--examples", type=int, default=60, help="held-out posts")
    parser.add_argument("--runs", type=Path, default=Path("runs/families"))
    options = parser.parse_args()
    quiet_libraries()
    study = Study(options)
    for part in (study.zero_shot, study.apart, study.taken, study.together):
        print(part(), end="\n\n", flush=True)


class Study:
    """The runs of the study in one folder, made when they are asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.families: list[str] = options.families
        self.home = self.families[0]
        self.seeds: list[int] = options.seeds
        self.models, self.runs = options.models, options.runs
        self.steps, self.further, self.examples = options.steps, options.further, options.examples

    def zero_shot(self) -> str:
        """Markdown: returns of untrained pairs."""
        teams = {family: self.loaded(self.at_home(family, 0, steps=0)) for family in self.families}
        return matrix("untrained", self.families, lambda one, other: [self.pair(teams[one], teams[other])])

    def apart(self) -> str:
        """Markdown: returns of pairs that were trained at home, and of pairs of one family but not of one seed."""

        def returns(one: str, other: str, shift: int = 0) -> Returns:
            places = range(len(self.seeds))
            seeds = [(self.seeds[n], self.seeds[(n + shift) % len(self.seeds)]) for n in places]
            return [self.pair(self.team_of(one, a), self.team_of(other, b)) for a, b in seeds]

        lines = [matrix("trained apart", self.families, returns), ""]
        for family in self.families:
            floor = returns(family, family, shift=1)
            lines.append(
                f"- {family} with the {KEPT} agent of another seed: {learning.interval_of(floor)}, "
                f"{learning.interval_of(loss(returns(family, family), floor))} less than with its own"
            )
        return "\n".join(lines)

    def taken(self) -> str:
        """Markdown: a trained team whose one seat a stranger takes."""
        lines = [
            f"| {TAKEN} seat of {self.home} teams | at once | after {self.further} steps | distilled |",
            "|---|---|---|---|",
        ]
        for family in self.families:
            raw = self.loaded(self.at_home(family, 0, steps=0))
            cells = [
                learning.interval_of([self.pair(raw, self.team_of(self.home, seed)) for seed in self.seeds]),
                learning.interval_of(
                    [self.alone(self.taker(family, seed, self.further, WarmConfig())) for seed in self.seeds]
                ),
                learning.interval_of(
                    [self.alone(self.taker(family, seed, 0, self.taught(seed))) for seed in self.seeds]
                ),
            ]
            lines.append(f"| {family}, untrained | {' | '.join(cells)} |")
        own = learning.interval_of([self.alone(self.at_home(self.home, seed, self.steps)) for seed in self.seeds])
        return "\n".join([*lines, f"| its owner | {own} | | |"])

    def together(self) -> str:
        """Markdown: teams trained from the start, of one family and of two."""
        lines = [f"| {TAKEN}, {KEPT} | before | after |", "|---|---|---|"]
        raw = {family: self.loaded(self.at_home(family, 0, steps=0)) for family in self.families}
        pairs = [(one, one) for one in self.families] + [(one, self.home) for one in self.families[1:]]
        for one, other in pairs:
            seats = {TAKEN: self.model(one), KEPT: self.model(other)}
            name = one if one == other else f"{one}-{other}"
            made = [self.alone(self.trained(f"{name}-{self.steps}-seed{n}", seats, n, self.steps)) for n in self.seeds]
            before, after = learning.interval_of([self.pair(raw[one], raw[other])]), learning.interval_of(made)
            lines.append(f"| {one}, {other} | {before} | {after} |")
        return "\n".join(lines)

    def at_home(self, family: str, seed: int, steps: int) -> Path:
        """The run of a team of one family."""
        seats = dict.fromkeys((TAKEN, KEPT), self.model(family))
        return self.trained(f"{family}-{steps}-seed{seed}", seats, seed, steps)

    def taker(self, family: str, seed: int, steps: int, warm: WarmConfig) -> Path:
        """The run in which a stranger takes a seat of a trained team, and alone learns."""
        owner = self.at_home(self.home, seed, self.steps) / "team" / KEPT
        seats = {TAKEN: self.model(family), KEPT: PolicyConfig(model=str(owner), trainable=False)}
        how = "taught" if warm.wanted else f"{steps}"
        return self.trained(f"taken-{family}-{how}-seed{seed}", seats, seed, steps, warm)

    def taught(self, seed: int) -> WarmConfig:
        """A warm start on what a trained team answers to training posts."""
        file = self.runs / f"answers-seed{seed}.jsonl"
        if not file.is_file():
            team = self.team_of(self.home, seed)
            setup = replace(self.setup(team), examples=team.task.examples("train")[:SHOWN])
            rows = [
                {"id": example.id, "answers": {turn.agent: turn.completion.text for turn in played.turns}}
                for example, played in zip(setup.examples, play_examples(setup), strict=True)
                if all(0 < len(turn.completion.token_ids) <= LONGEST for turn in played.turns)
            ]
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return WarmConfig(demonstrations=str(file.resolve()))

    def model(self, family: str) -> PolicyConfig:
        return PolicyConfig(model=str((self.models / family).resolve()))

    def trained(
        self, name: str, seats: Mapping[AgentId, PolicyConfig], seed: int, steps: int, warm: WarmConfig | None = None
    ) -> Path:
        """The folder of a run, made where it is not there."""
        return learning.made(self.experiment(seats, seed, steps, warm or WarmConfig()), self.runs / name)

    def experiment(self, seats: Mapping[AgentId, PolicyConfig], seed: int, steps: int, warm: WarmConfig) -> Experiment:
        base = recipe("tldr")
        return replace(
            base,
            algorithm=replace(base.algorithm, width=WIDTH),
            team=replace(base.team, policy=seats[KEPT], seats=dict(seats)),
            evaluation=EvaluationConfig(examples=2, timed_examples=0),
            records=RecordsConfig(checkpoint_every=steps or 1, transcripts=2),
            warm=warm,
            steps=steps,
            seed=seed,
        )

    def alone(self, folder: Path) -> list[float]:
        """The return of each held-out post where a trained team plays by itself."""
        team = self.loaded(folder)
        return self.pair(team, team)

    def team_of(self, family: str, seed: int) -> TrainedTeam:
        return self.loaded(self.at_home(family, seed, self.steps))

    @staticmethod
    @cache
    def loaded(folder: Path) -> TrainedTeam:
        return load_team(folder)

    def setup(self, team: TrainedTeam) -> Any:
        """The held-out posts as a team plays them."""
        setup = learning.setup_of(team, team.task)
        return replace(setup, examples=setup.examples[: self.examples])

    def pair(self, one: TrainedTeam, other: TrainedTeam) -> list[float]:
        """The return of each held-out post where one team's concise agent plays with another's detailed one."""
        setup = self.setup(one)
        speakers = {seat: team.team.speaker(team.run.sampling) for seat, team in ((TAKEN, one), (KEPT, other))}
        return normalized_returns(setup.task, play_examples(replace(setup, speak=by_agent(speakers))))


def matrix(title: str, families: Sequence[str], returns: Callable[[str, str], Returns]) -> str:
    """Markdown: a row for the family of the seat that is taken, a column for that of the other one."""
    lines = [
        f"| {title}: {TAKEN} | {' | '.join(f'{KEPT} {one}' for one in families)} |",
        f"|{'---|' * (len(families) + 1)}",
    ]
    for one in families:
        lines.append(f"| {one} | {' | '.join(learning.interval_of(returns(one, other)) for other in families)} |")
    return "\n".join(lines)


def loss(own: Returns, strange: Returns) -> Returns:
    """What is lost with a stranger, post by post."""
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(own, strange, strict=True)]


if __name__ == "__main__":
    main()
