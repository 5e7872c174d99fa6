"""Run folders, finished or not, read into the rows of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from madrigal.compare.contenders import REWORDED, SINGLE, TEAM, TUNED, UNTRAINED, UNTRAINED_REWORDED
from madrigal.compare.rows import CurvePoint, Played, Record, Row, returns, tabulate
from madrigal.config import Experiment, read_experiment, to_json
from madrigal.recipes.trust import resumed_by
from madrigal.runs.files import parse_json, read_object
from madrigal.runs.read import Run, is_number, order, read_run
from madrigal.runs.variants import MOST_NAMED, distinctions, fit_a_name, in_words
from madrigal.tasks.catalog import TaskConfig, environment_name
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.own import CustomTask
from madrigal.tasks.writing.task import Arxiv, Tldr
from madrigal.types import ConfigError

NEUTRAL = ("seed", "threads", "records.", "evaluation.")  # settings that do not make it another experiment
FILES = ("steps.jsonl:", "episodes.jsonl:", "evaluation.json")


def is_finished(place: Path) -> bool:
    """Whether a run folder holds all that its run was made for: the last evaluation, every transcript, the team."""
    if not (place / "experiment.json").is_file():
        return False
    return _has_ended(place, read_experiment(place), read_run(place))


def _has_ended(place: Path, experiment: Experiment, run: Run) -> bool:
    return _is_whole(run, experiment, "after") and (not experiment.trains or (place / "team").is_dir())


def _is_whole(run: Run, experiment: Experiment, when: str) -> bool:
    """Whether the transcripts of an evaluation are all there: it is filed before them."""
    evaluation = run.evaluations.get(when, {})
    expected: int = evaluation.get("examples", -1) * experiment.evaluation.samples
    return len(_transcripts(run, when)) == expected


def _transcripts(run: Run, when: str) -> list[Record]:
    return [line.record for line in run.episodes if line.record.get("evaluation") == when]


def load_result(place: Path) -> tuple[Played, list[str]]:
    """The transcripts and costs of a run by its last whole evaluation, and notices for the reader.

    Raises:
        ConfigError: if it has no evaluation, or the last one cannot be read as a whole.
    """
    experiment, run = read_experiment(place), read_run(place)
    notices = _notices(place, run)
    whole = [when for when in run.evaluations if _is_whole(run, experiment, when)]
    if not whole or (run.ended and whole[-1] != "after"):
        last = next(reversed(run.evaluations), "")
        why = f"its evaluation {last} is not whole" if last else "it has no evaluation"
        broken = f" ({notices[-1]})" if notices else ""
        again = resumed_by(place, experiment)
        raise ConfigError(f"compare: {place} cannot be compared, {why}{broken}; make it with: {again}")
    if not run.ended:
        notices.append(
            f"{place} is still going or was stopped, at step {run.made} of {run.planned}: compared by its evaluation "
            f"{whole[-1]}."
        )
    return _played(place, experiment, run, whole[-1]), notices


def _notices(place: Path, run: Run) -> list[str]:
    """What could not be read of a run's files."""
    return [f"{place}: {notice}" for notice in run.notices if notice.startswith(FILES)]


def _played(place: Path, experiment: Experiment, run: Run, when: str) -> Played:
    evaluation = run.evaluations[when]
    seconds, speed = (evaluation.get(key) for key in ("response_seconds", "tokens_per_second"))
    timed = is_number(seconds) and is_number(speed) and seconds > 0  # with evaluation.timed_examples 0 both are 0
    *curve, last = (
        CurvePoint(
            int(_spent(run, "tokens", at)),
            _spent(run, "seconds", at),
            returns(Played([_checked(place, record) for record in _transcripts(run, at)])),
        )
        for at in [*(at for at in run.evaluations if at != when and _is_whole(run, experiment, at)), when]
    )
    return Played(
        [_checked(place, record) for record in _transcripts(run, when)],
        experiment.seed,
        seconds if timed else None,
        speed if timed else None,
        trained_tokens=last.tokens,
        updates=_updates(run, when),
        trained_seconds=last.seconds,
        curve=curve,
    )


def _spent(run: Run, what: str, when: str) -> float:
    """Tokens or seconds of training until an evaluation: of the warm start with its epochs, and of all steps before."""
    warm = () if when == "before" else run.warm
    steps = [line for line in run.steps if line.record["step"] < _step_of(when)]
    counts = [line.record.get(what, 0) for line in (*warm, *steps)]
    return sum(count for count in counts if is_number(count))


def _updates(run: Run, when: str) -> int:
    """Training steps before an evaluation, and the optimizer steps of the warm start."""
    warm = [] if when == "before" else [line.record.get("optimizer_steps", 0) for line in run.warm]
    steps = [line for line in run.steps if line.record["step"] < _step_of(when)]
    return len(steps) + int(sum(count for count in warm if is_number(count)))


def _step_of(when: str) -> float:
    """How many steps were made before an evaluation; the last one comes after all."""
    return order(when)[1] if when.startswith("step-") else 0 if when in ("before", "warm") else math.inf


