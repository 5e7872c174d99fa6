"""Transcripts as one block of text that a page can carry: JSON, compressed, in letters that are no markup.

Knows: lines of episodes.jsonl, how much a page may weigh. Does not know: how they are shown.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from madrigal.runs.read import Line, Run, is_number

LIMIT = 4_000_000  # characters of the block, so that a page with its charts stays below 5 MB
LONGEST = 20_000  # characters of one text
HUNDREDTHS = 100  # log-probs are carried in hundredths of a nat: shades are coarser

Item = list[tuple[int, Line]]  # (run, line): an episode of training, or all evaluations of one example


@dataclass(frozen=True, slots=True)
class Packed:
    """What a page carries.

    Attributes:
        block: base64 of gzip of JSON.
        notices: one sentence for what was left out.
    """

    block: str
    notices: tuple[str, ...] = ()


def pack(runs: Sequence[Run], limit: int = LIMIT) -> Packed:
    """Packs every transcript, or an even selection where all of them weigh too much: held-out ones go first."""
    held, played = _items(runs)
    whole = _block(runs, [*held, *played])
    if len(whole) <= limit:
        return Packed(whole)
    alone = _block(runs, held)
    if len(alone) <= limit:
        block, count = _fitted(runs, held, played, limit, len(whole))
        return Packed(block, (_left_out(count, len(played), "training transcripts"),))
    block, count = _fitted(runs, [], held, limit, len(alone))
    notices = [_left_out(count, len(held), "held-out examples")]
    if played:
        notices.append(_left_out(0, len(played), "training transcripts"))
    return Packed(block, tuple(notices))


def schemes(record: Mapping[str, Any]) -> list[str]:
    """How the agents worked together, where the task says so by metrics `scheme/<name>`; several may hold.

    >>> schemes({"metrics": {"scheme/fallback": 1.0, "scheme/decorator": 0.0, "tests": 1.0}})
    ['fallback']
    """
    metrics = record.get("metrics")
    return [
        key.removeprefix("scheme/")
        for key, value in (metrics.items() if isinstance(metrics, dict) else ())
        if key.startswith("scheme/") and is_number(value) and value > 0
    ]


def _items(runs: Sequence[Run]) -> tuple[list[Item], list[Item]]:
    """The held-out examples, each with all its evaluations, and the episodes of training."""
    held: dict[tuple[int, str], Item] = {}
    played: list[Item] = []
    for number, run in enumerate(runs):
        for line in run.episodes:
            if "evaluation" in line.record:
                held.setdefault((number, str(line.record.get("example"))), []).append((number, line))
            else:
                played.append([(number, line)])
    return list(held.values()), played


def _fitted(runs: Sequence[Run], always: list[Item], some: list[Item], limit: int, weight: int) -> tuple[str, int]:
    """A block within the limit, and how many of `some` are in it; `weight` is that of all of them together."""
    base, count = len(_block(runs, always)), len(some)
    while True:
        room = max(0.0, (limit - base) / max(1, weight - base))
        count = int(count * min(0.97, room))
        block = _block(runs, [*always, *evenly(some, count)])
        if len(block) <= limit or not count:
            return block, count
        weight = len(block)


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """So many of the items, spread over all of them, the first and the last among them."""
    if count < 2:
        return list(items[:count])
    return [items[place * (len(items) - 1) // (count - 1)] for place in range(count)]


def _left_out(kept: int, count: int, what: str) -> str:
    return f"To stay small, this page holds {kept:,} of {count:,} {what}, spread evenly; episodes.jsonl holds them all."


def _block(runs: Sequence[Run], items: Sequence[Item]) -> str:
    messages: dict[tuple[str, str], int] = {}
    episodes = [_episode(number, line, messages) for item in items for number, line in item]
    whole = {"runs": [run.name for run in runs], "messages": list(messages), "episodes": episodes}
    data = json.dumps(whole, allow_nan=False, separators=(",", ":")).encode("ascii")
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")


def _episode(run: int, line: Line, messages: dict[tuple[str, str], int]) -> dict[str, Any]:
    record = line.record
    metrics = record.get("metrics")
    return {
        "run": run,
        "line": line.number,
        "step": record["step"],
        "evaluation": str(record.get("evaluation", "")),
        "sample": _figure(record.get("sample")),
        "example": str(record.get("example", "")),
        "reward": _figure(record["reward"]),
        "ending": str(record.get("ending", "")),
        "schemes": schemes(record),
        "metrics": {key: _figure(value) for key, value in metrics.items()} if isinstance(metrics, dict) else {},
        "details": _details(record.get("details")),
        "turns": [_turn(turn, messages) for turn in record["turns"]],
    }


def _turn(turn: Mapping[str, Any], messages: dict[tuple[str, str], int]) -> dict[str, Any]:
    given = turn.get("prompt")
    prompt = [message for message in given if isinstance(message, dict)] if isinstance(given, list) else []
    shown = [(str(m.get("role", "")), _clipped(str(m.get("content", "")))) for m in prompt]
    text = _clipped(turn["text"])
    return {
        "agent": turn["agent"],
        "round": _figure(turn.get("round")),
        "prompt": [messages.setdefault(message, len(messages)) for message in shown],
        "text": text,
        "tokens": _figure(turn.get("tokens")),
        "finish": str(turn.get("finish", "")),
        "reward": _figure(turn.get("reward")),
        "advantage": _figure(turn.get("advantage")),
        **_pieces(turn, text),
    }


def _pieces(turn: Mapping[str, Any], text: str) -> dict[str, list[int]]:
    """Lengths and log-probs of a turn's tokens, where they fit its text."""
    pieces, logprobs = turn.get("pieces"), turn.get("logprobs")
    if not isinstance(pieces, list) or not isinstance(logprobs, list) or len(pieces) != len(logprobs):
        return {}
    if not {*map(type, pieces)} <= {int} or min(pieces, default=0) < 0 or sum(pieces) != len(text):
        return {}
    if not {*map(type, logprobs)} <= {float, int} or not all(map(isfinite, logprobs)):
        return {}
    return {"pieces": pieces, "surprise": [round(-HUNDREDTHS * logprob) for logprob in logprobs]}


def _figure(value: object) -> float | None:
    """A number to six digits; None for what is none, or not finite."""
    if not is_number(value) or not isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _details(details: object) -> str:
    """As text: a page shows them and reads nothing from them."""
    if not details:
        return ""
    try:
        return _clipped(json.dumps(details))
    except RecursionError:
        return "nested too deep to be shown"


def _clipped(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} ... {len(text) - LONGEST:,} more characters are in episodes.jsonl"
