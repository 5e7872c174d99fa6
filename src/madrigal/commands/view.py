"""madrigal view: the report of runs in a browser, up to date while they go on."""

from __future__ import annotations

import argparse
from pathlib import Path

from madrigal.commands.arguments import parse
from madrigal.report.live import PORT, LiveServer
from madrigal.runs.plain import plain
from madrigal.types import ConfigError


def view_command(arguments: list[str]) -> int:
    """madrigal view RUN... [--port N]"""
    parser = argparse.ArgumentParser(
        prog="madrigal view",
        description="Show the report of runs in a browser on this machine, up to date while they go on.",
    )
    parser.add_argument("run", type=Path, nargs="+", help="run folders, running or ended")
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT} by default; 0 takes a free one")
    options = parse(parser, arguments)
    if not 0 <= options.port < 1 << 16:
        raise ConfigError(f"view: --port: expected 0 to 65535, got {options.port}")
    with LiveServer(options.run, options.port) as server:
        runs = ", ".join(map(str, options.run))
        print(plain(f"{server.address} shows {runs}; Ctrl-C ends it", lines=False), flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
