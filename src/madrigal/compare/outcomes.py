"""What run folders have come to: from the files of runs, whole or not, to the rows of a comparison.

Knows: run folders and what they are called beside each other. Does not know: how they were made, statistics, screens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from madrigal.compare.contenders import SINGLE, TEAM, UNTRAINED
from madrigal.compare.statistics import Played, Record, Row, tabulate
from madrigal.config import Experiment, read_experiment, to_json
from madrigal.runs.read import Run, is_number, read_run
from madrigal.runs.variants import flat
from madrigal.tasks.catalog import TaskConfig
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.own import Own
from madrigal.tasks.trust import trusting
from madrigal.tasks.writing.task import Arxiv
from madrigal.types import ConfigError

SPOKEN = 3  # settings that fit a name
UNTOLD = ("seed", "threads", "records.", "evaluation.")  # settings that do not make it another experiment
FILES = ("steps.jsonl:", "episodes.jsonl:", "evaluation.json")


def is_finished(place: Path) -> bool:
    """Whether a run folder holds all that its run was made for: the last evaluation, every transcript, the team."""
    if not (place / "experiment.json").is_file():
        return False
    return _has_ended(place, read_experiment(place), read_run(place))


def _has_ended(place: Path, asked: Experiment, run: Run) -> bool:
    return _is_whole(run, asked, "after") and (asked.steps == 0 or (place / "team").is_dir())


def _is_whole(run: Run, asked: Experiment, when: str) -> bool:
    """Whether the transcripts of an evaluation are all there: it is filed before them."""
    held = run.evaluations.get(when)
    return held is not None and len(_transcripts(run, when)) == held["examples"] * asked.evaluation.samples


def _transcripts(run: Run, when: str) -> list[Record]:
    return [line.record for line in run.episodes if line.record.get("evaluation") == when]


def outcome(place: Path) -> tuple[Played, list[str]]:
    """What a run has come to by its last evaluation, and what a reader must know of it.

    Raises:
        ConfigError: if it has no evaluation, or the last one cannot be read as a whole.
    """
    asked, run = read_experiment(place), read_run(place)
    notices = _notices(place, run)
    whole = [when for when in run.evaluations if _is_whole(run, asked, when)]
    if not whole or (run.ended and whole[-1] != "after"):
        last = next(reversed(run.evaluations), "")
        found = f"its evaluation {last} is not whole" if last else "it has no evaluation"
        broken = f" ({notices[-1]})" if notices else ""
        again = trusting(f"madrigal train {place} --resume", asked.task, asked.records.trackers)
        raise ConfigError(f"compare: {place} cannot be compared, {found}{broken}; make it with: {again}")
    if not run.ended:
        notices.append(
            f"{place} is still going or was stopped, at step {run.made} of {run.planned}: compared by its evaluation "
            f"{whole[-1]}."
        )
    return _played(place, asked, run, whole[-1]), notices


def _notices(place: Path, run: Run) -> list[str]:
    """What could not be read of a run's files."""
    return [f"{place}: {notice}" for notice in run.notices if notice.startswith(FILES)]


def _played(place: Path, asked: Experiment, run: Run, when: str) -> Played:
    evaluation = run.evaluations[when]
    seconds, speed = (evaluation.get(key) for key in ("response_seconds", "tokens_per_second"))
    timed = is_number(seconds) and is_number(speed) and seconds > 0  # with evaluation.timed 0 both are 0
    tokens = [line.record.get("tokens", 0) for line in run.steps]
    return Played(
        [_read(place, record) for record in _transcripts(run, when)],
        asked.seed,
        seconds if timed else None,
        speed if timed else None,
        trained_tokens=int(sum([count for count in tokens if is_number(count)])),
        updates=len(tokens),
    )


def _read(place: Path, record: Record) -> Record:
    """A transcript with all that the table reads.

    Raises:
        ConfigError: if something is missing.
    """
    metrics, counts = record.get("metrics"), [turn.get("tokens") for turn in record["turns"]]
    if isinstance(metrics, dict) and all(map(is_number, [*metrics.values(), *counts])):
        # Runs of the first version name it only where the task itself measures it.
        value = record.get("return_percent", metrics.get("return_percent"))
        if is_number(value) and isinstance(record.get("example"), str):
            return {"details": {}, **record, "return_percent": value}
    raise ConfigError(
        f"compare: {place} has a transcript without example, metrics, tokens or normalised return; it may be of an "
        "older version: train it again"
    )


