"""madrigal export: a team made of a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from madrigal.commands.arguments import add_trust, parse


def export_command(arguments: list[str]) -> int:
    """madrigal export RUN [--step N] [--output DIR] [--trust]"""
    parser = argparse.ArgumentParser(prog="madrigal export", description="Make a team of a checkpoint of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, help="the checkpoint's step; the newest by default")
    parser.add_argument(
        "--output", type=Path, help="where to; by default RUN/team where there is none yet, else RUN/team-step-N"
    )
    add_trust(parser)
    options = parse(parser, arguments)
    from madrigal.training.saving import export

    print(export(options.run, options.step, options.output, trust=options.trust))
    return 0