def _checked(place: Path, record: Record) -> Record:
    """A transcript with all that the table reads.

    Raises:
        ConfigError: if something is missing.
    """
    metrics, details, example = (record.get(key) for key in ("metrics", "details", "example"))
    if isinstance(metrics, dict) and isinstance(details, dict) and isinstance(example, str):
        numbers = [record.get("return_percent"), *metrics.values(), *(turn.get("tokens") for turn in record["turns"])]
        if all(map(is_number, numbers)):
            return record
    raise ConfigError(
        f"compare: {place} has a transcript without example, metrics, details, tokens or normalized return; it may be "
        "of an older version: train it again"
    )


def rows_of_comparison(folder: Path, seeds: Sequence[int], ks: Sequence[int] = ()) -> tuple[list[Row], list[str]]:
    """The rows of what is finished in the folder of a comparison, and notices.

    Raises:
        ConfigError: if the team is not among it.
    """
    played: dict[str, list[Played]] = {}
    contenders: dict[str, Record] = {}
    notices: list[str] = []
    for seed in seeds:
        for file in sorted((folder / f"seed-{seed}").glob("*/experiment.json")):
            place = file.parent
            experiment, run = read_experiment(place), read_run(place)
            notices += _notices(place, run)
            if not _has_ended(place, experiment, run):
                notices.append(f"{place} is not finished and is left out.")
                continue
            contender = _contender(place)
            contenders[contender["name"]] = contender
            played.setdefault(contender["name"], []).append(_played(place, experiment, run, "after"))
    if TEAM not in played:
        raise ConfigError(f"compare: there is no finished team in {folder}; go on with the command that made it")
    for name in [name for name, about in contenders.items() if about["swapped"]]:
        played[name] = [_trained_with(seed, played[TEAM]) for seed in played[name]]
    names = sorted(played, key=lambda name: contenders[name]["order"])
    rows = tabulate(
        {name: played[name] for name in names},
        TEAM,
        ks,
        several=(UNTRAINED, SINGLE),
        equal=(SINGLE, TUNED),
        reworded={UNTRAINED: UNTRAINED_REWORDED, TEAM: REWORDED},
    )
    return [replace(row, what=contenders[row.name]["what"] if row.name in contenders else "") for row in rows], notices


def _trained_with(seed: Played, team: Sequence[Played]) -> Played:
    """A swapped team with what the training of the whole team took."""
    trained = next((one for one in team if one.seed == seed.seed), seed)
    return replace(seed, trained_tokens=trained.trained_tokens, trained_seconds=trained.trained_seconds)


def _contender(place: Path) -> Record:
    file = place / "contender.json"
    try:
        about = read_object(file)
        return {key: about[key] for key in ("name", "what", "order")} | {"swapped": about.get("swapped", "")}
    except (ConfigError, KeyError) as error:
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
    task = _task_of(runs[places[0]].task)
    for place, run in runs.items():
        if _task_of(run.task) != task:
            raise ConfigError(
                f"compare: {places[0]} is of the task {task} and {place} of {_task_of(run.task)}; compare runs of one "
                "task"
            )
    played: dict[str, list[Played]] = {}
    notices: list[str] = []
    names = _names(runs)
    for place in places:
        seed, notices_of_run = load_result(place)
        played.setdefault(names[place], []).append(seed)
        notices += notices_of_run
    return tabulate(played, names[places[0]], ks), notices


def _task_of(config: TaskConfig) -> str:
    """What decides an answer's worth: runs may differ in who gives it, and after how much feedback."""
    match config:
        case CustomTask():
            return Path(config.path).name
        case Coding():
            return config.name
        case Tldr():
            return f"tldr{_judged_by(config)}"
        case Arxiv():
            return f"arxiv with {config.variant} thresholds{_judged_by(config)}"
        case _:
            return environment_name(config) or type(config).__name__.lower()


def _judged_by(config: Tldr | Arxiv) -> str:
    return f" by the transitions of {Path(config.transitions).name}" if config.transitions else ""


def _names(runs: Mapping[Path, Experiment]) -> dict[Path, str]:
    """What each run is called: its recipe, and where other experiments of it are compared, what tells them apart."""
    recipes: dict[str, dict[frozenset[tuple[str, str]], list[Path]]] = {}
    for place, run in runs.items():
        settings = frozenset(item for item in _settings(run).items() if not item[0].startswith(NEUTRAL))
        recipes.setdefault(run.recipe, {}).setdefault(settings, []).append(place)
    names: dict[Path, str] = {}
    for recipe, kinds in recipes.items():
        for own, places in zip(distinctions(list(kinds)), kinds.values(), strict=True):
            words = ", ".join(f"{key}={value}" for key, value in own) if fit_a_name(own) else str(places[0])
            # The same experiment with the same seed twice is no second seed.
            twice = len({runs[place].seed for place in places}) < len(places)
            for place in places:
                label = str(place) if twice else words
                names[place] = f"{recipe} ({label})" if label else recipe
    return names


def _settings(run: Experiment) -> dict[str, str]:
    return in_words(parse_json(to_json(run), "settings"))


def difference(wanted: Experiment, held: Experiment) -> str:
    """The settings in which two experiments differ, in words; "" where they are equal."""
    here, there = _settings(wanted), _settings(held)
    keys = [key for key in here | there if here.get(key) != there.get(key)]
    named = [
        f"{key} is {there.get(key, 'not set')} there, {here.get(key, 'not set')} here" for key in keys[:MOST_NAMED]
    ]
    return "; ".join(named) + (f"; and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else "")
