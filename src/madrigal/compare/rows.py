"""The rows of a comparison, computed from transcripts.

An example counts once, with the mean of its samples; a seed counts as much as any other. Intervals resample seeds and
then examples. Tests pair a contender and the team example by example, each with its mean over seeds: they speak of
other examples, not of other seeds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
ByExample = dict[str, float]
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
        versus: normalized return minus the reference's, tested; None for the reference itself.
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

    Args:
        ks: the k of the columns pass@k, for coding tasks.
        several: contenders that get a further row with the best of their samples, and one with the majority's answer
            where answers are numbers.

    Raises:
        ConfigError: if a k is larger than the number of samples, or contenders were not played on the same examples.
    """
    if reference not in played:
        raise ConfigError(
            f"compare: expected {reference} among what was played, found {', '.join(played) or 'nothing'}"
        )
    _check_same_examples(played, reference)
    seeds_of = {reference: played[reference], **played}
    rows = [_row(name, seeds, ks) for name, seeds in seeds_of.items()]
    for name in [name for name in seeds_of if name in several]:
        for label, pick in _picks(seeds_of[name]).items():
            picked = [_picked(seed, pick) for seed in seeds_of[name]]
            seeds_of[f"{name}, {label}"] = picked
            rows.append(_row(f"{name}, {label}", picked, ()))
    budget = rows[0].tokens  # 0 where policies show no tokens: there is no budget to exceed
    return _tested([replace(row, times=row.tokens / budget if budget else 1.0) for row in rows], seeds_of)


def _row(name: str, seeds: Sequence[Played], ks: Sequence[int]) -> Row:
    columns: dict[str, Interval] = {}
    for key, measured in (
        (SPEED, [seed.tokens_per_second for seed in seeds]),
        (TIME, [seed.seconds for seed in seeds]),
    ):
        values = [value for value in measured if value is not None]
        if len(values) == len(seeds):
            columns[key] = bootstrap(values)
    metrics = dict.fromkeys(key for seed in seeds for record in seed.transcripts for key in record["metrics"])
    for key in metrics:
        if "/" not in key and key != "return_percent":
            columns[key] = _interval([_metric(seed, key) for seed in seeds])
    columns[RETURN] = _interval([returns(seed) for seed in seeds])
    columns |= {f"pass@{k} %": _interval([_passed(seed, k) for seed in seeds]) for k in ks}
    return Row(
        name,
        columns,
        tokens=fmean(map(tokens_per_answer, seeds)),
        trained_tokens=fmean(seed.trained_tokens for seed in seeds),
        updates=fmean(seed.updates for seed in seeds),
        seeds=len(seeds),
    )


def _tested(rows: Sequence[Row], played: Mapping[str, Sequence[Played]]) -> list[Row]:
    reference, *others = rows
    versus = [_versus(played[row.name], played[reference.name]) for row in others]
    corrected = holm([comparison.p for comparison in versus])
    return [reference, *(replace(r, versus=v, p=p) for r, v, p in zip(others, versus, corrected, strict=True))]


def _versus(contender: Sequence[Played], team: Sequence[Played]) -> Comparison:
    """Return minus the team's: the test over examples, the interval over seeds too where both have the same ones."""
    by_seed, by_seed_of_team = ({seed.seed: returns(seed) for seed in side} for side in (contender, team))
    means, team_means = _over_seeds(list(by_seed.values())), _over_seeds(list(by_seed_of_team.values()))
    comparison = paired_bootstrap([means[x] for x in team_means], list(team_means.values()))
    if by_seed.keys() != by_seed_of_team.keys():
        return comparison
    pairs = [[by_seed[seed][x] - value for x, value in values.items()] for seed, values in by_seed_of_team.items()]
    return replace(comparison, difference=hierarchical_bootstrap(pairs, resamples=RESAMPLES))


def _over_seeds(seeds: Sequence[ByExample]) -> ByExample:
    return {example: fmean(values[example] for values in seeds) for example in seeds[0]}


def returns(seed: Played) -> ByExample:
    """The normalized return of every example: the mean of its samples."""
    return _means((record["example"], record["return_percent"]) for record in seed.transcripts)


def _metric(seed: Played, key: str) -> ByExample:
    """A metric of every example that has it: the mean of the samples that report it."""
    return _means((r["example"], r["metrics"][key]) for r in seed.transcripts if key in r["metrics"])


def _means(pairs: Iterable[tuple[str, float]]) -> ByExample:
    values: dict[str, list[float]] = defaultdict(list)
    for example, value in pairs:
        values[example].append(float(value))
    return {example: fmean(samples) for example, samples in values.items()}


def _interval(seeds: Sequence[ByExample]) -> Interval:
    return hierarchical_bootstrap([list(values.values()) for values in seeds if values], resamples=RESAMPLES)


def tokens_per_answer(seed: Played) -> float:
    """Generated for one joint answer, all agents and turns; with all its samples where it was picked of them."""
    return fmean(sum(turn["tokens"] for turn in record["turns"]) for record in seed.transcripts)


def _passed(seed: Played, k: int) -> ByExample:
    if not all("full_test_pass" in record["metrics"] for record in seed.transcripts):
        raise ConfigError(f"pass@{k}: expected transcripts of a coding task, with full_test_pass among their metrics")
    passed = {x: [round(r["metrics"]["full_test_pass"]) for r in records] for x, records in _samples(seed).items()}
    return {x: 100 * pass_at_k(len(samples), sum(samples), k) for x, samples in passed.items()}


def _samples(seed: Played) -> dict[str, list[Record]]:
    """The transcripts of each example."""
    records: dict[str, list[Record]] = defaultdict(list)
    for record in seed.transcripts:
        records[record["example"]].append(record)
    return records


def _picks(seeds: Sequence[Played]) -> dict[str, Pick]:
    """What can be made of several samples: the best by the reward itself, and where answers are numbers, a vote."""
    samples = min(len(records) for seed in seeds for records in _samples(seed).values())
    if samples == 1:
        return {}
    picks: dict[str, Pick] = {f"best of {samples}": lambda records: max(records, key=lambda r: r["return_percent"])}
    if all("answers" in record["details"] for seed in seeds for record in seed.transcripts):
        picks[f"vote of {samples}"] = _vote
    return picks


def _picked(seed: Played, pick: Pick) -> Played:
    """One record per example, with the turns of all its samples, which were generated for it; its time is unknown."""
    return Played(
        [
            {**pick(records), "turns": [turn for record in records for turn in record["turns"]]}
            for records in _samples(seed).values()
        ],
        seed.seed,
    )


def _vote(records: Sequence[Record]) -> Record:
    """The answer that most agents in most samples gave, the earliest of equals; right or wrong as a whole."""
    votes = Counter(x for record in records for x in record["details"]["answers"] if x is not None)
    winner = max(votes, key=votes.__getitem__, default=None)
    right = 100.0 * (winner is not None and winner == records[0]["details"]["reference"])
    return {**records[0], "metrics": {"accuracy": right, "majority_accuracy": right}, "return_percent": right}


def _check_same_examples(played: Mapping[str, Sequence[Played]], reference: str) -> None:
    expected = set(returns(played[reference][0]))
    for name, seeds in played.items():
        if any(set(returns(seed)) != expected for seed in seeds):
            who = f"{name} and {reference}" if name != reference else f"the seeds of {name}"
            raise ConfigError(
                f"compare: {who} were not played on the same held-out examples; evaluate all with the same data and "
                "evaluation.examples"
            )
