"""Runs a comparison: a team and all that it is compared with, trained and played on equal budget, over seeds.

Every contender is an ordinary run folder, `seed-N/<name>`. What is finished is read, not repeated: after an
interruption a comparison goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from madrigal.compare.contenders import (
    SINGLE,
    TEAM,
    UNTRAINED,
    UNTRAINED_REWORDED,
    Contender,
    contenders,
    left_out,
    matched,
    with_base,
)
from madrigal.compare.load import difference, is_finished, load_result
from madrigal.compare.rows import Played
from madrigal.config import Experiment, read_experiment, with_absolute_places
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.task import Task
from madrigal.runs.signals import stop_on_signals
from madrigal.tasks.own import CustomTask
from madrigal.training.checks import open_checked_task
from madrigal.training.demonstrations import read_demonstrations
from madrigal.training.held_out import Callback, NullCallback, held_out
from madrigal.training.train import train_experiment
from madrigal.types import AgentId, ConfigError

Announce = Callable[[str, Experiment], Callback]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be compared, and where.

    Attributes:
        run: the experiment that trains the team; its own seed is not used.
        folder: holds the run folders of contenders, by seed.
        samples: plays of every held-out example.
        single: the model that does the work alone; "" is one of the team's size.
        only: contenders by their slugs; the team, and what budgets are measured by, are always among them.
        also: by their slugs, contenders beside the usual ones that take one more training.
        words: the file of other words for the prompts.
    """

    run: Experiment
    folder: Path
    agents: tuple[AgentId, ...]
    seeds: tuple[int, ...]
    samples: int = 1
    single: str = ""
    only: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    words: str = ""

    def contenders(self, seed: int) -> list[Contender]:
        """Those that were asked for, in the order in which they are made."""
        evaluation = replace(self.run.evaluation, samples=self.samples)
        run = replace(self.run, seed=seed, evaluation=evaluation)
        every = contenders(run, self.agents, self.single, self.words)
        usual = self.only or [slug(contender.name) for contender in every if not contender.extra]
        wanted = {slug(TEAM), *usual, *self.also}
        if slug(UNTRAINED_REWORDED) in wanted:
            wanted.add(slug(UNTRAINED))
        for contender in every:
            if contender.costs and slug(contender.name) in wanted:
                wanted |= {slug(UNTRAINED), slug(contender.costs)}
        return [contender for contender in every if slug(contender.name) in wanted]

    def place(self, seed: int, name: str) -> Path:
        """The run folder of a contender."""
        return self.folder / f"seed-{seed}" / slug(name)

    @property
    def notice(self) -> str:
        """Which contender is left out, and why; "" where none is."""
        return left_out(self.run, self.agents, self.single)


def slug(name: str) -> str:
    """A contender's name without spaces, for folders and flags.

    >>> slug("team, one turn")
    'team-one-turn'
    """
    return name.replace(",", "").replace(" ", "-")


def open_comparison(
    run: Experiment,
    folder: Path,
    seeds: Sequence[int],
    *,
    samples: int = 1,
    single: str = "",
    only: Sequence[str] = (),
    also: Sequence[str] = (),
    words: str = "",
) -> Comparison:
    """Checks all that can be checked before a model is loaded.

    Raises:
        ConfigError: if there is no such contender, nothing to train, or a folder holds a run with other settings.
    """
    if not run.steps:
        raise ConfigError("compare: steps is 0, so that no team is trained; set it to 1 or more")
    with open_checked_task(run) as task:
        agents = task.agents
        for contender in contenders(run, agents, single, words):
            if contender.name == SINGLE and isinstance(contender.run.task, CustomTask):
                _check_own_single(run, task, contender.run)
    comparison = Comparison(
        run, folder, agents, tuple(dict.fromkeys(seeds)), samples, single, tuple(only), tuple(also), words
    )
    known = [slug(contender.name) for contender in contenders(run, agents, single, words)]
    if strangers := {*only, *also} - set(known):
        raise ConfigError(
            f"compare: there is no contender {', '.join(sorted(strangers))}; there are {', '.join(known)}"
        )
    _check_tasks([contender.run for contender in comparison.contenders(comparison.seeds[0])])
    for seed in comparison.seeds:
        for contender in comparison.contenders(seed):
            if not contender.swapped:  # its settings are the team's, and where that lies
                _check_same_settings(comparison, contender, comparison.place(seed, contender.name))
    return comparison


