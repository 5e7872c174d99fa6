"""The rows of a comparison, computed from transcripts.

An example counts once, with the mean of its samples; a seed counts as much as any other. Intervals resample seeds and
then examples. Tests pair a contender and the team example by example, each with its mean over seeds: they speak of
other examples, not of other seeds. What other seeds and other words of the same prompts would change is the noise, from
A/A pairs: a method against itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    repeat_width,
)
from madrigal.types import ConfigError

Record = Mapping[str, Any]
ByExample = dict[str, float]
Pick = Callable[[Sequence[Record]], Record]

RETURN, SPEED, TIME = "return %", "tokens/s", "response s"
SEEDS, WORDS = "seeds", "words"  # what an A/A pair differs in
TRAINING, ANSWERING, SECONDS = "training tokens", "answering tokens", "training seconds"  # budgets
LESS, MORE = 0.9, 1.1  # times a budget: what lies between them counts as the same
RESAMPLES = 1000  # there are as many intervals as cells, and the ends of one are needed to three digits


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """An evaluation on the way: what training had taken until then, and the normalized return of every example."""

    tokens: int
    seconds: float
    returns: ByExample


@dataclass(frozen=True, slots=True)
class Played:
    """One contender under one seed.

    Attributes:
        transcripts: of the held-out examples, one or more samples of each.
        seconds, tokens_per_second: response time and speed, None where they were not measured.
        trained_tokens, trained_seconds, updates: what its training took; 0 where it was only played.
        curve: evaluations before the last one.
    """

    transcripts: Sequence[Record]
    seed: int = 0
    seconds: float | None = None
    tokens_per_second: float | None = None
    trained_tokens: int = 0
    updates: int = 0
    trained_seconds: float = 0.0
    curve: Sequence[CurvePoint] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a row spent of one kind, and the comparison where both sides spend as much.

    Attributes:
        spent: mean over seeds.
        times: `spent` over the reference's; None where that is 0.
        difference: return minus the reference's, both at the smaller of the two budgets; None where neither the end of
            their training nor an evaluation on the way is within a tenth of it.
    """

    spent: float
    times: float | None = None
    difference: Interval | None = None


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
        of: the row of whose samples it was picked; "" for what was played as it is.
        noise: by what an A/A pair differs in, the difference of a method from itself.
        budgets: training tokens, answering tokens and training seconds.
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
    of: str = ""
    noise: Mapping[str, Interval] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    @property
    def floor(self) -> float | None:
        """The largest difference that noise explains; None where there is no A/A pair."""
        return max((max(abs(pair.low), abs(pair.high)) for pair in self.noise.values()), default=None)

    @property
    def is_noise(self) -> bool:
        """Whether the difference is no larger than that of a method from itself."""
        return self.versus is not None and self.floor is not None and abs(self.versus.difference.mean) <= self.floor


