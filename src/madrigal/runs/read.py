"""Reads run folders, whole or not; what is missing or broken in them becomes a notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from madrigal.types import ConfigError

Record = dict[str, Any]
HUGE = 10**15
MOST = 5  # broken lines of one file that have a notice of their own; the others are listed by number


@dataclass(frozen=True, slots=True)
class Line:
    """One record of a JSONL file, and the number of its line, from 1."""

    number: int
    record: Record


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, read.

    Attributes:
        name: its folder's, made distinct where several runs are read.
        settings: experiment.json.
        steps, episodes: the lines of steps.jsonl and episodes.jsonl that could be read.
        evaluations: evaluation.json, in the order in which they were made.
        comparison: comparison.json of the folder or the nearest of two above it, empty where there is none.
        contender: what a comparison calls it, empty for other runs.
        validations: validation.json, in the order in which they were made.
        warm: the lines of warm.jsonl.
        notices: one sentence for each thing that is missing or could not be read.
    """

    name: str
    folder: Path
    settings: Record
    steps: tuple[Line, ...]
    episodes: tuple[Line, ...]
    evaluations: dict[str, Record]
    comparison: Record
    notices: tuple[str, ...]
    contender: str = ""
    validations: Mapping[str, Record] = field(default_factory=dict)
    warm: tuple[Line, ...] = ()

    @property
    def planned(self) -> int:
        """The number of steps that the run was meant to make."""
        steps = self.settings.get("steps")
        return steps if isinstance(steps, int) else 0

    @property
    def made(self) -> int:
        """The number of steps that it has made so far."""
        return max((line.record["step"] for line in self.steps), default=-1) + 1

    @property
    def ended(self) -> bool:
        return "after" in self.evaluations


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders of one task; the folder of a comparison stands for all runs in it.

    Raises:
        ConfigError: if a folder is no run, is given twice, or two are of different tasks.
    """
    folders = [run for folder in folders for run in _runs_in(folder)]
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise ConfigError("report: expected every run once, got one of them twice")
    short = len({path.name for path in paths}) == len(paths)
    names = [path.name if short else f"{path.parent.name}/{path.name}" for path in paths]
    runs = [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    for run in runs[1:]:
        # Contenders of one comparison are compared, whatever their tasks are called.
        if not run.contender and task_of(run) != task_of(runs[0]):
            raise ConfigError(
                f"report: {runs[0].folder} is a run of the task {task_of(runs[0])}, {run.folder} of {task_of(run)}; "
                "one page shows runs of one task, so make one for each"
            )
    return runs


def _runs_in(folder: Path) -> list[Path]:
    if (folder / "experiment.json").is_file() or not (folder / "comparison.json").is_file():
        return [folder]
    return sorted(file.parent for file in folder.glob("seed-*/*/experiment.json"))


def read_run(folder: Path, name: str = "") -> Run:
    """Reads one run folder; what is broken in it becomes a notice.

    Raises:
        ConfigError: if it holds no experiment.json that can be read.
    """
    file = folder / "experiment.json"
    if not file.is_file():
        raise ConfigError(f"report: expected a run folder with an experiment.json, found none in {folder}")
    notices: list[str] = []
    settings = _object(file, notices)
    if notices:
        raise ConfigError(f"report: {folder}: {notices[0]}")
    steps, broken_steps = readable_lines(folder / "steps.jsonl", _flaw_of_step)
    episodes, broken_episodes = readable_lines(folder / "episodes.jsonl", _flaw_of_episode)
    evaluations = _evaluations(folder / "evaluation.json", notices)
    comparison = _nearest("comparison.json", [folder, *folder.resolve().parents[:2]], notices)
    contender = str(_nearest("contender.json", [folder], notices).get("name", ""))
    validations = _evaluations(folder / "validation.json", notices)
    made = (folder / "warm.jsonl").is_file()
    warm, broken_warm = readable_lines(folder / "warm.jsonl", lambda record: "") if made else ((), [])
    run = Run(
        name=name or folder.name,
        folder=folder,
        settings=settings,
        steps=steps,
        episodes=episodes,
        evaluations=evaluations,
        comparison=comparison,
        notices=(),
        contender=contender,
        validations=validations,
        warm=warm,
    )
    return replace(run, notices=(*_state(run), *notices, *broken_steps, *broken_episodes, *broken_warm))


def task_of(run: Run) -> str:
    """What a run is about: the task's kind, and its name or place where one kind has several."""
    task = run.settings.get("task")
    parts = [task.get(key) for key in ("kind", "name", "path")] if isinstance(task, Mapping) else []
    words = [PurePath(str(part)).name for part in parts if part]  # a run may have been moved
    new = [word for place, word in enumerate(words) if word.lower() not in map(str.lower, words[:place])]
    return " ".join(new) or "unknown"


