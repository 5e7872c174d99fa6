"""madrigal train: trains a team, and says what became of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.commands.arguments import add_trust, own_flags, quietly
from madrigal.commands.overrides import from_run, with_settings
from madrigal.config import FREE, Experiment, read_experiment
from madrigal.recipes import RECIPES
from madrigal.recipes.own_file import with_topology
from madrigal.recipes.start import base_experiment, require_trust, run_name
from madrigal.recipes.trust import resumed_by, risks, with_trust_flag
from madrigal.report.progress import Progress, before_after, pick_transcripts, show_transcript
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.runs.folders import Held, folder_to_resume, hold_run, is_part
from madrigal.runs.log import RunLog, read_lines
from madrigal.runs.plain import plain_text
from madrigal.runs.signals import exit_code
from madrigal.runs.trackers import check_trackers
from madrigal.tasks.elsewhere import Elsewhere
from madrigal.types import ConfigError, unknown

if TYPE_CHECKING:
    from madrigal.learning.ranks import Ranks


def train_command(arguments: list[str]) -> int:
    """madrigal train RECIPE|RUN|FILE|file.py:task [options] [settings]

    Started by torchrun, the first process trains and all others hold a share of what it learns with.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return _command(arguments)
    from madrigal.learning.ranks import joined

    with joined(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) as ranks:
        return ranks.serve() if ranks.rank else _command(arguments, ranks)