def tabulate(
    played: Mapping[str, Sequence[Played]],
    reference: str,
    ks: Sequence[int] = (),
    *,
    several: Collection[str] = (),
    equal: Collection[str] = (),
    reworded: Mapping[str, str] = {},
) -> list[Row]:
    """The rows of a comparison, the reference first; `played` holds each contender's seeds.

    Args:
        ks: the k of the columns pass@k, for coding tasks.
        several: contenders that get further rows with what can be picked of all their samples (`_picks`).
        equal: contenders that get the same of as many samples as come to the reference's answering tokens, where these
            are two or more.
        reworded: A/A pairs by the words of the prompts, as they are to reworded, one untrained and one trained.

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
    budget = rows[0].tokens  # 0 where policies show no tokens: there is no budget to exceed
    for row in tuple(rows):
        seeds, made = seeds_of[row.name], _fewest_samples(seeds_of[row.name])
        counts = {made} if row.name in several else set[int]()
        if row.name in equal and row.tokens:
            counts.add(min(made, round(budget / row.tokens)))
        for count in sorted(count for count in counts if count > 1):
            for label, pick in _picks(seeds, count).items():
                picked = [_picked(seed, pick, count) for seed in seeds]
                seeds_of[f"{row.name}, {label}"] = picked
                rows.append(replace(_row(f"{row.name}, {label}", picked, ()), of=row.name))
    rows = _tested([replace(row, times=row.tokens / budget if budget else 1.0) for row in rows], seeds_of)
    rows = [replace(row, budgets=_budgets(row, rows[0], seeds_of)) for row in rows]
    return _with_noise(rows, seeds_of, reworded)


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


def _with_noise(rows: Sequence[Row], played: Mapping[str, Sequence[Played]], reworded: Mapping[str, str]) -> list[Row]:
    """The rows with their noise: the reference's by other seeds, and by other words that of trained or untrained ones.

    The reference is in every difference, and so is its noise. Seeds that row and reference share draw the same
    examples, so that what they show together is rather more than what is noise in their difference.
    """
    reference, *others = rows
    means = [fmean(returns(seed).values()) for seed in played[reference.name]]
    width = repeat_width(means) if len(means) > 1 else None
    noise = {SEEDS: Interval(0.0, -width, width)} if width is not None else {}
    words = {
        any(seed.updates for seed in played[plain]): {WORDS: _versus(played[other], played[plain]).difference}
        for plain, other in reworded.items()
        if plain in played and other in played
    }
    return [reference, *(replace(row, noise=noise | words.get(row.updates > 0, {})) for row in others)]


def _budgets(row: Row, reference: Row, played: Mapping[str, Sequence[Played]]) -> dict[str, Budget]:
    """By kind, what a row spent beside the reference, and their difference at equal budgets."""
    own, others = ({seed.seed: seed for seed in played[name]} for name in (row.name, reference.name))
    budgets = {}
    for kind, spent_of in ((TRAINING, _tokens_at), (SECONDS, _seconds_at)):
        spent, base = (fmean(spent_of(_curve(seed)[-1]) for seed in side.values()) for side in (own, others))
        pairs = [_at_equal(own[seed], others[seed], spent_of) for seed in own.keys() & others.keys()]
        found = [pair for pair in pairs if pair is not None]
        whole = own.keys() == others.keys() and len(found) == len(own) and row is not reference
        difference = hierarchical_bootstrap(found, resamples=RESAMPLES) if whole else None
        budgets[kind] = Budget(spent, spent / base if base else None, difference)
    same = row.versus is not None and LESS <= row.times <= MORE
    answering = Budget(row.tokens, row.times, row.versus.difference if row.versus and same else None)
    return {TRAINING: budgets[TRAINING], ANSWERING: answering, SECONDS: budgets[SECONDS]}


def _tokens_at(point: CurvePoint) -> float:
    return point.tokens


def _seconds_at(point: CurvePoint) -> float:
    return point.seconds


def _curve(seed: Played) -> list[CurvePoint]:
    """All evaluations, the last one too."""
    return [*seed.curve, CurvePoint(seed.trained_tokens, seed.trained_seconds, returns(seed))]


def _at_equal(own: Played, other: Played, spent_of: Callable[[CurvePoint], float]) -> list[float] | None:
    """Differences by example where both have spent what the thriftier one did; None where one was not evaluated there.

    What was not trained is so compared with the other before its training.
    """
    curves = [_curve(side) for side in (own, other)]
    budget = min(spent_of(curve[-1]) for curve in curves)
    near = [[p for p in curve if LESS * budget <= spent_of(p) <= MORE * budget] for curve in curves]
    if not all(near):
        return None
    mine, others = (points[-1].returns for points in near)
    return [mine[x] - others[x] for x in others] if mine.keys() == others.keys() else None


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


def _fewest_samples(seeds: Sequence[Played]) -> int:
    return min(len(records) for seed in seeds for records in _samples(seed).values())


def _picks(seeds: Sequence[Played], count: int) -> dict[str, Pick]:
    """What can be made of several samples: the best by the reward itself, which nobody knows in use; and without it, a
    vote where answers have results that can be equal, else the answer that is likeliest to who wrote it."""
    picks: dict[str, Pick] = {
        f"best of {count} by the reward": lambda records: max(records, key=lambda r: r["return_percent"])
    }
    records = [record for seed in seeds for record in seed.transcripts]
    if all("answers" in record["details"] for record in records):
        picks[f"vote of {count}"] = _vote
    elif all(_logprobs(record) for record in records):
        picks[f"likeliest of {count}"] = lambda records: max(records, key=lambda r: fmean(_logprobs(r)))
    return picks


def _logprobs(record: Record) -> list[float]:
    """Of all its tokens; () where a turn does not show them."""
    turns = [turn.get("logprobs", ()) for turn in record["turns"]]
    return [logprob for turn in turns for logprob in turn] if all(turns) else []


def _picked(seed: Played, pick: Pick, count: int) -> Played:
    """One record per example, with the turns of the samples that it was picked of; its time is unknown."""
    records = [samples[:count] for samples in _samples(seed).values()]
    picked = [{**pick(some), "turns": [turn for record in some for turn in record["turns"]]} for some in records]
    return replace(seed, transcripts=picked, seconds=None, tokens_per_second=None, curve=())


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
