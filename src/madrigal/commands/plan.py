"""madrigal plan: what a run will take of this machine, before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.commands.arguments import add_trust, own_flags, quietly
from madrigal.commands.overrides import with_settings
from madrigal.recipes.start import base_experiment, require_trust
from madrigal.types import ConfigError, unknown

if TYPE_CHECKING:
    from madrigal.settings import ClusterConfig
    from madrigal.training.plan import Plan

GB = 1e9
LEAST = 0.005 * GB  # of a part that is shown


def plan_command(arguments: list[str]) -> int:
    """madrigal plan RECIPE|RUN|FILE|file.py:task [--algorithm NAME] [--card NAME] [--trust] [settings]"""
    parser = argparse.ArgumentParser(
        prog="madrigal plan",
        description="Memory, tokens and seconds of a run, before any weight is loaded.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", metavar="RECIPE|RUN|FILE|file.py:task")
    parser.add_argument("--algorithm", default="", metavar="NAME", help="how credit is given; madrigal list has them")
    parser.add_argument("--card", default="", metavar="NAME", help="plan for a GPU, h100 or h200")
    add_trust(parser)
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    start = base_experiment(options.recipe)
    if options.algorithm and options.algorithm not in ALGORITHMS:
        raise ConfigError(unknown("algorithm", options.algorithm, ALGORITHMS))
    if options.algorithm:
        start = dataclasses.replace(start, algorithm=switch_algorithm(start.algorithm, options.algorithm))
    run = with_settings(start, settings, f"madrigal plan {options.recipe}", own_flags(parser))
    if not options.trust:
        require_trust(run, options.recipe, settings, options.recipe)
    from madrigal.training.checks import open_checked_task
    from madrigal.training.demonstrations import read_demonstrations
    from madrigal.training.held_out import held_out
    from madrigal.training.plan import make_plan, ways_out
    from madrigal.training.seconds import card_of
    from madrigal.training.teams import use_threads
    from madrigal.training.train import trained_examples

    card = card_of(options.card) if options.card else None
    use_threads(run.threads)
    with open_checked_task(run) as task:
        examples = trained_examples(run, task, read_demonstrations(run, task)), held_out(run, task)
        plan = make_plan(run, task, *examples, card=card)
        console = Console()
        show_plan(console, plan)
        if run.cluster.address:
            show_roles(console, plan, run.cluster)
        if not plan.fits and not (card and run.cluster.address):  # no device of a cluster holds it all
            console.print("What to change (memory then):")
            for way in ways_out(run, task, *examples):
                console.print(f"  {way}", soft_wrap=True, markup=False)
    return 0


def show_plan(console: Console, plan: Plan) -> None:
    """A plan as a table of memory, and lines about all else."""
    for name, what in plan.models.items():
        console.print(f"{name}: {what}", soft_wrap=True, markup=False)
    parts = plan.parts
    table = Table("memory on the device", "GB", title=str(plan.device), title_justify="left")
    table.columns[1].justify = "right"
    for times in (parts.lasting, parts.update, parts.sampling):
        title = {id(parts.update): "while updating", id(parts.sampling): "while sampling"}.get(id(times), "")
        for name, number in times.items():
            if number >= LEAST:
                table.add_row(f"{title}: {name}" if title else name, f"{number / GB:.2f}")
    table.add_row("at the fullest time", f"{parts.total / GB:.2f}", style="bold")
    console.print(table)
    console.print(plan.summary, soft_wrap=True, markup=False)
    if not any(body.trained for body in plan.bodies):
        return
    seconds = plan.seconds()
    lasts = "" if seconds is None else f", about {seconds:.3g} s where all are that long"
    console.print(f"one step: at most {plan.tokens:,} tokens of answers{lasts}", soft_wrap=True, markup=False)
    console.print(f"one checkpoint: {plan.checkpoint / GB:.2f} GB on the disk, {plan.keep} are kept", soft_wrap=True)


def show_roles(console: Console, plan: Plan, config: ClusterConfig) -> None:
    """What each role of a cluster takes, and which of them the others wait for."""
    from madrigal.training.roles import roles_of, step_seconds, traffic

    roles = roles_of(plan, config)
    step = step_seconds(roles, config)
    title = f"cluster: each role, on {'such cards' if plan.card else 'machines like this one'}"
    table = Table("role", "processes", "GB each", "busy s a step", "idle", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for role in roles:
        busy, idle = (f"{role.seconds:.3g}", f"{1 - role.seconds / step:.0%}") if role.seconds else ("", "")
        size = f"{role.memory / GB:.2f}"
        if plan.card and role.memory > plan.card.memory and role.name != "this process":
            size += f" of {plan.card.memory / GB:.0f}: too much"
        table.add_row(role.name, str(role.count), size, busy, idle)
    console.print(table)
    learning = sum(role.count for role in roles if role.name.startswith("learner "))
    cards = learning * config.gpus_per_learner + config.workers * config.gpus_per_worker
    if cards:
        console.print(f"GPUs: {cards:g}")
    if step:
        slowest = max(roles, key=lambda role: role.seconds)
        console.print(
            f"one step: about {step:.3g} s and at most {plan.tokens / step:,.0f} tokens/s, judging not counted; "
            f"the bottleneck: {slowest.name}",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"weights sent in each step: {traffic(plan, config) / GB:.2f} GB", soft_wrap=True, markup=False)
