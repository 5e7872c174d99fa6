"""When and by what a run was made, and what it took, as far as its files say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from madrigal.runs.read import Run, is_number


def origin(run: Run) -> dict[str, str]:
    """Date, version, machine, time and tokens of a run; what its files lack is left out."""
    sessions = list(_sessions(run))
    machines = [session["machine"] for session in sessions if isinstance(session.get("machine"), Mapping)]
    seconds, tokens = (_total(run, key) for key in ("seconds", "tokens"))
    found = {
        "Date": _distinct(str(session.get("date", ""))[:10] for session in sessions),
        "Madrigal": _distinct(str(session.get("madrigal", "")) for session in sessions),
        "Hardware": _distinct(_hardware(machine) for machine in machines),
        "Training time": duration(seconds) if seconds else "",
        "Tokens": f"{tokens:,.0f}" if tokens else "",
    }
    return {label: value for label, value in found.items() if value}


def _sessions(run: Run) -> Iterator[Mapping[str, Any]]:
    """The stretches of a run that run.json lists: the start and every resumption."""
    try:
        about = json.loads((run.folder / "run.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    sessions = about.get("sessions") if isinstance(about, dict) else None
    yield from (one for one in sessions if isinstance(one, dict)) if isinstance(sessions, list) else ()


def _hardware(machine: Mapping[str, Any]) -> str:
    device, cores = str(machine.get("device", "")), machine.get("cores")
    return f"{cores} cores" if device == "cpu" and is_number(cores) else device


def _total(run: Run, key: str) -> float:
    values: Sequence[Any] = [line.record.get(key) for line in run.steps]
    return sum(value for value in values if is_number(value) and 0 <= value < 1e15)


def _distinct(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(59.6), duration(3725), duration(200000)
    ('60 s', '1 h 2 min', '55 h 33 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {int(seconds) % 60} s"
