"""The run folder while it grows: experiment.json, steps.jsonl, episodes.jsonl, evaluation.json, checkpoints, team.

Knows: files and their names. Does not know: what the numbers mean. Imports no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from madrigal.types import ConfigError, TrainingError

Record = Mapping[str, Any]
Tracker = Callable[[int, Mapping[str, float]], None]


class RunLog:
    """Owns a run folder's records; every line is on disk when the call returns."""

    def __init__(self, folder: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.folder, self.trackers = folder, tuple(trackers)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def step(self, record: Record, episodes: Sequence[Record]) -> None:
        """Appends one step and its transcripts."""
        self._append("episodes.jsonl", episodes)
        self._append("steps.jsonl", [record])
        self._track(int(record["step"]), record, "train")

    def evaluation(self, when: str, result: Record, episodes: Sequence[Record], step: int) -> None:
        """Files an evaluation under its name in evaluation.json; transcripts go to episodes.jsonl."""
        path = self.folder / "evaluation.json"
        held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        held[when] = dict(result)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(held, indent=2) + "\n")
        draft.replace(path)
        self._append("episodes.jsonl", [{"evaluation": when, "step": step, **e} for e in episodes])
        self._track(step, result, "evaluation")

    def rewind(self, step: int) -> None:
        """Forgets what was recorded from `step` on: a resumed run writes it again."""
        for name in ("steps.jsonl", "episodes.jsonl"):
            # An evaluation after step N carries N itself and was made before the checkpoint of step N; only the one
            # after all steps comes later, and is always made again.
            held = [r for r in read_lines(self.folder / name) if r.get("evaluation") != "after"]
            kept = [r for r in held if r["step"] < step + (step > 0 and "evaluation" in r)]
            draft = self.folder / f"{name}.draft"
            draft.write_text("".join(json.dumps(r) + "\n" for r in kept))
            draft.replace(self.folder / name)

    def _append(self, name: str, records: Sequence[Record]) -> None:
        try:
            with (self.folder / name).open("a") as stream:
                stream.writelines(json.dumps(record) + "\n" for record in records)
        except OSError as error:
            raise TrainingError(
                f"{self.folder / name} could not be written: {error.strerror}; free some space and resume"
            ) from error

    def _track(self, step: int, record: Record, prefix: str) -> None:
        numbers = {f"{prefix}/{k}": float(v) for k, v in record.items() if isinstance(v, (int, float))}
        for tracker in self.trackers:
            tracker(step, numbers)


def new_run(runs: Path, name: str, *, overwrite: bool = False) -> Path:
    """Makes a run folder.

    Raises:
        ConfigError: if there is one that holds anything; naming the ways out.
    """
    folder = runs / name
    if folder.exists() and not (overwrite or _is_empty(folder)):
        raise ConfigError(
            f"the run folder {folder} exists; resume it with --resume, replace it with --overwrite, or choose another "
            "--name"
        )
    try:
        if folder.exists():
            _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the run folder {folder} cannot be made: {error.strerror}") from error
    return folder


def _is_empty(folder: Path) -> bool:
    """As a run leaves it that ended before it began: its model could not be loaded, say."""
    return folder.is_dir() and not any(folder.iterdir())


def _clear(folder: Path) -> None:
    """Empties a run folder; refuses one that Madrigal did not make."""
    if any(folder.iterdir()) and not (folder / "experiment.json").is_file():
        raise ConfigError(f"{folder} holds files but no experiment.json: not a run; choose another --name")
    shutil.rmtree(folder)


def free_name(runs: Path, name: str) -> str:
    """`name`, or `name-2`, `name-3`, ... where that folder exists."""
    names = [name, *(f"{name}-{n}" for n in range(2, 10_000))]
    return next(n for n in names if not (runs / n).exists() or _is_empty(runs / n))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file; a last line cut off by a kill is left out.

    Raises:
        ConfigError: if any other line is not JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:  # not JSON, or bytes that are no text
            if number == len(lines):
                break
            raise ConfigError(f"{path}: line {number} is not JSON: {getattr(error, 'msg', error)}") from error
    return records
