"""`madrigal compare`: one command that says whether the team beats what it is compared with, at the same cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from madrigal.commands.arguments import add_trust, own_flags, quietly
from madrigal.commands.overrides import with_settings
from madrigal.compare.load import rows_of_comparison, rows_of_runs
from madrigal.compare.rows import Row
from madrigal.compare.table import as_csv, as_markdown, as_record, as_tables
from madrigal.config import Experiment
from madrigal.recipes import RECIPES
from madrigal.recipes.own_file import with_topology
from madrigal.recipes.start import base_experiment, require_trust
from madrigal.report.progress import Progress
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.runs.plain import plain_text
from madrigal.runs.trackers import check_trackers
from madrigal.tasks.coding.config import Coding
from madrigal.types import ConfigError

if TYPE_CHECKING:
    from madrigal.training.held_out import Callback

OWN = {"--seed": "--seeds", "--evaluation.samples": "--samples"}  # settings that a comparison sets itself
WIDTH = 180  # of a table that no terminal bounds


def compare_command(arguments: list[str]) -> int:
    """madrigal compare RECIPE [options] [settings] | madrigal compare RUN RUN... | madrigal compare COMPARISON"""
    options, settings = quietly(lambda: _parser().parse_known_args(arguments))
    written = options.json or options.markdown or options.csv
    console = Console(stderr=written)
    if not console.is_terminal:
        console.width = WIDTH
    first = Path(options.what[0])
    if len(options.what) > 1 or _is_comparison(first):
        if settings:
            raise ConfigError(f"compare: what is finished takes no settings, got {settings[0]}")
        if len(options.what) > 1:
            rows, notices = rows_of_runs([Path(place) for place in options.what], options.k)
        else:
            rows, notices = rows_of_comparison(first, _seeds_in(first), options.k)
        _show(rows, notices, console, options)
        return 0
    return _new_comparison(options, settings, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal compare",
        description="Train and play a team and its baselines on equal budget, over several seeds, and print the table "
        "with intervals and tests; or compare runs as they are. An interrupted comparison goes on where it stopped.",
        epilog=f"Recipes are {', '.join(RECIPES)}. Every setting of the experiment can be changed as in training, "
        "--steps 20, say: madrigal train RECIPE --help lists them.",
        allow_abbrev=False,
    )
    what = "a recipe (or what else madrigal train takes), two or more run folders, or the folder of a comparison"
    parser.add_argument("what", nargs="+", metavar="RECIPE|RUN", help=what)
    parser.add_argument("--topology", choices=TOPOLOGIES, help="how the team talks; the recipe's by default")
    parser.add_argument("--name", default="", help="folder below --runs; compare-RECIPE by default")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=4, help="plays of every held-out example; 4 by default")
    parser.add_argument("--single", default="", help="the single model; by default one of the team's total size")
    parser.add_argument("--only", nargs="+", default=[], help="only these contenders, and the team")
    parser.add_argument("--also", nargs="+", default=[], help="these contenders too, which take one more training each")
    words = "JSON file of phrases and what stands for them: the team's prompts in other words"
    parser.add_argument("--words", default="", metavar="FILE", help=words)
    parser.add_argument("--k", type=int, nargs="+", default=[], help="coding: columns pass@k; k at most --samples")
    parser.add_argument("--overwrite", action="store_true", help="begin anew: remove what the folder holds")
    add_trust(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the table as JSON")
    form.add_argument("--markdown", action="store_true")
    form.add_argument("--csv", action="store_true")
    return parser


def _is_comparison(place: Path) -> bool:
    return not (place / "experiment.json").is_file() and bool(_seeds_in(place))


def _seeds_in(folder: Path) -> list[int]:
    names = [place.name.removeprefix("seed-") for place in folder.glob("seed-*")]
    return sorted(int(name) for name in names if name.lstrip("-").isdigit())


def _new_comparison(options: argparse.Namespace, settings: list[str], console: Console) -> int:
    for setting in {word.partition("=")[0] for word in settings} & OWN.keys():
        raise ConfigError(f"compare: {setting} is set for every contender; use {OWN[setting]}")
    name = options.what[0]
    start = base_experiment(name)
    if options.topology:
        start = with_topology(start, options.topology)
    run = with_settings(start, settings, f"madrigal train {name}", own_flags(_parser()))
    if not options.trust:
        require_trust(run, name, settings, name)
    _check_k(options, run)
    check_trackers(run.records.trackers)
    folder = options.runs / (options.name or f"compare-{run.recipe}")
    from madrigal.compare.run import replacing

    with replacing(folder) if options.overwrite else nullcontext():
        return _play_and_show(options, run, folder, console)


def _play_and_show(options: argparse.Namespace, run: Experiment, folder: Path, console: Console) -> int:
    from madrigal.compare.run import open_comparison, play_all

    comparison = open_comparison(
        run,
        folder,
        options.seeds,
        samples=options.samples,
        single=options.single,
        only=options.only,
        also=options.also,
        words=options.words,
    )
    if comparison.notice:
        console.print(plain_text(console, comparison.notice))
    with ExitStack() as view:

        def announce(title: str, made: Experiment) -> Callback:
            view.close()
            progress = Progress(console, made.steps, title)
            view.callback(progress.close)
            return progress

        try:
            done = play_all(comparison, announce)
        except KeyboardInterrupt:  # the second Ctrl-C: at once
            done = False
    if not done:
        stopped = f"Stopped; the same command goes on from what is saved in {folder}."
        console.print(plain_text(console, stopped, lines=False), soft_wrap=True)
        return 130
    rows, notices = rows_of_comparison(folder, comparison.seeds, options.k)
    for ending, text in {"json": _json(rows), "md": as_markdown(rows), "csv": as_csv(rows)}.items():
        (folder / f"comparison.{ending}").write_text(text)
    _show(rows, notices, console, options)
    also = f"Also as comparison.json, .md and .csv in {folder}"
    console.print(plain_text(console, also, lines=False), soft_wrap=True)
    return 0


def _check_k(options: argparse.Namespace, run: Experiment) -> None:
    if not options.k:
        return
    if not isinstance(run.task, Coding):
        raise ConfigError("compare: --k counts answers that pass every unit test; it needs a coding task")
    if not 1 <= min(options.k) <= max(options.k) <= options.samples:
        raise ConfigError(
            f"compare: pass@k needs k between 1 and --samples, which is {options.samples}, got "
            f"{', '.join(map(str, options.k))}"
        )


def _show(rows: Sequence[Row], notices: Sequence[str], console: Console, options: argparse.Namespace) -> None:
    for notice in notices:
        console.print(plain_text(console, notice), soft_wrap=True)
    if options.json:
        print(_json(rows), end="")
    elif options.markdown:
        print(as_markdown(rows), end="")
    elif options.csv:
        print(as_csv(rows), end="")
    else:
        console.print(*as_tables(rows, console.width))


def _json(rows: Sequence[Row]) -> str:
    return json.dumps(as_record(rows), indent=2) + "\n"
