"""The records of a run while they grow: steps, episodes, the warm start, evaluations on test and validation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from madrigal.runs.files import append_lines, flush, parse_json, read_object, write_whole
from madrigal.types import ConfigError

Record = Mapping[str, Any]
Row = tuple[str, float, str]
STEPS, EPISODES, EVALUATION = "steps.jsonl", "episodes.jsonl", "evaluation.json"
VALIDATION, WARM = "validation.json", "warm.jsonl"
LAST = "after"  # the evaluation when all steps are made
SPLIT = "validation-"  # before the step, what transcripts of the validation split are called


class Tracker(Protocol):
    """Sends to a service the numbers of a step by name, and rows of example, normalized return, transcript."""

    def __call__(self, step: int, numbers: Mapping[str, float], rows: Sequence[Row] = ()) -> None: ...


class RunLog:
    """Owns a run folder's records; every line is written when the call returns, and on the disk after `flush`.

    Args:
        shown: transcripts of each evaluation that trackers are sent.
    """

    def __init__(self, folder: Path, trackers: Sequence[Tracker] = (), shown: int = 0) -> None:
        self.folder, self.trackers, self.shown = folder, tuple(trackers), shown

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def step(self, record: Record, episodes: Sequence[Record]) -> None:
        """Appends one step and its transcripts."""
        append_lines(self.folder / EPISODES, episodes)
        append_lines(self.folder / STEPS, [record])
        self._track(int(record["step"]), record, "train")

    def warm(self, record: Record) -> None:
        """Appends a row of the warm start: what was kept, or an epoch. All of it comes before the first step."""
        append_lines(self.folder / WARM, [record])
        self._track(record.get("epoch", 0), record, "warm")

    def evaluations(self) -> dict[str, Any]:
        """What is filed in evaluation.json, by name.

        Raises:
            ConfigError: if it cannot be read.
        """
        return self._filed(EVALUATION)

    def validations(self) -> dict[str, Any]:
        """What is filed in validation.json, by name, where the best weights are kept.

        Raises:
            ConfigError: if it cannot be read.
        """
        return self._filed(VALIDATION)

    def _filed(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_object(path) if path.exists() else {}

    def evaluation(self, when: str, result: Record, episodes: Sequence[Record], step: int) -> None:
        """Files an evaluation under its name in evaluation.json; transcripts go to episodes.jsonl, before that."""
        filed = {**self.evaluations(), when: dict(result)}
        self._file(EVALUATION, filed, [{"evaluation": when, "step": step, **e} for e in episodes])
        self._track(step, result, "evaluation", [_row(episode) for episode in episodes[: self.shown]])

    def validation(self, result: Record, episodes: Sequence[Record], step: int) -> None:
        """Files an evaluation on the validation split, apart from those on the test split."""
        filed = {**self.validations(), f"step-{step}": dict(result)}
        self._file(VALIDATION, filed, [{"evaluation": f"{SPLIT}{step}", "step": step, **e} for e in episodes])
        self._track(step, result, "validation", [_row(episode) for episode in episodes[: self.shown]])

    def _file(self, name: str, filed: Record, episodes: Sequence[Record]) -> None:
        """What is filed is whole: a kill before that leaves transcripts that `rewind` drops."""
        append_lines(self.folder / EPISODES, episodes)
        write_whole(self.folder / name, json.dumps(filed, indent=2) + "\n")

    def flush(self) -> None:
        """Waits until all records are on the disk, so that no checkpoint is ahead of them."""
        for name in (STEPS, EPISODES, WARM):
            if (self.folder / name).is_file():
                flush(self.folder / name)

    def check(self, step: int) -> list[str]:
        """What is wrong with the records of a run that goes on from `step`, in a sentence each.

        Raises:
            ConfigError: if a file cannot be read at all.
        """
        self.evaluations()
        self.validations()
        read_steps(self.folder / EPISODES)
        steps = {record["step"] for record in read_steps(self.folder / STEPS)}
        if not (missing := sorted(set(range(step)) - steps)):
            return []
        span = str(missing[0]) if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
        return [f"{STEPS} lacks {len(missing)} of the {step} steps that were made ({span})"]

    def rewind(self, step: int, *, extended: bool = False, within: bool = False) -> None:
        """Forgets what was recorded from `step` on: a resumed run writes it again.

        Args:
            extended: the run had ended here and now goes on; its last evaluation becomes one in between.
            within: there is a checkpoint of this step, so that what came before step 0 is not made again.
        """
        if not (step or within):
            (self.folder / WARM).unlink(missing_ok=True)
        between = f"step-{step}"
        filed = {between, *self.evaluations(), *(when.replace("step-", SPLIT) for when in self.validations())}
        for name in (STEPS, EPISODES):
            records = read_steps(self.folder / name)
            if extended:
                records = [r | {"evaluation": between} if r.get("evaluation") == LAST else r for r in records]
            # An evaluation after step N carries N itself and was made before the checkpoint of step N; only the one
            # after all steps comes later, and is always made again.
            earlier = [r for r in records if r.get("evaluation") != LAST and r.get("evaluation", between) in filed]
            kept = [r for r in earlier if r["step"] < step + ((within or step > 0) and "evaluation" in r)]
            if records or (self.folder / name).exists():
                write_whole(self.folder / name, "".join(json.dumps(r) + "\n" for r in kept))
        results = self.evaluations()
        if extended and LAST in results:
            results[between] = results[LAST]
        kept_results = {when: result for when, result in results.items() if not _is_after(when, step)}
        if kept_results != results or LAST in results:
            write_whole(self.folder / EVALUATION, json.dumps(kept_results, indent=2) + "\n")
        if validations := self.validations():
            kept_results = {when: result for when, result in validations.items() if not _is_after(when, step)}
            write_whole(self.folder / VALIDATION, json.dumps(kept_results, indent=2) + "\n")

    def _track(self, step: int, record: Record, prefix: str, rows: Sequence[Row] = ()) -> None:
        numbers = dict(_numbers(record, prefix))
        for tracker in self.trackers:
            tracker(step, numbers, rows)


def _row(episode: Record) -> Row:
    words = "\n\n".join(f"{turn['agent']}:\n{turn['text']}" for turn in episode["turns"])
    return episode["example"], episode["return_percent"], words


def _numbers(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """The numbers of a record by their paths: "evaluation/components/structure"."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{key}")
        elif isinstance(value, (int, float)):
            yield f"{prefix}/{key}", float(value)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file; a last line cut off by a kill is left out.

    Raises:
        ConfigError: if any other line is no JSON object.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, "")
        except ConfigError as error:
            if number == len(lines):
                break
            raise ConfigError(f"{path}: line {number} is not JSON; mend or remove that line") from error
        if not isinstance(record, dict):
            raise ConfigError(f"{path}: line {number} is no JSON object; mend or remove that line")
        records.append(record)
    return records


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file, each of which says of which step it is.

    Raises:
        ConfigError: if a line cannot be read, or names no step.
    """
    records = read_lines(path)
    for number, record in enumerate(records, start=1):
        if type(record.get("step")) is not int:
            raise ConfigError(f"{path}: record {number} names no step; mend or remove that line")
    return records


def _is_after(when: str, step: int) -> bool:
    """Whether an evaluation was made later than after `step` steps."""
    made = when.removeprefix("step-")
    return when == LAST or (made.isdecimal() and int(made) > step)
