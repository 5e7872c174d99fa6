"""A contest: a team and all that it is compared with, trained and played on equal budget, over seeds.

Knows: run folders of contenders, and in which order they are made. Does not know: what they are (recipes.contenders),
how they are read (outcomes) and become a table (evaluation.comparison), screens.

Every contender is an ordinary run folder, `seed-N/<name>`. What is finished is read, not repeated: a contest that was
interrupted goes on where it stopped.
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

from madrigal.build.experiment import prepare
from madrigal.compare.contenders import TEAM, UNTRAINED, Contender, contenders, left_out, matched, with_base
from madrigal.compare.outcomes import difference, is_finished, outcome
from madrigal.compare.statistics import Played
from madrigal.config import Experiment, read_experiment, with_absolute_places
from madrigal.rollouts.branching import Branching
from madrigal.runs.signals import stop_on_signals
from madrigal.training.held_out import Silent, Watcher
from madrigal.training.train import train
from madrigal.types import AgentId, ConfigError

Announce = Callable[[str, Experiment], Watcher]


@dataclass(frozen=True, slots=True)
class Contest:
    """What is to be compared, and where.

    Attributes:
        run: the experiment that trains the team; its own seed does not count.
        folder: where the run folders of contenders lie, by seed.
        agents: the seats of its task.
        samples: plays of every held-out example.
        single: the model that does the work alone; "" is one of the team's size.
        only: contenders by their slugs; the team, and what budgets are measured by, are always among them.
    """

    run: Experiment
    folder: Path
    agents: tuple[AgentId, ...]
    seeds: tuple[int, ...]
    samples: int = 1
    single: str = ""
    only: tuple[str, ...] = ()

    def contenders(self, seed: int) -> list[Contender]:
        """Those that were asked for, in the order in which they are made."""
        evaluation = replace(self.run.evaluation, samples=self.samples)
        found = contenders(replace(self.run, seed=seed, evaluation=evaluation), self.agents, self.single)
        if not self.only:
            return found
        wanted = {slug(TEAM), *self.only}
        for one in found:
            if one.costs and slug(one.name) in wanted:
                wanted |= {slug(UNTRAINED), slug(one.costs)}
        return [one for one in found if slug(one.name) in wanted]

    def place(self, seed: int, name: str) -> Path:
        """The run folder of a contender."""
        return self.folder / f"seed-{seed}" / slug(name)

    @property
    def notice(self) -> str:
        """Which contender there cannot be, and why; "" where there are all."""
        return left_out(self.run, self.agents, self.single)


def slug(name: str) -> str:
    """A contender's name without spaces, for folders and flags.

    >>> slug("team, one turn")
    'team-one-turn'
    """
    return name.replace(",", "").replace(" ", "-")


def open_contest(
    run: Experiment,
    folder: Path,
    seeds: Sequence[int],
    *,
    samples: int = 1,
    single: str = "",
    only: Sequence[str] = (),
) -> Contest:
    """Checks all that can be checked before a model is loaded.

    Raises:
        ConfigError: if there is no such contender, nothing to train, or a folder holds a run with other settings.
    """
    if not run.steps:
        raise ConfigError("compare: steps is 0, so that no team is trained; set it to 1 or more")
    with prepare(run) as task:
        agents = task.agents
    contest = Contest(run, folder, agents, tuple(dict.fromkeys(seeds)), samples, single, tuple(only))
    known = [slug(one.name) for one in contenders(run, agents, single)]
    if strangers := set(only) - set(known):
        raise ConfigError(
            f"compare: there is no contender {', '.join(sorted(strangers))}; there are {', '.join(known)}"
        )
    for seed in contest.seeds:
        for one in contest.contenders(seed):
            if not one.swapped:  # its settings are the team's, and where that lies
                _check_same(contest, one, contest.place(seed, one.name))
    return contest


def _check_same(contest: Contest, one: Contender, place: Path) -> None:
    written = place / "experiment.json"
    if written.is_file() and (told := difference(with_absolute_places(_final(contest, one)), read_experiment(written))):
        raise ConfigError(
            f"{place} holds a run with other settings ({told}); name another folder with --name, or replace what is "
            "there with --overwrite"
        )


def play_all(contest: Contest, announce: Announce = lambda title, run: Silent()) -> bool:
    """Makes every contender of every seed that is not made yet.

    Returns:
        False when Ctrl-C stopped it; the same call goes on.
    """
    with stop_on_signals() as stop:
        for seed in contest.seeds:
            for order, one in enumerate(contest.contenders(seed)):
                place = contest.place(seed, one.name)
                _introduce(one, order, place)
                if not is_finished(place):
                    run = _final(contest, one)
                    train(run, place, resume=True, watch=announce(f"seed {seed}, {one.name}", run), stop=stop)
                if stop():
                    return False
    return True


def _introduce(one: Contender, order: int, place: Path) -> None:
    """Says in a contender's folder which it is."""
    about = {"name": one.name, "what": one.what, "order": order}
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "contender.json").write_text(json.dumps(about) + "\n")
    except OSError as error:
        raise ConfigError(f"the run folder {place} cannot be made: {error.strerror}") from error


def _final(contest: Contest, one: Contender) -> Experiment:
    """A contender's experiment with what depends on others: its share of the budget, or the trained team."""
    seed = one.run.seed
    if one.swapped:
        return with_base(one.run, contest.agents, one.swapped, contest.place(seed, TEAM) / "team")
    written = contest.place(seed, one.name) / "experiment.json"
    if one.costs and written.is_file():  # matched once, it stays: other seeds may have been measured since
        return replace(one.run, prompts=read_experiment(written).prompts)
    measured = [contest.place(contest.seeds[0], name) for name in (UNTRAINED, one.costs)] if one.costs else []
    if not measured or not all(map(is_finished, measured)):
        return one.run
    team, own = (outcome(place)[0] for place in measured)
    branching = one.run.algorithm.branching
    return matched(one.run, training_tokens(team, branching), training_tokens(own, branching))


def training_tokens(played: Played, branching: Branching) -> float:
    """Tokens that training would generate for one example, as measured by playing; in units of the group's width.

    Chains have as many answers in every round. In a tree, and where joint actions are crossed, later ones have more.
    """

    def asked(turns: Sequence[Mapping[str, Any]]) -> int:
        tokens = 0
        for index, spoken in groupby(turns, key=lambda turn: int(turn["round"])):
            rows = list(spoken)
            order = [turn["agent"] for turn in rows]
            tokens += sum(turn["tokens"] * branching.answers(order, index, place) for place, turn in enumerate(rows))
        return tokens

    return fmean(asked(record["turns"]) for record in played.transcripts) / branching.width


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
