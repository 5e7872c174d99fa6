"""madrigal ask RUN "text": a trained team answers something new."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from madrigal.commands.arguments import add_trust, parse
from madrigal.runs.files import parse_json
from madrigal.runs.plain import plain
from madrigal.tasks.data import read_rows, row_id
from madrigal.types import ConfigError


def ask_command(arguments: list[str]) -> int:
    """madrigal ask RUN "text" | --input rows.jsonl | - [--json] [--seed N] [--greedy] [--step N] [--trust]"""
    parser = argparse.ArgumentParser(
        prog="madrigal ask", description="Ask a trained team something new; no reference answer is needed."
    )
    parser.add_argument("run", help="the folder of a run or a team, or owner/name of a team on the hub")
    parser.add_argument("text", nargs="?", help="what to ask; - reads it from the standard input")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="a .jsonl, .json, .parquet or .csv file, or - for lines of JSON from the "
        "standard input; a row holds the fields of an example",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per answer, with every turn")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal answers")
    parser.add_argument("--greedy", action="store_true", help="every agent takes its most likely words")
    parser.add_argument("--step", type=int, help="ask the team of this checkpoint instead of the saved team")
    add_trust(parser)
    options = parse(parser, arguments, mixed=True)
    if (options.text is None) == (options.input is None):
        raise ConfigError("ask: expected a text, - for the standard input, or --input FILE, and only one of them")
    names, rows = map(list, zip(*_rows(options), strict=True))
    from madrigal.training.trained_team import load_team  # it loads models

    team = load_team(options.run, step=options.step, trust=options.trust)
    if not (options.json or options.input):
        shown = _Shown()
        for turn in team.iter_turns(rows[0], seed=options.seed, greedy=options.greedy, overhear=shown.grow):
            shown.end(turn)
        return 0
    answers = team.iter_answers(rows, seed=options.seed, greedy=options.greedy)
    for name, answer in zip(names, answers, strict=True):
        record = {"id": name, "answers": dict(answer.answers), "turns": answer.turns}
        print(json.dumps(record), flush=True)
    return 0


def _rows(options: argparse.Namespace) -> Iterator[tuple[str, str | dict[str, Any]]]:
    """What is asked, each with its id: the row's own, or its place in the file as of a test split."""
    if options.input is None:
        text = sys.stdin.read() if options.text == "-" else options.text
        if not text.strip():
            raise ConfigError("ask: expected a text, got nothing")
        yield "test-0", text
        return
    rows: Sequence[Any]
    if options.input == "-":
        rows = list(_lines(sys.stdin.read().encode("utf-8", "surrogateescape"), "the standard input"))
    elif options.input.endswith(".jsonl") and Path(options.input).is_file():
        rows = list(_lines(Path(options.input).read_bytes(), options.input))
    else:
        rows = read_rows(options.input)
    if not rows:
        raise ConfigError(f"--input: expected at least one row, found none in {options.input}")
    yield from ((row_id(row if isinstance(row, dict) else {}, place, "test"), row) for place, row in enumerate(rows))


def _lines(content: bytes, where: str) -> Iterator[str | dict[str, Any]]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, where)
        except ConfigError as error:
            raise ConfigError(f"{where}, line {number}: expected JSON; mend or remove that line") from error
        if not isinstance(row, dict | str):
            raise ConfigError(f"{where}, line {number}: expected a text or an object with fields, got {row!r:.60}")
        yield row


class _Shown:
    """Turns on the screen as they grow: of agents that speak at once the first, and when it has ended the next."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # policies speak in threads of their own
        self.open: dict[str, tuple[int, str]] = {}  # round and words of turns that are not over, in their order
        self.printed = ""

    def grow(self, agent: str, round: int, text: str) -> bool:
        """Prints what is new of a turn, if it is the first that is not over."""
        with self.lock:
            self.open[agent] = round, text
            self._print()
        return True

    def end(self, turn: Mapping[str, Any]) -> None:
        """Prints the rest of a turn, and what is known of the next."""
        cut = " [cut off at the limit]" if turn["finish"] == "length" else ""
        self.grow(turn["agent"], turn["round"], turn["text"])
        with self.lock:
            print(f"{cut}\n")
            del self.open[turn["agent"]]
            self.printed = ""
            self._print()

    def _print(self) -> None:
        if not self.open:
            return
        agent, (round, text) = next(iter(self.open.items()))
        shown = f"{plain(agent)}{f', round {round + 1}' if round else ''}:\n{plain(text)}"
        print(shown[len(self.printed) :], end="", flush=True)
        self.printed = shown
