"""madrigal report: one page about runs, made from their folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from madrigal.commands.arguments import parse
from madrigal.report.document import page_of
from madrigal.runs.plain import plain
from madrigal.runs.read import read_runs
from madrigal.types import ConfigError


def report_command(arguments: list[str]) -> int:
    """madrigal report RUN... [--output FILE]"""
    parser = argparse.ArgumentParser(
        prog="madrigal report", description="Make one page about a run, or about several runs of one task."
    )
    parser.add_argument("run", type=Path, nargs="+", help="run folders; seeds of one recipe become one curve")
    parser.add_argument("--output", type=Path, help="the page; by default report.html in the run's folder")
    options = parse(parser, arguments)
    print(plain(write_report(options.run, options.output), lines=False))
    return 0


def write_report(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Writes the page and returns its path: by default in the run's folder, or beside the first of several runs.

    Raises:
        ConfigError: if a folder is no run, two are of different tasks, or the page cannot be written.
    """
    page = page_of(read_runs(folders))
    target = output or (folders[0] if len(folders) == 1 else folders[0].parent) / "report.html"
    if target.exists() and not target.is_file():  # a device would be replaced by the page
        kind = "folder" if target.is_dir() else "device"
        raise ConfigError(f"report: expected a file to write the page to, got the {kind} {target}; name another")
    draft = target.with_name(f".{target.name}.draft")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Half of a pair that JSON allows and UTF-8 does not: a page must not fail on it.
        draft.write_text(page, encoding="utf-8", errors="replace")
        draft.replace(target)
    except OSError as error:
        raise ConfigError(f"report: {target} could not be written: {error.strerror}") from error
    return target
