"""The table of a comparison: what each contender's transcripts say, beside the team's, with intervals and tests.

Knows: transcripts and evaluations as run folders hold them. Does not know: how they came about, files, screens.

An example counts once, with the mean of its samples; a seed counts as much as any other. Intervals resample seeds and
then examples. Tests pair a contender and the team example by example, each with its mean over seeds: they speak of
other examples, not of other seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from madrigal.evaluation.metrics import pass_at_k
from madrigal.evaluation.statistics import (
    Comparison,
    Interval,
    bootstrap,
    hierarchical_bootstrap,
    holm,
    paired_bootstrap,
)
from madrigal.types import ConfigError

Record = Mapping[str, Any]
Values = dict[str, float]  # by example
Pick = Callable[[Sequence[Record]], Record]

RETURN, SPEED, TIME = "return %", "tokens/s", "response s"
RESAMPLES = 1000  # there are as many intervals as cells, and the ends of one are needed to three digits


@dataclass(frozen=True, slots=True)
class Played:
    """One contender under one seed.

    Attributes:
        transcripts: of the held-out examples, one or more samples of each.
        seconds, tokens_per_second: response time and speed, None where they were not measured.
        trained_tokens, updates: what its training took; 0 where it was only played.
    """

    transcripts: Sequence[Record]
    seed: int = 0
    seconds: float | None = None
    tokens_per_second: float | None = None
    trained_tokens: int = 0
    updates: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        columns: name to mean and interval, in the order in which they are shown.
        tokens: generated per answer at test; with all samples where one was picked of them.
        times: `tokens` over the reference's: 2 had twice its budget.
        trained_tokens, updates: mean over seeds.
        versus: normalised return minus the reference's, tested; None for the reference itself.
        p: its p-value, corrected for the number of lines (Holm).
        what: what it is, in one line; may be empty.
    """

    name: str
    columns: Mapping[str, Interval]
    tokens: float
    times: float = 1.0
    trained_tokens: float = 0.0
    updates: float = 0.0
    versus: Comparison | None = None
    p: float = 1.0
    seeds: int = 1
    what: str = ""


def tabulate(
    played: Mapping[str, Sequence[Played]], reference: str, ks: Sequence[int] = (), several: Collection[str] = ()
) -> list[Row]:
    """The rows of a comparison, the reference first; `played` holds each contender's seeds.

    Where examples were sampled several times, the contenders in `several` give a further row with the best of their
    samples, and one with the majority's answer where there can be one.

    Raises:
        ConfigError: if a k is larger than the number of samples, or contenders were not played on the same examples.
    """
    if reference not in played:
        raise ConfigError(
            f"compare: expected {reference} among what was played, found {', '.join(played) or 'nothing'}"
        )
    _check_same(played, reference)
    everything = {reference: played[reference], **played}
    rows = [_row(name, seeds, ks) for name, seeds in everything.items()]
    for name in [name for name in everything if name in several]:
        for label, pick in _picks(everything[name]).items():
            picked = [_picked(one, pick) for one in everything[name]]
            everything[f"{name}, {label}"] = picked
            rows.append(_row(f"{name}, {label}", picked, ()))
    return _tested([replace(row, times=_times(row.tokens, rows[0].tokens)) for row in rows], everything)


def _times(tokens: float, reference: float) -> float:
    """Policies that show no tokens have no budget to exceed."""
    return tokens / reference if reference else 1.0


def _row(label: str, seeds: Sequence[Played], ks: Sequence[int]) -> Row:
    columns: dict[str, Interval] = {}
    for name, figures in {
        SPEED: [one.tokens_per_second for one in seeds],
        TIME: [one.seconds for one in seeds],
    }.items():
        known = [figure for figure in figures if figure is not None]
        if len(known) == len(seeds):
            columns[name] = bootstrap(known)
    for name in dict.fromkeys(name for one in seeds for record in one.transcripts for name in record["metrics"]):
        if "/" not in name and name != "return_percent":
            columns[name] = _interval([_means(one, name) for one in seeds])
    columns[RETURN] = _interval([returns(one) for one in seeds])
    for k in ks:
        columns[f"pass@{k} %"] = _interval([_passed(one, k) for one in seeds])
    return Row(
        label,
        columns,
        tokens=fmean(map(tokens_per_answer, seeds)),
        trained_tokens=fmean(one.trained_tokens for one in seeds),
        updates=fmean(one.updates for one in seeds),
        seeds=len(seeds),
    )


def _tested(rows: Sequence[Row], played: Mapping[str, Sequence[Played]]) -> list[Row]:
    reference, *others = rows
    found = {row.name: _versus(played[row.name], played[reference.name]) for row in others}
    corrected = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    return [reference, *(replace(row, versus=found[row.name], p=corrected[row.name]) for row in others)]


