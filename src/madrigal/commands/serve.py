"""madrigal serve RUN: a trained team behind OpenAI's interface, on this machine."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from rich.console import Console

from madrigal.commands.arguments import add_trust, parse
from madrigal.runs.plain import plain
from madrigal.types import ConfigError

KEY = "MADRIGAL_SERVE_KEY"
PORT = 8080


def serve_command(arguments: list[str]) -> int:
    """madrigal serve RUN [--port N] [--name NAME] [--step N] [--device D] [--ignore-history] [--trust] ..."""
    options = parse(_parser(), arguments)
    for name in ("playing", "waiting", "timeout"):
        if not getattr(options, name) >= 1:  # nor not a number
            raise ConfigError(f"serve: --{name}: expected 1 or more, got {getattr(options, name)}")
    try:
        from madrigal.serving.pages import team_app
        from madrigal.serving.service import Limits, TeamService
        from madrigal.serving.web import listen, serve, url_of
    except ImportError as error:
        raise ConfigError(f"serve: {error.name} is not installed; install madrigal[serve]") from error
    from madrigal.training.trained_team import load_team

    name = options.name or Path(options.run).resolve().name
    logging.basicConfig(level=logging.WARNING)
    with listen(options.port, "serve") as listening:  # a port that is taken is found before any weight is loaded
        team = load_team(options.run, step=options.step, trust=options.trust, device=options.device)
        service = TeamService(team, name, Limits(options.playing, options.waiting, options.ignore_history))
        key = os.environ.get(KEY, "").strip()
        lock = f"with the key of {KEY}" if key else f"without a key (set {KEY} to ask for one)"
        shown = f"{plain(service.name, lines=False)} answers at {url_of(listening)}/v1, {lock}; Ctrl-C ends it"
        Console().print(shown, soft_wrap=True, markup=False, highlight=False)
        serve(team_app(service, key, options.timeout), listening)
        service.worker.close(seconds=10)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal serve",
        description="A trained team behind OpenAI's interface, on this machine.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="the folder of a run or a team, or owner/name of a team on the hub")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument("--name", default="", help="of the model, team/NAME; default: that of the run folder")
    parser.add_argument("--step", type=int, help="the team of this checkpoint instead of the saved team")
    parser.add_argument("--device", default="", help="auto, cpu or cuda, instead of the run's")
    parser.add_argument(
        "--ignore-history", action="store_true", help="of a chat with the team, answer the last message alone"
    )
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that an answer may take; default: 300")
    parser.add_argument("--playing", type=int, default=64, help="answers that are given together; default: 64")
    parser.add_argument("--waiting", type=int, default=256, help="answers that may wait for a place; default: 256")
    add_trust(parser)
    return parser
