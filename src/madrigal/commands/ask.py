"""madrigal ask RUN "text": a trained team answers something new."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from madrigal.commands.arguments import parse
from madrigal.runs.plain import plain
from madrigal.types import ConfigError

BATCH = 32  # rows answered together; the first answers of a long file come early


def ask_command(arguments: list[str]) -> int:
    """madrigal ask RUN "text" | --input rows.jsonl | - [--json] [--seed N] [--greedy] [--step N] [--trust]"""
    parser = argparse.ArgumentParser(
        prog="madrigal ask", description="Ask a trained team something new; no reference answer is needed."
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("text", nargs="?", help="what to ask; - reads it from the standard input")
    parser.add_argument("--input", type=Path, metavar="FILE", help="a JSONL file; a row holds the fields of an example")
    parser.add_argument("--json", action="store_true", help="one JSON object per answer, with every turn")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal answers")
    parser.add_argument("--greedy", action="store_true", help="every agent takes its most likely words")
    parser.add_argument("--step", type=int, help="ask the team of this checkpoint instead of the saved team")
    parser.add_argument("--trust", action="store_true", help="allow what the run's file asks for: own code, no sandbox")
    options = parse(parser, arguments)
    if (options.text is None) == (options.input is None):
        raise ConfigError("ask: expected a text, - for the standard input, or --input FILE, and only one of them")
    rows = list(_rows(options))
    from madrigal.api import load_team  # it loads models

    team = load_team(options.run, step=options.step, trust=options.trust)
    for start in range(0, len(rows), BATCH):
        for answer in team.answer_many(rows[start : start + BATCH], seed=options.seed + start, greedy=options.greedy):
            if options.json or options.input:
                print(json.dumps({"answers": dict(answer.answers), "turns": asdict(answer)["turns"]}), flush=True)
            else:
                _show(answer.turns)
    return 0


def _rows(options: argparse.Namespace) -> Iterator[str | dict[str, Any]]:
    if options.input is None:
        text = sys.stdin.read() if options.text == "-" else options.text
        if not text.strip():
            raise ConfigError("ask: expected a text, got nothing")
        yield text
        return
    if not options.input.is_file():
        raise ConfigError(f"--input: expected a file, found none at {options.input}")
    for number, line in enumerate(options.input.read_text("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{options.input}, line {number}: expected JSON ({error})") from error
        if not isinstance(row, dict | str):
            raise ConfigError(
                f"{options.input}, line {number}: expected a text or an object with fields, got {row!r:.60}"
            )
        yield row


def _show(turns: Any) -> None:
    rounds = {turn["round"] for turn in turns}
    for turn in turns:
        where = f", round {turn['round'] + 1}" if len(rounds) > 1 else ""
        cut = " [cut off at the limit]" if turn["finish"] == "length" else ""
        print(f"{plain(turn['agent'])}{where}:\n{plain(turn['text'])}{cut}\n")
