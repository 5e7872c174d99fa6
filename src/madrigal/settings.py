"""From words on the command line to an experiment: where it starts from, and what is changed in it.

Knows: recipes, files, flags. Does not know: what is done with the experiment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from madrigal.config import Experiment, read_experiment
from madrigal.recipes import RECIPES, recipe
from madrigal.recipes.own_file import own_experiment
from madrigal.report.arguments import flags, quietly, unknown_flag
from madrigal.tasks.own import Own
from madrigal.tasks.trust import check_trust
from madrigal.types import ConfigError


def start_of(name: str) -> Experiment:
    """A recipe by name, an experiment from a file or run folder, or an own task as file.py:name."""
    if name in RECIPES:
        return recipe(name)
    if ":" in name:
        return own_experiment(name)
    return read_experiment(Path(name)) if Path(name).exists() else recipe(name)


def with_settings(start: Experiment, settings: list[str], command: str, options: Sequence[str]) -> Experiment:
    """The experiment with what the command line changes in it; `options` are the command's own flags, for the help.

    Raises:
        ConfigError: if there is no such setting.
    """
    run, strangers = quietly(
        lambda: tyro.cli(
            tyro.conf.AvoidSubcommands[Experiment],
            prog=command,
            description=f"Settings of the experiment. Besides these: {', '.join(options)}.",
            default=start,
            args=settings,
            return_unknown_args=True,
        )
    )
    if strangers:
        raise ConfigError(unknown_flag(strangers, [*options, *flags(dataclasses.asdict(start))], command))
    return run


def check_asked(run: Experiment, name: str, settings: list[str], where: str | Path) -> None:
    """Refuses what a file asks for beyond training; recipes are ours, and what was typed was not asked for by a file.

    Args:
        name, settings: what was typed.
        where: the experiment was read from.

    Raises:
        ConfigError: saying what would be done, and how to allow it.
    """
    typed = {word.partition("=")[0].replace("_", "-") for word in settings}
    if run.task == Own(name):
        typed.add("--task.path")
    if str(where) != name or name not in RECIPES:
        check_trust(run.task, where, run.records.trackers, typed)
