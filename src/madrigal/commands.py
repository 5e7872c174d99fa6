"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from madrigal.algorithms.catalog import ALGORITHMS, instead_of
from madrigal.analyse import analyse_command
from madrigal.assemble import prepare
from madrigal.compare import compare_command
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.evaluate import Evaluation
from madrigal.held_out import evaluate_run
from madrigal.play import play_command
from madrigal.recipes import RECIPES, unknown
from madrigal.recipes.embedded import own
from madrigal.report.arguments import parse, quietly
from madrigal.report.command import report_command
from madrigal.report.log import free_name, new_run, read_lines
from madrigal.report.plain import plain_text
from madrigal.report.progress import Progress, before_after, pick_transcripts, show_transcript
from madrigal.report.trackers import check_trackers
from madrigal.scoring import score_command
from madrigal.settings import check_asked, start_of, with_settings
from madrigal.task import Task
from madrigal.tasks.catalog import TASKS
from madrigal.tasks.trust import trusting
from madrigal.topology import TOPOLOGIES
from madrigal.train import train_on
from madrigal.types import ConfigError
from madrigal.verifier.command import verifier_command

OPTIONS = ("--algorithm", "--topology", "--name", "--runs", "--resume", "--overwrite", "--trust", "--quiet")


def dispatch(command: str, arguments: list[str]) -> int:
    """Runs a command by name.

    Raises:
        ConfigError: if there is none of that name.
    """
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train_command,
        "evaluate": evaluate_command,
        "score": score_command,
        "list": list_command,
        "compare": compare_command,
        "analyse": analyse_command,
        "report": report_command,
        "play": play_command,
        "verifier": verifier_command,
    }
    if command not in commands:
        raise ConfigError(unknown("command", command, list(commands)))
    _quiet()
    return commands[command](arguments)


def train_command(arguments: list[str]) -> int:
    """madrigal train RECIPE|RUN|FILE|file.py:task [options] [settings]"""
    parser = argparse.ArgumentParser(prog="madrigal train", add_help=False, allow_abbrev=False)
    parser.add_argument("recipe", nargs="?", default="")
    parser.add_argument("--name", default="")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--trust", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--topology", choices=TOPOLOGIES)
    parser.add_argument("--algorithm", default="")
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    if not options.recipe and {"-h", "--help"} & set(settings):
        parser.print_help()
        print(f"\nrecipes: {', '.join(RECIPES)}\nsettings of one: madrigal train RECIPE --help")
        return 0
    if not options.recipe or options.recipe.startswith("-"):
        raise ConfigError(f"train: name a recipe, a run folder or an experiment.json; recipes are {', '.join(RECIPES)}")
    folder = _resumed_folder(options) if options.resume else None
    start = read_experiment(folder) if folder else start_of(options.recipe)
    if options.algorithm and options.algorithm not in ALGORITHMS:
        raise ConfigError(unknown("algorithm", options.algorithm, list(ALGORITHMS)))
    if options.algorithm:
        start = dataclasses.replace(start, algorithm=instead_of(start.algorithm, options.algorithm))
    if options.topology:
        start = dataclasses.replace(start, topology=TOPOLOGIES[options.topology][0])
    run = with_settings(start, settings, f"madrigal train {options.recipe}", OPTIONS)
    if not options.trust:
        check_asked(run, options.recipe, settings, folder or options.recipe)
    check_trackers(run.records.trackers)
    with prepare(run) as task:
        folder = folder or _new_folder(options, run)
        return _train(task, run, folder, resume=options.resume, quiet=options.quiet)


def _new_folder(options: argparse.Namespace, run: Experiment) -> Path:
    name = options.name or (run.recipe if options.overwrite else free_name(options.runs, run.recipe))
    return new_run(options.runs, name, overwrite=options.overwrite)


def _resumed_folder(options: argparse.Namespace) -> Path:
    given = Path(options.recipe)
    folder: Path = given if given.is_dir() else options.runs / (options.name or _newest(options.runs, options.recipe))
    if not (folder / "experiment.json").is_file():
        raise ConfigError(f"--resume: expected a run at {folder}, found none; see what is in {options.runs}/")
    return folder