def _versus(mine: Sequence[Played], team: Sequence[Played]) -> Comparison:
    """Return minus the team's: the test over examples, the interval over seeds too where both have the same ones."""
    by_seed, other = ({one.seed: returns(one) for one in side} for side in (mine, team))
    means, against = _over_seeds(list(by_seed.values())), _over_seeds(list(other.values()))
    found = paired_bootstrap([means[x] for x in against], [against[x] for x in against])
    if by_seed.keys() != other.keys():
        return found
    pairs = [[by_seed[seed][x] - theirs[x] for x in theirs] for seed, theirs in other.items()]
    return replace(found, difference=hierarchical_bootstrap(pairs, resamples=RESAMPLES))


def _over_seeds(seeds: Sequence[Values]) -> Values:
    return {example: fmean(values[example] for values in seeds) for example in seeds[0]}


def returns(one: Played) -> Values:
    """The normalised return of every example: the mean of its samples."""
    return _by_example((record["example"], record["return_percent"]) for record in one.transcripts)


def _means(one: Played, metric: str) -> Values:
    """A metric of every example that has it: the mean of the samples that report it."""
    having = (record for record in one.transcripts if metric in record["metrics"])
    return _by_example((record["example"], record["metrics"][metric]) for record in having)


def _by_example(pairs: Iterable[tuple[str, float]]) -> Values:
    found: dict[str, list[float]] = defaultdict(list)
    for example, value in pairs:
        found[example].append(float(value))
    return {example: fmean(values) for example, values in found.items()}


def _interval(seeds: Sequence[Values]) -> Interval:
    return hierarchical_bootstrap([list(values.values()) for values in seeds if values], resamples=RESAMPLES)


def tokens_per_answer(one: Played) -> float:
    """Generated for one joint answer, all agents and turns; with all its samples where it was picked of them."""
    return fmean(sum(turn["tokens"] for turn in record["turns"]) for record in one.transcripts)


def _passed(one: Played, k: int) -> Values:
    found: Values = {}
    for records in _samples(one):
        if not all("full_test_pass" in record["metrics"] for record in records):
            raise ConfigError(
                f"pass@{k}: expected transcripts of a coding task, with full_test_pass among their metrics"
            )
        passed = sum(round(record["metrics"]["full_test_pass"]) for record in records)
        found[records[0]["example"]] = 100 * pass_at_k(len(records), passed, k)
    return found


def _picks(seeds: Sequence[Played]) -> dict[str, Pick]:
    """What can be made of several samples: the best by the reward itself, and where answers are numbers, a vote."""
    samples = min(len(records) for one in seeds for records in _samples(one))
    if samples == 1:
        return {}
    picks: dict[str, Pick] = {f"best of {samples}": _best}
    if all("answers" in record["details"] for one in seeds for record in one.transcripts):
        picks[f"vote of {samples}"] = _vote
    return picks


def _samples(one: Played) -> list[list[Record]]:
    """The transcripts of each example."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in one.transcripts:
        found[record["example"]].append(record)
    return list(found.values())


def _picked(one: Played, pick: Pick) -> Played:
    """One record per example instead of its samples; all of them were generated for it.

    Nothing is known of its time: samples may be drawn one after the other, or at once.
    """
    chosen = [
        {**pick(records), "turns": [turn for record in records for turn in record["turns"]]}
        for records in _samples(one)
    ]
    return Played(chosen, one.seed)


def _best(records: Sequence[Record]) -> Record:
    return max(records, key=lambda record: record["return_percent"])


def _vote(records: Sequence[Record]) -> Record:
    """The answer that most agents in most samples gave, the earliest of equals; right or wrong as a whole."""
    votes: dict[Any, int] = defaultdict(int)
    for record in records:
        for answer in record["details"]["answers"]:
            if answer is not None:
                votes[answer] += 1
    winner = max(votes, key=votes.__getitem__, default=None)
    right = 100.0 * (winner is not None and winner == records[0]["details"]["reference"])
    return {**records[0], "metrics": {"accuracy": right, "majority_accuracy": right}, "return_percent": right}


def _check_same(played: Mapping[str, Sequence[Played]], reference: str) -> None:
    expected = set(returns(played[reference][0]))
    for name, seeds in played.items():
        if any(set(returns(one)) != expected for one in seeds):
            who = f"{name} and {reference}" if name != reference else f"the seeds of {name}"
            raise ConfigError(
                f"compare: {who} were not played on the same held-out examples; evaluate all with the same data and "
                "evaluation.examples"
            )
