"""madrigal gateway: trains a team that programs play, each asking seats as models of OpenAI's interface."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from madrigal.algorithms.group_relative import GroupRelative
from madrigal.commands.arguments import add_trust, own_flags, quietly
from madrigal.commands.overrides import with_settings
from madrigal.commands.train import show_run
from madrigal.config import Experiment, read_experiment
from madrigal.recipes.embedded import elsewhere
from madrigal.recipes.start import require_trust
from madrigal.recipes.trust import resumed_by
from madrigal.report.progress import Progress
from madrigal.runs.folders import folder_to_resume, hold_run, is_part
from madrigal.runs.plain import plain
from madrigal.runs.signals import exit_code, stop_on_signals
from madrigal.runs.trackers import check_trackers
from madrigal.tasks.data import Source
from madrigal.tasks.elsewhere import Elsewhere
from madrigal.types import ConfigError

KEY = "MADRIGAL_GATEWAY_KEY"
PORT = 8081
LINGER = 5.0  # seconds for which programs can still learn that the run is over
NAME = "gateway"


def gateway_command(arguments: list[str]) -> int:
    """madrigal gateway --agents A,B --examples FILE [--experiment FILE] [options] [settings]"""
    parser = _parser()
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    if {"-h", "--help"} & set(settings):
        parser.print_help()
        print("\nsettings, as for madrigal train: --steps, --prompts, --team.policy.model, --task.seconds, ...\n")
        return 0
    if options.name and not is_part(options.name):
        raise ConfigError(f"--name: expected letters, digits, '_', '.' and '-', got {options.name!r}; see also --runs")
    named = options.runs / options.name if options.name else None
    given = Path(options.experiment) if options.experiment else None
    resumed = None
    if options.resume:
        place = given if given is not None and given.is_dir() else named
        resumed = folder_to_resume(options.runs, NAME, place)
    start = _start(resumed or given, options)
    run = with_settings(start, settings, "madrigal gateway", own_flags(parser))
    if not options.trust and (place := resumed or given) is not None:
        require_trust(run, str(place), settings, place)
    check_trackers(run.records.trackers)
    try:
        from madrigal.serving.gateway import gateway_app
        from madrigal.serving.web import listen, serving, url_of
    except ImportError as error:
        raise ConfigError(f"gateway: {error.name} is not installed; install madrigal[serve]") from error
    from madrigal.training.checks import open_checked_task
    from madrigal.training.elsewhere import Losses, played_elsewhere
    from madrigal.training.train import training_loop

    console, losses, over = Console(), Losses(), list[bool]()
    key = os.environ.get(KEY, "").strip()
    hold = hold_run(options.runs, run.recipe, resumed or named, resume=options.resume, overwrite=options.overwrite)
    listening = listen(options.port, "gateway")  # a port that is taken is found before any weight is loaded
    with (
        listening,
        stop_on_signals() as stop,
        played_elsewhere(run, None, losses, stop=stop) as task,
        open_checked_task(run, task) as checked,
        hold as held,
    ):
        app = gateway_app(task, run.sampling, key=key, done=lambda: bool(over))
        lock = f"with the key of {KEY}" if key else f"without a key (set {KEY} to ask for one)"
        with (
            serving(app, listening=listening),
            Progress(console, run.steps, held.folder.name, best=checked.best_return, quiet=options.quiet) as watch,
        ):
            losses.folder, losses.tell = held.folder, watch.stage
            watch.stage(f"note: seats {', '.join(task.agents)} at {url_of(listening)}, {lock}; sessions are waited for")
            signum = training_loop(checked, run, held, watch=watch, stop=stop)
            over.append(True)
            time.sleep(0 if signum else LINGER)
        folder = held.folder
    if signum:
        again = plain(f"Stopped and saved. Go on with: {resumed_by(folder, run)}", lines=False)
        console.print(again, soft_wrap=True, markup=False)
        return exit_code(signum)
    show_run(console, run, folder, quiet=options.quiet)
    return 0


def _start(place: Path | None, options: argparse.Namespace) -> Experiment:
    """The experiment that settings change: one that was made before, or a new one.

    Raises:
        ConfigError: if neither is said.
    """
    if place is not None:
        start = read_experiment(place)
        if not isinstance(start.task, Elsewhere):
            raise ConfigError(f"{place}: expected a team that programs play; train others with madrigal train")
        task = start.task
    else:
        if not options.agents or not options.examples:
            raise ConfigError("gateway: name the seats and the examples: --agents planner,writer --examples FILE.jsonl")
        task = Elsewhere()
        start = elsewhere(NAME, task)
    if options.agents:
        task = replace(task, agents=tuple(name.strip() for name in options.agents.split(",")))
    if options.examples:
        task = replace(task, source=Source(options.examples))
    if options.sessions is not None:
        if not isinstance(start.algorithm, GroupRelative):
            raise ConfigError(f"--sessions: algorithm {start.algorithm.name} compares no sessions; see docs/gateway.md")
        start = replace(start, algorithm=replace(start.algorithm, width=options.sessions))
    return replace(start, task=task)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal gateway",
        description="Train a team that programs play: agents are models of OpenAI's interface on this machine.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--experiment", default="", help="begin with the settings of a run folder or experiment.json")
    parser.add_argument("--agents", default="", help="the seats, by commas: planner,writer")
    parser.add_argument("--examples", default="", help="what is played: a file (.jsonl, .json, .csv, .parquet)")
    parser.add_argument("--sessions", type=int, help="of each example of a step, which are compared (algorithm.width)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument("--name", default="", help=f"the run's folder below --runs; by default {NAME}")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("--resume", action="store_true", help="go on with a run from its newest checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    parser.add_argument("--quiet", action="store_true", help="results and warnings only")
    add_trust(parser)
    return parser