def _newest(runs: Path, name: str) -> str:
    """Of the runs NAME, NAME-2, NAME-3, ... the one begun last; `name` is a recipe, a run or an own task."""
    name = own(name).recipe if ":" in name else name
    pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
    begun = {
        file.parent.name: file.stat().st_mtime_ns
        for file in runs.glob("*/experiment.json")
        if pattern.fullmatch(file.parent.name)
    }
    return max(begun, key=lambda run: (begun[run], len(run), run), default=name)


def _train(task: Task[Any], run: Experiment, folder: Path, *, resume: bool, quiet: bool = False) -> int:
    console = Console()
    with Progress(console, run.steps, folder.name, best=task.best_return, quiet=quiet) as watch:
        done = train_on(task, run, folder, resume=resume, watch=watch)
    if not done:
        again = trusting(f"madrigal train {folder} --resume", run.task, run.records.trackers)
        console.print(plain_text(console, f"Stopped and saved. Go on with: {again}", lines=False), soft_wrap=True)
        return 130
    show_run(console, run, folder, quiet=quiet)
    return 0


def show_run(console: Console, run: Experiment, folder: Path, *, quiet: bool = False) -> None:
    """The end of a run: two transcripts, results before and after, and where everything lies; the last two if quiet."""
    if not quiet:
        episodes = read_lines(folder / "episodes.jsonl")
        for number, episode in enumerate(pick_transcripts(episodes), start=1):
            show_transcript(console, f"Transcript {number} after training:", episode)
        console.print()
    console.print(before_after(json.loads((folder / "evaluation.json").read_text())))
    if not quiet:
        console.rule("Files", align="left")
    for line, remark in [(str(folder), "")] if quiet else _files(run, folder):
        entry = plain_text(console, f"  {line}  ", lines=False)
        console.print(entry.append_text(plain_text(console, remark, "dim", lines=False)), soft_wrap=True)


def _files(run: Experiment, folder: Path) -> list[tuple[str, str]]:
    """What lies in a run folder, and what can be done with it; a run of no steps saves no team."""
    again = trusting(f"madrigal train {folder}/experiment.json", run.task, run.records.trackers)
    named = {
        "experiment.json": f"every setting; run it again: {again}",
        "steps.jsonl": "one line per training step",
        "episodes.jsonl": "transcripts with reward and advantage per turn",
        "evaluation.json": "held-out results; repeat them: " + trusting(f"madrigal evaluate {folder}", run.task),
        "team": "each agent, loadable with AutoModelForCausalLM.from_pretrained",
    }
    there = [(str(folder / name), what) for name, what in named.items() if run.steps or name != "team"]
    return [*there, ("", f"Look at it in a browser: madrigal report {folder}")]


def evaluate_command(arguments: list[str]) -> int:
    """madrigal evaluate RUN [--json] [--trust]"""
    parser = argparse.ArgumentParser(prog="madrigal evaluate", description="Evaluate a run's saved team again.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--trust", action="store_true", help="allow what the run's file asks for: own code, no sandbox, an expert"
    )
    options = parse(parser, arguments)
    result, _ = evaluate_run(options.run, trust=options.trust)
    if options.json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
    else:
        _show(result)
    return 0


def _show(result: Evaluation) -> None:
    Console().print(before_after({"after": dataclasses.asdict(result)}))


def list_command(arguments: list[str]) -> int:
    """madrigal list [--json]"""
    parser = argparse.ArgumentParser(prog="madrigal list", description="What there is to choose from.")
    parser.add_argument("--json", action="store_true")
    options = parse(parser, arguments)
    recipes = {name: (make.__doc__ or "").split("\n")[0] for name, make in RECIPES.items()}
    topologies = {name: what for name, (_, what) in TOPOLOGIES.items()}
    tasks = {name: entry.what for name, entry in TASKS.items()}
    algorithms = {name: what for name, (_, what) in ALGORITHMS.items()}
    lists = {"tasks": tasks, "recipes": recipes, "algorithms": algorithms, "topologies": topologies}
    if options.json:
        print(json.dumps(lists, indent=2))
        return 0
    console = Console()
    for title, rows in lists.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for name, what in rows.items():
            table.add_row(f"  {name}", what)
        console.print(table)
    return 0


def _quiet() -> None:
    """Libraries below speak only of errors; progress belongs to Madrigal's own view."""
    for name in ("transformers", "datasets", "peft", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # peft asks transformers by a name that the latter is about to drop.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
    from transformers.utils import logging as hub_logging

    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not sys.stderr.isatty():
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
