"""madrigal list: tasks, environments, recipes, algorithms, topologies, and who may sit in a seat, by name."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.commands.arguments import parse
from madrigal.recipes import RECIPES
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.tasks.catalog import ENVIRONMENTS, TASKS, environment_name


def list_command(arguments: list[str]) -> int:
    """madrigal list [--json]"""
    parser = argparse.ArgumentParser(prog="madrigal list", description="What there is to choose from.")
    parser.add_argument("--json", action="store_true")
    options = parse(parser, arguments)
    recipes = {name: (make.__doc__ or "").split("\n")[0] for name, make in RECIPES.items()}
    topologies = {name: what for name, (_, what) in TOPOLOGIES.items()}
    tasks = {name: entry.what for name, entry in TASKS.items()}
    algorithms = {name: what for name, (_, what) in ALGORITHMS.items()}
    seats = {
        "model": "a model of this process, which learns or not (--team.policy.*, --team.seats.AGENT.*)",
        "remote": "an endpoint of OpenAI's protocol, which does not learn (--team.seats.AGENT.remote.url URL)",
        "script": "a function answer(messages, seed) of your own (--team.seats.AGENT.script file.py:answer)",
    }
    environments = {environment_name(entry.config): f"{entry.what}, say" for entry in ENVIRONMENTS.values()}
    lists = {
        "tasks": tasks,
        "environments": environments,
        "recipes": recipes,
        "algorithms": algorithms,
        "topologies": topologies,
        "seats": seats,
    }
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
