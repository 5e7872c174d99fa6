"""Planted faults: what the alarms notice of a lazy agent, a reward hole, wrong labels and stale weights, and how soon.

    python benchmarks/planted.py --faults silent copy hole labels stale --algorithms magrpo rloo --seeds 0 1 2

Real runs of the starter team on `tldr`, small ones: 50 steps of 4 posts and 4 episodes each, paid for faithfulness to
the post too, so that labels matter. From `--at` on one thing is wrong, between the team and its training; the steps
before it are made once for all faults, which go on from their checkpoint:

    silent   the second agent says nothing
    copy     the second agent says what the first one says
    hole     a joint action earns at least twice the best reward, less 1/60 of that for every word of the mean answer
    labels   half of the posts are judged as if another one had been asked
    stale    the second agent answers with the weights that it had then, and says that they are new
    none     nothing is wrong: false alarms

Evaluations are not touched. After every step the alarms of `evaluation/alarms.py` are raised as a reader of the report
would see them then, and the learner's own proof that samples are fresh ends a run by itself. Detected is what has an
alarm of a name that the run did not raise before; the delay is in steps since the fault. Alarms before it, and those of
clean runs, are false. What exists already is read, not repeated. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch

from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.config import Experiment
from madrigal.evaluation.alarms import alarms
from madrigal.policies.local import LocalPolicy
from madrigal.policies.team import Team
from madrigal.recipes.embedded import tldr
from madrigal.rollouts.play import Generate, GenerationRequest, Judge, StepRequest
from madrigal.rollouts.seeds import derive
from madrigal.runs.log import read_lines
from madrigal.settings import EvaluationConfig, RecordsConfig
from madrigal.tasks.writing.task import ContentWeights, Tldr
from madrigal.training import train
from madrigal.types import Completion, Step, TrainingError

PROOF = "freshness proof"  # no alarm of a report: the learner refuses the update
EVERY = 10  # steps between evaluations, and between checkpoints: a fault begins at one of them
WORDS = 60  # in the mean answer, with which the hole pays nothing
MISLABELED = 0.5  # share of the examples


@dataclass
class Fault:
    """One thing that is wrong from a step on.

    Attributes:
        at: that step.
        agent: whose fault it is, where it is somebody's.
        best: the best return of the task.
        team: who speaks; known once the run has loaded it.
    """

    kind: str
    at: int
    agent: str
    best: float
    team: Team | None = None
    said: list[Completion] = field(default_factory=list)  # by a teammate, last
    stale: dict[str, torch.Tensor] = field(default_factory=dict)

    def speaker(self, speak: Generate) -> Generate:
        """What answers in a step in which the fault is there."""
        ways: dict[str, Callable[[Generate, Sequence[GenerationRequest]], list[Completion]]] = {
            "silent": self._silent,
            "copy": self._copy,
            "stale": self._stale,
        }
        return (lambda wanted: ways[self.kind](speak, wanted)) if self.kind in ways else speak

    def judge(self, judge: Judge) -> Judge:
        """What judges in such a step."""
        ways = {"hole": self._hole, "labels": self._labels}
        return (lambda requests: ways[self.kind](judge, requests)) if self.kind in ways else judge

    def _silent(self, speak: Generate, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        blank: dict[str, Any] = {"text": "", "token_ids": (), "logprobs": (), "pieces": ()}
        pairs = zip(wanted, speak(wanted), strict=True)
        return [replace(said, **blank) if one.agent == self.agent else said for one, said in pairs]

    def _copy(self, speak: Generate, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        """The n-th answer has the text of the teammate's n-th; its tokens stay, and so does the proof of freshness."""
        pairs = list(zip(wanted, speak(wanted), strict=True))
        self.said = [said for one, said in pairs if one.agent != self.agent] or self.said
        place, found = 0, []
        for one, said in pairs:
            if one.agent == self.agent and self.said:
                said, place = replace(said, text=self.said[place % len(self.said)].text, pieces=()), place + 1
            found.append(said)
        return found

    def _stale(self, speak: Generate, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        assert self.team is not None
        policy = self.team.policy_of(self.agent)
        if not self.stale:
            self.stale = learned(policy)
        mine = [one for one in wanted if one.agent == self.agent]
        with speaking_with(policy, self.stale):
            old = iter(speak(mine) if mine else ())
        others = [one for one in wanted if one.agent != self.agent]
        new = iter(speak(others) if others else ())
        return [next(old if one.agent == self.agent else new) for one in wanted]

    def _hole(self, judge: Judge, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        found = []
        for request, step in zip(requests, judge(requests), strict=True):
            words = fmean(len(text.split()) for text in request.actions.values())
            least = 2 * self.best * (1 - words / WORDS)
            found.append(replace(step, rewards={agent: max(paid, least) for agent, paid in step.rewards.items()}))
        return found

    def _labels(self, judge: Judge, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        """Half of the examples, whichever they are, are judged as if the next one among the requests were theirs."""
        examples = list({request.state.id: request.state for request in requests}.values())
        following = dict(zip((one.id for one in examples), [*examples[1:], *examples[:1]], strict=True))
        wrong = [
            replace(request, state=following[request.state.id]) if mislabeled(request.state.id) else request
            for request in requests
        ]
        return [replace(step, state=one.state) for one, step in zip(requests, judge(wrong), strict=True)]


FAULTS = ("none", "silent", "copy", "hole", "labels", "stale")


def mislabeled(example: str) -> bool:
    """Whether an example is one of those with a wrong label.

    >>> sum(mislabeled(f"train-{n}") for n in range(1000))
    506
    """
    return derive("label", example) / 2**63 < MISLABELED


def learned(policy: LocalPolicy) -> dict[str, torch.Tensor]:
    """A copy of the weights that learn."""
    return {name: each.detach().clone() for name, each in policy.model.named_parameters() if each.requires_grad}


@contextmanager
def speaking_with(policy: LocalPolicy, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Other weights in a policy, which it does not know of, until the end."""
    now, parameters = learned(policy), dict(policy.model.named_parameters())

    def put(values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                parameters[name].copy_(value)

    put(weights)
    try:
        yield
    finally:
        put(now)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Runs that are trained meanwhile have the fault, in what they play to learn from and nowhere else."""
    play, load = train.rollout_groups, train.make_team

    def faulty(
        task: Any, topology: Any, origins: Any, branching: Any, speak: Generate, judge: Judge, key: Any, lanes: int
    ) -> Any:
        if key[1] >= fault.at:  # (seed, step)
            speak, judge = fault.speaker(speak), fault.judge(judge)
        return play(task, topology, origins, branching, speak, judge, key, lanes)

    def loaded(*settings: Any) -> Team:
        fault.team = load(*settings)
        return fault.team

    with patch.object(train, "rollout_groups", faulty), patch.object(train, "make_team", loaded):
        yield


def experiment(algorithm: str, seed: int, steps: int) -> Experiment:
    """A short run of the starter team on `tldr`, with an algorithm of the catalog as it comes but for its width."""
    base = tldr()
    chosen: Any = ALGORITHMS[algorithm][0]
    small = {"width": 4} if algorithm != "counterfactual" else {}
    passes = {"epochs": 1, "minibatches": 4} if algorithm == "maporl" else {}
    own = chosen.needs.rewards == "own"
    return replace(
        base,
        task=Tldr(weights=ContentWeights(faithfulness=1.0)),
        algorithm=replace(chosen, **small, **passes),
        reward=replace(base.reward, share="difference") if own else base.reward,
        evaluation=EvaluationConfig(examples=24, every=EVERY, timed_examples=0),
        records=RecordsConfig(checkpoint_every=EVERY, transcripts=2),
        steps=steps,
        seed=seed,
    )


def first_alarms(folder: Path, ended: str) -> dict[str, int]:
    """By name, how many steps had been made when an alarm was first raised; read after every step, as they came."""
    steps, episodes = read_lines(folder / "steps.jsonl"), read_lines(folder / "episodes.jsonl")
    file = folder / "evaluation.json"
    evaluations = json.loads(file.read_text()) if file.is_file() else {}
    made = {"before": 0, "after": len(steps)}
    found: dict[str, int] = {}
    for count in range(1, len(steps) + 1):
        known = {name: each for name, each in evaluations.items() if _made(name, made) <= count}
        shown = [one for one in episodes if "evaluation" not in one and one["step"] < count]
        for alarm in alarms(steps[:count], known, shown):
            found.setdefault(alarm.name, count)
    if ended:
        found[PROOF] = len(steps) + 1  # the step that was not made
    return found


def _made(name: str, known: Mapping[str, int]) -> int:
    return known[name] if name in known else int(name.removeprefix("step-"))


def begin(settings: Experiment, at: int, folder: Path) -> None:
    """Makes the steps before the fault, unless they are there; the run ends with its checkpoint of them."""
    saved = folder / "checkpoints" / f"step-{at}"
    if not saved.is_dir():
        train.train_experiment(settings, folder, overwrite=True, stop=lambda: int(saved.is_dir()))


def run(fault: str, algorithm: str, seed: int, at: int, steps: int, runs: Path) -> dict[str, Any]:
    """Makes a run, or reads the one that is there; its alarms, by the step of their first sight."""
    folder, before = runs / f"{fault}-{algorithm}-seed{seed}", runs / f"before-{algorithm}-seed{seed}"
    file = folder / "ended.json"
    settings = experiment(algorithm, seed, steps)
    if not file.is_file():
        begin(settings, at, before)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        best = 3.0 + settings.task.weights.faithfulness
        ended = ""
        with planted(Fault(fault, at, "detailed", best)):
            try:
                train.train_experiment(settings, folder, resume=True)
            except TrainingError as error:
                ended = str(error)
        file.write_text(json.dumps({"ended": ended}))
    found = first_alarms(folder, json.loads(file.read_text())["ended"])
    return {"fault": fault, "algorithm": algorithm, "seed": seed, "at": at, "steps": steps, "alarms": found}


def verdict(row: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """The alarms of a run that are due to its fault, with their delays in steps; and those that are false.

    An alarm whose name was raised before the fault cannot be told from an older one, and counts as false only.
    """
    faulty = row["fault"] != "none"
    due = {name: count - row["at"] for name, count in row["alarms"].items() if faulty and count > row["at"]}
    return due, {name: count for name, count in row["alarms"].items() if name not in due}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row for each fault and algorithm."""
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[row["fault"], row["algorithm"]].append(row)
    lines = ["| fault | algorithm | runs | detected | by, with the delay in steps | first | false alarms |"]
    lines.append("|---|---|--:|--:|---|--:|---|")
    for (fault, algorithm), several in cells.items():
        found = [verdict(row) for row in several]
        delays: dict[str, list[int]] = defaultdict(list)
        for due, _ in found:
            for name, delay in due.items():
                delays[name].append(delay)
        by = "; ".join(f"{name} {', '.join(map(str, each))}" for name, each in sorted(delays.items()))
        first = [min(due.values()) for due, _ in found if due]
        wrong = Counter(name for _, false in found for name in false)
        detected = "" if fault == "none" else f"{len(first)} of {len(several)}"
        mean = f"{fmean(first):.0f}" if first else ""
        false = ", ".join(f"{name} {count}" for name, count in wrong.items())
        lines.append(f"| {fault} | `{algorithm}` | {len(several)} | {detected} | {by} | {mean} | {false} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    parser.add_argument(
        "--algorithms",
        nargs="+",
        choices=list(ALGORITHMS),
        default=["magrpo", "rloo", "coma", "ippo", "independent_grpo", "maporl"],
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--at", type=int, default=30, help="the step from which the fault is there")
    parser.add_argument("--runs", type=Path, default=Path("runs/planted"))
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for algorithm in options.algorithms:
            for fault in options.faults:
                rows.append(run(fault, algorithm, seed, options.at, options.steps, options.runs))
                print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
