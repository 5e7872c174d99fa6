"""What the command line changes in an experiment: settings by their flags, and the weights that it begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from madrigal.commands.arguments import quietly, unknown_flag
from madrigal.config import Experiment
from madrigal.runs.variants import flags, flat
from madrigal.settings import ClusterSeat
from madrigal.types import ConfigError

SEATS, PLACES = "--team.seats.", "--cluster.seats."


def from_run(start: Experiment, folder: Path) -> Experiment:
    """The experiment with policies that begin with the weights of a run's saved team.

    Raises:
        ConfigError: if there is no team.
    """
    team = folder if (folder / "team.json").is_file() else folder / "team"
    if not (team / "team.json").is_file():
        raise ConfigError(
            f"--from: expected a run with a saved team, found none at {team}; make one of a checkpoint with: madrigal "
            f"export {folder}"
        )
    return dataclasses.replace(start, team=dataclasses.replace(start.team, start=str(team)))


def with_settings(start: Experiment, settings: list[str], command: str, options: Sequence[str]) -> Experiment:
    """The experiment with what the command line changes in it; `options` are the command's own flags, for the help.

    Raises:
        ConfigError: if there is no such setting.
    """
    plain, seats = _apart(_switched(settings, start))
    run, strangers = _parsed(start, plain, command, options)
    if seats and not strangers:
        # Only now are the settings known that a seat has where its own flags say nothing.
        named = {_agent_of(word): run.team.policy for word in seats if word.startswith(SEATS)}
        placed = {_agent_of(word): ClusterSeat() for word in seats if word.startswith(PLACES)}
        team = dataclasses.replace(run.team, seats=named | run.team.seats)
        cluster = dataclasses.replace(run.cluster, seats=placed | run.cluster.seats)
        run, strangers = _parsed(dataclasses.replace(run, team=team, cluster=cluster), seats, command, options)
    if strangers:
        raise ConfigError(unknown_flag(strangers, [*options, *_flags(run)], command))
    return run


def _parsed(
    start: Experiment, settings: list[str], command: str, options: Sequence[str]
) -> tuple[Experiment, list[str]]:
    return quietly(
        lambda: tyro.cli(
            tyro.conf.AvoidSubcommands[Experiment],
            prog=command,
            description=f"Settings of the experiment. Besides these: {', '.join(options)}. What is set for team.policy "
            f"can be set for a single seat: {SEATS}AGENT.model.",
            default=start,
            args=settings,
            return_unknown_args=True,
        )
    )


def _switched(settings: Sequence[str], start: Experiment) -> list[str]:
    """Settings that are on or off as the parser has them: "--a.b false" is --a.no-b, "--a.b true" is --a.b."""
    known = {name.replace("_", "-") for name, value in flat(dataclasses.asdict(start)) if isinstance(value, bool)}
    words: list[str] = []
    for word in settings:
        flag, equals, value = word.partition("=")
        if not equals and words:
            flag, value = words[-1], word
        name = flag.removeprefix("--").replace("_", "-")
        group, dot, last = name.rpartition(".")
        setting = f"team.policy.{last}" if flag.startswith(SEATS) else name
        if setting in known and value.lower() in ("true", "false"):
            words = words if equals else words[:-1]
            words.append(f"--{group}{dot}{'no-' * (value.lower() == 'false')}{last}")
        else:
            words.append(word)
    return words


def _apart(settings: list[str]) -> tuple[list[str], list[str]]:
    """What is said of single seats, apart from all else: a flag and the words up to the next one."""
    sides: tuple[list[str], list[str]] = ([], [])
    side = 0
    for word in settings:
        if word.startswith("--"):
            side = int(word.startswith((SEATS, PLACES)))
        sides[side].append(word)
    return sides


def _agent_of(flag: str) -> str:
    """The seat that a flag names; no agent has a hyphen in its name.

    >>> _agent_of("--team.seats.main-agent.model=x")
    'main_agent'
    """
    return flag.removeprefix(SEATS).removeprefix(PLACES).partition("=")[0].partition(".")[0].replace("-", "_")


def _flags(run: Experiment) -> list[str]:
    """What may be set; the name of an algorithm is chosen by --algorithm."""
    return [flag for flag in flags(dataclasses.asdict(run)) if flag != "--algorithm.name"]