def rows_of_contest(folder: Path, seeds: Sequence[int], ks: Sequence[int] = ()) -> tuple[list[Row], list[str]]:
    """The rows of what is finished in the folder of a comparison, and notices.

    Raises:
        ConfigError: if the team is not among it.
    """
    played: dict[str, list[Played]] = {}
    about: dict[str, Record] = {}
    notices: list[str] = []
    for place in [place for seed in seeds for place in sorted((folder / f"seed-{seed}").glob("*/experiment.json"))]:
        one = _finished(place.parent, notices)
        if one is not None:
            contender = _contender(place.parent)
            about[contender["name"]] = contender
            played.setdefault(contender["name"], []).append(one)
    if TEAM not in played:
        raise ConfigError(f"compare: there is no finished team in {folder}; go on with the command that made it")
    names = sorted(played, key=lambda name: about[name]["order"])
    rows = tabulate({name: played[name] for name in names}, TEAM, ks, several=(UNTRAINED, SINGLE))
    return [replace(row, what=about[row.name]["what"] if row.name in about else "") for row in rows], notices


def _finished(place: Path, notices: list[str]) -> Played | None:
    asked, run = read_experiment(place), read_run(place)
    notices += _notices(place, run)
    if _has_ended(place, asked, run):
        return _played(place, asked, run, "after")
    notices.append(f"{place} is not finished and is left out.")
    return None


def _contender(place: Path) -> Record:
    file = place / "contender.json"
    try:
        found: Record = json.loads(file.read_text())
        return {"name": found["name"], "what": found["what"], "order": found["order"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"compare: {file} does not say which contender it is; the command that made it writes it again"
        ) from error


def rows_of_runs(places: Sequence[Path], ks: Sequence[int] = ()) -> tuple[list[Row], list[str]]:
    """The rows of runs as they are, and notices; the first run's row is what the others are tested by.

    Seeds of one experiment are one row.

    Raises:
        ConfigError: if they are of different tasks, one is given twice, or one has no evaluation.
    """
    if len({place.resolve() for place in places}) < len(places):
        raise ConfigError("compare: expected every run once, got one of them twice")
    runs = {place: read_experiment(place) for place in places}
    _check_one_task(runs)
    played: dict[str, list[Played]] = {}
    notices: list[str] = []
    names = _names(runs)
    for place in places:
        one, told = outcome(place)
        played.setdefault(names[place], []).append(one)
        notices += told
    return tabulate(played, names[places[0]], ks), notices


def _check_one_task(runs: Mapping[Path, Experiment]) -> None:
    (first, one), *others = runs.items()
    for place, other in others:
        if _task_of(other.task) != _task_of(one.task):
            raise ConfigError(
                f"compare: {first} is of the task {_task_of(one.task)} and {place} of {_task_of(other.task)}; compare "
                "runs of one task"
            )


def _task_of(config: TaskConfig) -> str:
    """What decides an answer's worth: runs may differ in who gives it, and after how much feedback."""
    match config:
        case Own():
            return Path(config.path).name
        case Coding():
            return config.name
        case Arxiv():
            return f"arxiv with {config.variant} thresholds"
        case _:
            return type(config).__name__.lower()


def _names(runs: Mapping[Path, Experiment]) -> dict[Path, str]:
    """What each run is called: its recipe, and where other experiments of it are compared, what tells them apart."""
    kinds: dict[tuple[str, frozenset[tuple[str, str]]], list[Path]] = {}
    for place, run in runs.items():
        kinds.setdefault((run.recipe, frozenset(_settings(run))), []).append(place)
    names: dict[Path, str] = {}
    for (recipe, settings), places in kinds.items():
        shared = frozenset.intersection(*(others for name, others in kinds if name == recipe))
        own = [f"{key}={value}" for key, value in sorted(settings - shared)]
        words = ", ".join(own) if len(own) <= SPOKEN else str(places[0])
        # The same experiment with the same seed twice is no second seed.
        twice = len({runs[place].seed for place in places}) < len(places)
        for place in places:
            told = str(place) if twice else words
            names[place] = f"{recipe} ({told})" if told else recipe
    return names


def _settings(run: Experiment) -> list[tuple[str, str]]:
    return [(key, value) for key, value in flat(json.loads(to_json(run))) if not key.startswith(UNTOLD)]


def difference(wanted: Experiment, held: Experiment) -> str:
    """The settings in which two experiments differ, in words; "" where they are equal."""
    here, there = (dict(flat(json.loads(to_json(run)))) for run in (wanted, held))
    keys = [key for key in here | there if here.get(key) != there.get(key)]
    told = [f"{key} is {there.get(key, 'not set')} there, {here.get(key, 'not set')} here" for key in keys[:SPOKEN]]
    return "; ".join(told) + (f"; and {len(keys) - SPOKEN} more" if len(keys) > SPOKEN else "")