def readable_lines(path: Path, flaw: Callable[[Record], str]) -> tuple[tuple[Line, ...], list[str]]:
    """The records of a JSONL file, and a notice for each line that is left out and why."""
    if not path.is_file():
        return (), [f"{path.name} is missing."]
    lines, broken = list[Line](), dict[int, str]()
    parts = path.read_bytes().split(b"\n")
    for number, part in enumerate(parts, start=1):
        if not part.strip():
            continue
        record, why = _parsed(part)
        if why := why or flaw(record):
            broken[number] = "was cut off while it was written" if number == len(parts) else why
        else:
            lines.append(Line(number, record))
    notices = [f"{path.name}: line {number} {why} and is left out." for number, why in list(broken.items())[:MOST]]
    if len(broken) > MOST:
        rest = ", ".join(map(str, list(broken)[MOST:]))
        notices.append(f"{path.name}: {len(broken) - MOST} more lines could not be read and are left out: {rest}.")
    return tuple(lines), notices


def _parsed(content: bytes) -> tuple[Record, str]:
    """A JSON object, or the reason why there is none."""
    try:
        value = json.loads(content)
    except UnicodeDecodeError:
        return {}, "is not UTF-8"
    # Lists nested thousands deep, and numbers thousands of digits long, fail in their own ways.
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error.msg if isinstance(error, json.JSONDecodeError) else 'too large to read'})"
    return (value, "") if isinstance(value, dict) else ({}, "is not a JSON object")


def _object(path: Path, notices: list[str]) -> Record:
    value, why = _parsed(path.read_bytes())
    if why:
        notices.append(f"{path.name} {why}.")
    return value


def _nearest(name: str, folders: Sequence[Path], notices: list[str]) -> Record:
    """The JSON object of that name in the first of the folders that has it."""
    paths = [folder / name for folder in folders if (folder / name).is_file()]
    return _object(paths[0], notices) if paths else {}


def _evaluations(path: Path, notices: list[str]) -> dict[str, Record]:
    if not path.is_file():
        return {}
    results = _object(path, notices)
    whole = {when: result for when, result in results.items() if isinstance(result, dict) and _is_evaluation(result)}
    broken = results.keys() - whole
    notices.extend(f"{path.name}: {when!r} is not an evaluation and is left out." for when in broken)
    return dict(sorted(whole.items(), key=lambda item: order(item[0])))


def order(when: str) -> tuple[int, int]:
    """Sorts evaluations by time: before, warm, step-N or validation-N, after.

    >>> sorted(["after", "step-50", "validation-5", "warm", "before"], key=order)
    ['before', 'warm', 'validation-5', 'step-50', 'after']
    """
    step = when.removeprefix("step-").removeprefix("validation-")
    if step.isascii() and step.isdigit():
        return 1, int(step)
    return {"before": (0, 0), "warm": (1, 0), "after": (3, 0)}.get(when, (2, 0))


def _is_evaluation(result: Record) -> bool:
    figures = (result.get(key) for key in ("return_percent", "low", "high", "examples"))
    parts = result.get("components")
    return all(map(is_number, figures)) and isinstance(parts, dict) and all(map(is_number, parts.values()))


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value of JSON is a number that arithmetic can take; integers there have no bound."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < HUGE


def _flaw_of_step(record: Record) -> str:
    step = record.get("step")
    return "" if type(step) is int and 0 <= step < HUGE else "names no step"


def _flaw_of_episode(record: Record) -> str:
    turns = record.get("turns")
    if not is_number(record.get("step")) or not is_number(record.get("reward")):
        return "has no step or no reward"
    return "" if isinstance(turns, list) and all(map(_is_turn, turns)) else "has no turns of agents with texts"


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("agent"), str) and isinstance(turn.get("text"), str)


def _state(run: Run) -> Iterator[str]:
    """What a reader must know of a run that is not whole; a run of no steps was only to be played."""
    if not run.ended:
        yield f"This run has not ended: {run.made} of {run.planned} steps are recorded."
    if not run.evaluations:
        yield "There is no evaluation yet, so nothing is said about held-out examples."
    if run.made == 0 and run.planned:
        yield "No training step is recorded, so there are no curves."
    if missing := run.made - len({line.record["step"] for line in run.steps}):
        yield f"steps.jsonl: {missing} of {run.made} steps are missing."