def _command(arguments: list[str], ranks: Ranks | None = None) -> int:
    parser = _train_parser()
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    if {"-h", "--help"} & set(settings):
        parser.print_help()
        print(f"\nrecipes: {', '.join(RECIPES)}\nsettings of one: madrigal train RECIPE --help\n")
        if not options.recipe:
            return 0
    if not options.recipe or options.recipe.startswith("-"):
        raise ConfigError(f"train: name a recipe, a run folder or an experiment.json; recipes are {', '.join(RECIPES)}")
    if options.name and not is_part(options.name):
        raise ConfigError(f"--name: expected letters, digits, '_', '.' and '-', got {options.name!r}; see also --runs")
    named, resumed = options.runs / options.name if options.name else None, None
    if options.resume:
        given = Path(options.recipe)
        resumed = folder_to_resume(options.runs, run_name(options.recipe), given if given.is_dir() else named)
    start = read_experiment(resumed) if resumed else base_experiment(options.recipe)
    if options.algorithm and options.algorithm not in ALGORITHMS:
        raise ConfigError(unknown("algorithm", options.algorithm, ALGORITHMS))
    if options.algorithm:
        start = dataclasses.replace(start, algorithm=switch_algorithm(start.algorithm, options.algorithm))
    if options.topology:
        start = with_topology(start, options.topology)
    if options.start:
        start = from_run(start, options.start)
    if options.keep:
        start = dataclasses.replace(start, evaluation=dataclasses.replace(start.evaluation, keep=options.keep))
    if options.engine:
        seats = ["policy", *(f"seats.{seat}" for seat in start.team.seats)]
        settings = [*(f"--team.{seat}.engine.kind={options.engine}" for seat in seats), *settings]
    if options.cluster:
        settings = ["--cluster.address", options.cluster, *settings]
    run = with_settings(start, settings, f"madrigal train {options.recipe}", own_flags(parser))
    if not options.trust:
        require_trust(run, options.recipe, settings, resumed or options.recipe)
    check_trackers(run.records.trackers)
    from madrigal.training.checks import open_checked_task
    from madrigal.training.elsewhere import check_player

    check_player(run, None)
    hold = hold_run(options.runs, run.recipe, resumed or named, resume=options.resume, overwrite=options.overwrite)
    with open_checked_task(run) as task, hold as place:
        return _train(task, run, place, quiet=options.quiet, ranks=ranks)


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal train", description="Train a team.", add_help=False, allow_abbrev=False
    )
    what = "a recipe, a run folder, an experiment.json, or an own task as file.py:name"
    parser.add_argument("recipe", nargs="?", default="", help=what, metavar="RECIPE|RUN|FILE|file.py:task")
    parser.add_argument("--name", default="", help="the run's folder below --runs; by default the recipe's name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with a run from its newest checkpoint; {', '.join(FREE)} may change, --steps 200 makes more steps",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="RUN", help="begin with the trained team of another run"
    )
    add_trust(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no transcripts: results and warnings only")
    parser.add_argument(
        "--keep",
        choices=("last", "best"),
        help="whose weights become the team: the last, or those with the best return on the validation split",
    )
    parser.add_argument(
        "--cluster",
        default="",
        metavar="ADDRESS",
        help="train on Ray: local starts it on this machine, auto or HOST:PORT joins one (docs/cluster.md)",
    )
    parser.add_argument("--topology", choices=TOPOLOGIES, help="who hears whom within a round")
    parser.add_argument("--algorithm", default="", metavar="NAME", help="how credit is given; madrigal list has them")
    engines = ("local", "vllm", "server")
    parser.add_argument("--engine", choices=engines, help="what makes all policies answer; a server has a URL")
    return parser


def _train(task: Task[Any], run: Experiment, place: Held, *, quiet: bool = False, ranks: Ranks | None = None) -> int:
    from madrigal.training.train import training_loop

    console, folder = Console(), place.folder
    with Progress(console, run.steps, folder.name, best=task.best_return, quiet=quiet) as watch:
        signum = training_loop(task, run, place, watch=watch, ranks=ranks)
    if signum:
        joined = f" --cluster {run.cluster.address}" if run.cluster.address else ""
        again = f"{resumed_by(folder, run)}{joined}"
        console.print(plain_text(console, f"Stopped and saved. Go on with: {again}", lines=False), soft_wrap=True)
        return exit_code(signum)
    show_run(console, run, folder, quiet=quiet)
    return 0


def show_run(console: Console, run: Experiment, folder: Path, *, quiet: bool = False) -> None:
    """The end of a run: two transcripts, results before and after, and where everything lies; the last two if quiet."""
    if not quiet:
        episodes = read_lines(folder / "episodes.jsonl")
        for number, episode in enumerate(pick_transcripts(episodes), start=1):
            show_transcript(console, f"Transcript {number} after training:", episode)
        console.print()
    console.print(before_after(RunLog(folder).evaluations()))
    if not quiet:
        console.rule("Files", align="left")
    for line, remark in [(str(folder), "")] if quiet else _files(run, folder):
        entry = plain_text(console, f"  {line}  ", lines=False)
        console.print(entry.append_text(plain_text(console, remark, "dim", lines=False)), soft_wrap=True)


def _files(run: Experiment, folder: Path) -> list[tuple[str, str]]:
    """What lies in a run folder, and what can be done with it."""
    elsewhere = isinstance(run.task, Elsewhere)
    again = with_trust_flag(
        f"madrigal gateway --experiment {folder}" if elsewhere else f"madrigal train {folder}/experiment.json", run
    )
    repeat = with_trust_flag(f"madrigal evaluate {folder}", run, "play")
    if elsewhere:
        trust = ", trust=True" if risks(run, "play") else ""
        repeat = f"madrigal.evaluate_rollouts(rollout, {str(folder)!r}{trust})"
    named = {
        "experiment.json": f"every setting; run it again: {again}",
        "warm.jsonl": "what the warm start learned from, and its cross entropy",
        "steps.jsonl": "one line per training step",
        "episodes.jsonl": "transcripts with reward and advantage per turn",
        "evaluation.json": f"held-out results; repeat them: {repeat}",
        "validation.json": "results on the validation split, by which the team was chosen",
        "team": "each agent, loadable with AutoModelForCausalLM.from_pretrained",
        "team-last": "the same with the weights after the last step",
    }
    there = [(str(folder / name), what) for name, what in named.items() if (folder / name).exists()]
    return [*there, ("", f"Look at it in a browser: madrigal report {folder}")]
