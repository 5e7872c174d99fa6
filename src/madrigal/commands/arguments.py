"""What a person sees of a mistake on the command line: one line, with the nearest flags that exist."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import re
import sys
from collections.abc import Callable, Sequence
from itertools import dropwhile, takewhile
from typing import TypeVar

from madrigal.types import ConfigError

T = TypeVar("T")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = "│╭╮╰╯|+ "


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str], *, mixed: bool = False) -> argparse.Namespace:
    """Reads the arguments of a command.

    Args:
        mixed: flags may stand before a last positional argument that may be left out, as in ask RUN --trust TEXT.

    Raises:
        ConfigError: in one line, where argparse would print its usage and exit.
    """
    read = parser.parse_known_intermixed_args if mixed else parser.parse_known_args
    options, strangers = quietly(lambda: read(arguments))
    if strangers:
        raise ConfigError(unknown_flag(strangers, own_flags(parser), parser.prog))
    return options


def own_flags(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of a command itself, beside the settings of an experiment."""
    return re.findall(r"--[\w-]+", parser.format_usage())


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The flag that allows what a file asks for beyond training."""
    what = "let a file import own code, switch off the sandbox, or send to an endpoint or tracker"
    parser.add_argument("--trust", action="store_true", help=what)


MISUSED = 2  # what parsers exit with


def quietly(read: Callable[[], T]) -> T:
    """Runs a parser that would print a page and exit, and makes its complaint one line; --help passes.

    Raises:
        ConfigError: with the complaint.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = read()
    except SystemExit as stop:
        if stop.code != MISUSED:  # --help, or a signal
            raise
        raise ConfigError(complaint(said.getvalue())) from stop
    sys.stderr.write(said.getvalue())
    return found


def complaint(text: str) -> str:
    """The sentence in a parser's page: what argparse says after "error:", or the first part of tyro's box.

    >>> complaint("usage: madrigal list [--json]\\nmadrigal list: error: expected one argument")
    'expected one argument'
    >>> complaint("╭─ Value error ──╮\\n│ invalid value  │\\n│ for --steps    │\\n│ ────────── │\\n│ Help │")
    'invalid value for --steps'
    """
    text = _COLOUR.sub("", text)
    _, marked, message = text.partition(": error: ")
    if marked:
        return " ".join(message.split())
    _, *lines = [line.strip(_FRAME) for line in text.strip().splitlines()] or [""]
    # Where a terminal has no UTF-8, rules are hyphens, and there is one below the title too.
    body = dropwhile(lambda line: not line.strip("─-"), lines)
    return " ".join(" ".join(takewhile(lambda line: line.strip("─-"), body)).split())


def unknown_flag(strangers: Sequence[str], known: Sequence[str], command: str) -> str:
    """One line for what no parser understood: the first flag in it, and the nearest that exist.

    >>> unknown_flag(["--lr", "1"], ["--steps", "--optimizer.lr"], "madrigal train tldr")
    'unknown setting --lr: did you mean --optimizer.lr? all are in: madrigal train tldr --help'
    """
    given = next((word for word in strangers if word.startswith("-")), "")
    if not given:
        return f"expected settings as --name value, got {strangers[0]!r}; all are in: {command} --help"
    flag = given.partition("=")[0].replace("_", "-")
    last = [name for name in known if _last(name) == _last(flag)]
    near = list(dict.fromkeys([*last, *difflib.get_close_matches(flag, known, n=3, cutoff=0.7)]))[:3]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown setting {flag}: {hint}all are in: {command} --help"


def _last(flag: str) -> str:
    return flag.lstrip("-").rpartition(".")[2]
