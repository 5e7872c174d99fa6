"""madrigal evaluate: the held-out results of a run's team, or of the models that a recipe starts from."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console

from madrigal.commands.arguments import add_trust, own_flags, quietly, unknown_flag
from madrigal.commands.overrides import with_settings
from madrigal.config import Experiment
from madrigal.recipes import RECIPES
from madrigal.recipes.start import base_experiment, require_trust
from madrigal.report.progress import before_after
from madrigal.runs.whole import found
from madrigal.types import ConfigError


def evaluate_command(arguments: list[str]) -> int:
    """madrigal evaluate RUN [--step N] [--json] [--trust] | madrigal evaluate RECIPE [--json] [settings]"""
    parser = argparse.ArgumentParser(
        prog="madrigal evaluate",
        description="Evaluate a run's saved team again, or the models that a recipe starts from.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN|RECIPE")
    parser.add_argument("--step", type=int, help="evaluate the checkpoint of this step instead of the saved team")
    parser.add_argument("--json", action="store_true")
    add_trust(parser)
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    folder = Path(options.run) if options.run in RECIPES else found(options.run)
    is_run = options.run not in RECIPES and folder.is_dir()
    from madrigal.training.held_out import Notes, evaluate_experiment, evaluate_run

    if not is_run:
        result, _ = evaluate_experiment(_untrained(options, settings))
    elif settings:
        hint = unknown_flag(settings, own_flags(parser), parser.prog)
        raise ConfigError(f"evaluate: a run has its own settings; {hint}")
    else:
        result, _ = evaluate_run(folder, Notes(), trust=options.trust, step=options.step)
    if options.json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
    else:
        Console().print(before_after({"after" if is_run else "before": dataclasses.asdict(result)}))
    return 0


def _untrained(options: argparse.Namespace, settings: list[str]) -> Experiment:
    """The experiment whose starting models are evaluated."""
    if options.step is not None:
        raise ConfigError(f"evaluate: --step names a checkpoint of a run, {options.run} is none")
    command = f"madrigal evaluate {options.run}"
    run = with_settings(base_experiment(options.run), settings, command, ("--json", "--trust"))
    if not options.trust:
        require_trust(run, options.run, settings, options.run)
    return run