def _check_tasks(runs: Sequence[Experiment]) -> None:
    """Finds what would end a comparison at one of its later contenders: words or demonstrations that do not fit."""
    distinct = {repr((run.task, run.topology, run.algorithm, run.reworded, run.warm)): run for run in runs}
    for run in distinct.values():
        with open_checked_task(run) as task:
            read_demonstrations(run, task)


def _check_own_single(run: Experiment, task: Task[Any], single: Experiment) -> None:
    """Refuses a user's own version for one agent that is not judged on the same examples, by the same best return."""
    with open_checked_task(single) as alone:
        if len(alone.agents) > 1:
            raise ConfigError(f"own task {alone.name}: expected one agent in `single`, got {', '.join(alone.agents)}")
        ids, other = ([example.id for example in held_out(run, each)] for each in (task, alone))
        if ids != other or task.best_return != alone.best_return:
            raise ConfigError(
                f"own task {alone.name}: expected `single` to have the test examples and best_return of {task.name}, "
                "got others"
            )


def _check_same_settings(comparison: Comparison, contender: Contender, place: Path) -> None:
    file = place / "experiment.json"
    if not file.is_file():
        return
    if differing := difference(with_absolute_places(_final(comparison, contender)), read_experiment(file)):
        raise ConfigError(
            f"{place} holds a run with other settings ({differing}); name another folder with --name, or replace what "
            "is there with --overwrite"
        )


def play_all(comparison: Comparison, announce: Announce = lambda title, run: NullCallback()) -> bool:
    """Trains and plays every contender of every seed that is not finished yet.

    Returns:
        False when Ctrl-C stopped it; the same call goes on.
    """
    with stop_on_signals() as stop:
        for seed in comparison.seeds:
            for order, contender in enumerate(comparison.contenders(seed)):
                place = comparison.place(seed, contender.name)
                _write_contender(contender, order, place)
                if not is_finished(place):
                    run = _final(comparison, contender)
                    watch = announce(f"seed {seed}, {contender.name}", run)
                    train_experiment(run, place, resume=True, watch=watch, stop=stop)
                if stop():
                    return False
    return True


def _write_contender(contender: Contender, order: int, place: Path) -> None:
    about = {"name": contender.name, "what": contender.what, "order": order}
    about |= {"swapped": contender.swapped} if contender.swapped else {}
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "contender.json").write_text(json.dumps(about) + "\n")
    except OSError as error:
        raise ConfigError(f"the run folder {place} cannot be made: {error.strerror}") from error


def _final(comparison: Comparison, contender: Contender) -> Experiment:
    """A contender's experiment with what depends on others: its share of the budget, or the trained team."""
    run = contender.run
    if contender.swapped:
        return with_base(run, comparison.agents, contender.swapped, comparison.place(run.seed, TEAM) / "team")
    if not contender.costs:
        return run
    file = comparison.place(run.seed, contender.name) / "experiment.json"
    if file.is_file():  # matched once, it stays: other seeds may have been measured since
        return replace(run, prompts=read_experiment(file).prompts)
    measured = [comparison.place(comparison.seeds[0], name) for name in (UNTRAINED, contender.costs)]
    if not all(map(is_finished, measured)):
        return run
    team, own = (training_tokens(load_result(place)[0], run.algorithm.branching) for place in measured)
    return matched(run, team, own)


def training_tokens(played: Played, branching: Branching) -> float:
    """Tokens that training would generate for one example, as measured by playing; in units of the group's width.

    Chains have as many answers in every round. In a tree, and where joint actions are crossed, later ones have more.
    """

    def generated(turns: Sequence[Mapping[str, Any]]) -> int:
        tokens = 0
        for index, group in groupby(turns, key=lambda turn: int(turn["round"])):
            round_ = list(group)
            order = [turn["agent"] for turn in round_]
            tokens += sum(turn["tokens"] * branching.answers(order, index, n) for n, turn in enumerate(round_))
        return tokens

    return fmean(generated(record["turns"]) for record in played.transcripts) / branching.width


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Puts the comparison in a folder aside, and removes it for good once a run of the new one has begun.

    Raises:
        ConfigError: if the folder holds anything else.
    """
    strange = [path.name for path in folder.glob("*") if not path.name.startswith(("seed-", "comparison."))]
    if strange:
        raise ConfigError(
            f"{folder} holds {strange[0]}, so it is not the folder of a comparison; choose another --name"
        )
    aside = folder.with_name(f".{folder.name}.previous")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    try:
        yield
    finally:
        if any(folder.glob("seed-*/*/experiment.json")):
            shutil.rmtree(aside, ignore_errors=True)
        elif aside.exists():
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
