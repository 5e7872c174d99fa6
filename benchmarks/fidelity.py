"""Credit fidelity: how well every algorithm's credit tells what an answer is worth, and whether that predicts learning.

    PYTHONPATH=src:tests OMP_NUM_THREADS=1 python benchmarks/fidelity.py --seeds 10 --output rows.json

Teams of tables play the games of `small_games.py`, whose every course is enumerated, so that the exact advantage of an
answer is known. Play, branching, critics' targets, credit and loss are the library's. At equal samples, which are joint
answers that the task judges, greedy, solo and counterfactual ones included:

- credit: slope, bias and noise against the exact advantage, correlation, wrong signs; cosine and bias of the gradient;
- learning: plain gradient steps over seeds, at the best rate of one grid for all, chosen on other seeds;
- Spearman's rank correlation of the two over estimators, with its interval.

Prints tables in Markdown and draws two charts; docs/fidelity.md has the figures and says what each measure is.
`--draw rows.json` reads what was measured instead of measuring. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fakes.tabular import Values, unchecked_shapes
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.evaluation.statistics import holm, paired_bootstrap, spearman
from madrigal.rollouts.tree import map_turns
from madrigal.types import Group, Sample
from small_games import GAMES, Array, Courses, Exact, Game, Team, start

Change = Callable[[list[Sample], random.Random], list[Sample]]
BUDGET = {1: 16, 2: 40}  # joint answers of an update, by the rounds of the game
RATES = (4.0, 16.0, 64.0)
TUNING = (1000, 1001, 1002)  # seeds that choose the rate
POINTS = (2000, 2001)  # seeds of the teams whose credit is measured: as they start, and half way up
BURN_IN = 5  # updates in which critics and moving averages settle before credit is measured
RESAMPLES = 1000
TINY = 1e-12
MEASURES = ("slope", "bias", "noise", "correlation", "wrong_signs", "cosine", "gradient_bias")
FAMILIES = {  # of the charts
    "compared with siblings": ("magrpo", "rloo", "magrpo tree", "marti", "pmic"),
    "no sibling": ("reinforce", "remax"),
    "standardized": ("multi_turn_grpo", "dr_mas", "matpo", "at_grpo", "independent_grpo"),
    "counterfactual": ("coma", "magrpo crossed", "counterfactual", "ccpo", "leave_one_out_team"),
    "critic": ("ippo", "mappo", "collm_dc", "collm_cc", "maporl", "mappo exact", "collm_cc exact"),
}


@dataclass(frozen=True)
class Estimator:
    """One way to give credit.

    Attributes:
        exact_critic: values are not learned but the exact ones.
        change: what is done to the credit afterwards: a planted fault.
        answers: equal samples are as many answers of single agents, instead of joint ones that are judged.
        control: not ranked among the others.
    """

    name: str
    algorithm: Any
    exact_critic: bool = False
    change: Change | None = None
    answers: bool = False
    control: bool = False


def estimators(game: Game) -> list[Estimator]:
    """Every algorithm that can credit this game, in groups of four answers where it has groups; and three controls.

    Terms of the loss that are no credit (KL) are off, and every answer is learned from once.
    """
    found = {name: algorithm for name, (algorithm, _) in ALGORITHMS.items() if _plays(algorithm, game)}
    once: dict[str, Any] = {"kl": 0.0, "width": 4}
    for name, algorithm in found.items():
        more = {"epochs": 1, "minibatches": 1} if algorithm.needs.critic else {}
        found[name] = replace(algorithm, **once, **more)
    rounds = game.horizon
    # A greedy one, solo ones and silent ones are judged too; as many groups as fill the budget best.
    found["remax"] = replace(found["remax"], width=3)
    found["ccpo"] = replace(found["ccpo"], width=3 + rounds, alternate=0)
    found["leave_one_out_team"] = replace(found["leave_one_out_team"], width=4 + rounds)
    fanned = (2, 4) if rounds == 1 else (2, 2)  # 8 episodes, 20 joint answers
    found["counterfactual"] = replace(found["counterfactual"], fanout=fanned)
    found["coma"] = replace(found["coma"], width=4 if rounds == 1 else 2)
    found["magrpo crossed"] = replace(found["coma"], baseline="mean")
    if rounds > 1:
        found["magrpo tree"] = replace(found["magrpo"], tree=True)
        # Its bounds take hundreds of updates to say anything; here they begin at once.
        found["pmic"] = replace(found["pmic"], fits=1, batch=16, start=50, capacity=100)
    listed = [Estimator(name, algorithm) for name, algorithm in found.items()]
    listed += [Estimator(f"{name} exact", found[name], exact_critic=True) for name in ("mappo", "collm_cc")]
    fewer = ("coma", "counterfactual")  # answers of agents than an aligned joint answer has
    return [
        *listed,
        *(Estimator(f"{name} by answers", found[name], answers=True, control=True) for name in fewer),
        Estimator("rloo again", found["rloo"], control=True),
        Estimator("rloo shuffled", found["rloo"], change=shuffled, control=True),
        Estimator("rloo flipped", found["rloo"], change=flipped, control=True),
    ]


def _plays(algorithm: Any, game: Game) -> bool:
    return (
        algorithm.needs.rewards != "zero-sum"
        and algorithm.needs.rounds <= game.horizon
        and (
            algorithm.name != "pmic" or game.horizon > 1  # within one round there is nothing to share
        )
    )


def flipped(samples: list[Sample], rng: random.Random) -> list[Sample]:
    """Credit with the wrong sign."""
    return [_credited(sample, -sample.advantage) for sample in samples]


def shuffled(samples: list[Sample], rng: random.Random) -> list[Sample]:
    """Credit dealt out at random."""
    dealt = rng.sample([sample.advantage for sample in samples], len(samples))
    return [_credited(sample, advantage) for sample, advantage in zip(samples, dealt, strict=True)]


def _credited(sample: Sample, advantage: float) -> Sample:
    return replace(sample, advantage=advantage, token_advantages=(advantage,) if sample.token_advantages else ())


class Crediting:
    """An estimator at work on one team: its memory, its critic, and how many groups its share of samples is."""

    def __init__(self, estimator: Estimator, team: Team, budget: int) -> None:
        self.estimator, self.team = estimator, team
        self.algorithm, self.memory = estimator.algorithm, estimator.algorithm.begin()
        need = self.algorithm.needs.critic
        self.values = Values(need is not None and need.sees == "joint")
        self.scored = need is not None or self.algorithm.needs.embeddings
        team.play(self.algorithm, 1, ("cost",))
        samples = len(team.game.agents) * budget // team.spoken if estimator.answers else budget // team.judged
        self.count = max(1, samples)

    def stages(self, key: tuple[object, ...]) -> list[list[Sample]]:
        """Plays and credits one update's samples."""
        groups, keys = self.team.play(self.algorithm, self.count, key), dict[int, object]()
        if self.scored:
            groups, keys = self.values.read(groups)
        if self.estimator.exact_critic:
            groups = self._exactly_valued(groups)
        stages, self.memory = self.algorithm.credit(groups, self.memory)
        if self.algorithm.needs.critic:
            self.values.learn([sample for stage in stages for sample in stage], keys)
        if change := self.estimator.change:
            stages = [change(list(stage), random.Random(str(key))) for stage in stages]
        return [list(stage) for stage in stages]

    def _exactly_valued(self, groups: Sequence[Group[Any]]) -> list[Group[Any]]:
        values = self.team.courses.exact(self.team.logits).state_value
        return map_turns(
            lambda turn: replace(
                turn, scores=replace(turn.scores, values=(float(values[turn.completion.prompt_ids[0]]),))
            ),
            groups,
        )

    def ascend(self, stages: Sequence[Sequence[Sample]], rate: float) -> None:
        """The optimizer steps of one update, plain ones."""
        for stage in stages:
            self.team.logits = self.team.logits + rate * self.team.ascent(stage, self.algorithm, self.count)


# Fidelity.


@dataclass(frozen=True)
class Credited:
    """What was credited to one team in some repetitions of an update, by its answers [R * K = C].

    Attributes:
        sums: [M 4 C] in each repetition: the weight of an answer's samples; times credit; times its square; times 1
            where the sign was wrong, a half where there was none.
        gradients: [M C] of each repetition, all stages together.
    """

    exact: Exact
    sums: Array
    gradients: Array


def credited(
    estimator: Estimator, courses: Courses, logits: Array, budget: int, repetitions: int, key: tuple[object, ...]
) -> Credited:
    """Credits the same team again and again, each time from new samples."""
    team = Team(courses, logits)
    crediting, exact = Crediting(estimator, team, budget), courses.exact(logits)
    sums = np.zeros((repetitions, 4, *logits.shape))
    gradients = np.zeros((repetitions, *logits.shape))
    for n in range(-BURN_IN, repetitions):
        stages = crediting.stages((*key, n))
        if n < 0:
            continue
        for sample in (sample for stage in stages for sample in stage):
            place = sample.prompt_ids[0], sample.token_ids[0]
            credit, weight = sample.advantage, sample.weight * sample.turn.weight
            agreed = np.sign(credit) * np.sign(exact.advantage[place])
            sums[n][:, place[0], place[1]] += weight * np.array([1.0, credit, credit**2, (1 - agreed) / 2])
        gradients[n] = sum(team.ascent(stage, crediting.algorithm, crediting.count) for stage in stages)
    return Credited(exact, sums.reshape(repetitions, 4, -1), gradients.reshape(repetitions, -1))


def measured(one: Credited, counts: Array) -> dict[str, Array]:
    """Each measure of each of B resamples; squared biases, which may come out below 0, so that their mean is right.

    Args:
        counts: [B M] how often each repetition is in the resample.
    """
    worth = one.exact.advantage.ravel()
    weight, credit, square, wrong = np.moveaxis(np.einsum("bm,mkc->bkc", counts, one.sums), 1, 0)
    total = weight.sum(axis=1)
    variance = weight @ worth**2 / total  # of what there is to tell
    slope = credit @ worth / total / variance
    scale = 1 / np.maximum(np.abs(slope), TINY)
    given = np.where(weight > 0, weight, 1)
    # Sums of errors, not means: how often a rare answer was given depends on what it was credited with.
    even = np.arange(counts.shape[1]) % 2 == 0
    halves = [np.einsum("bm,mkc->bkc", counts * half, one.sums[:, :2]) for half in (even, ~even)]
    errors = [scale[:, None] * half[:, 1] - half[:, 0] * worth for half in halves]
    per = total / (halves[0][:, 0].sum(axis=1) * halves[1][:, 0].sum(axis=1))
    bias = (errors[0] * errors[1] / given).sum(axis=1) * per
    noise = scale**2 * (square.sum(axis=1) - (credit**2 / given).sum(axis=1)) / total
    gradient = one.exact.gradient.ravel()
    slopes = [(counts * half) @ one.gradients / (counts * half).sum(axis=1, keepdims=True) for half in (even, ~even)]
    size = gradient @ gradient
    fit = size / np.maximum(np.abs((slopes[0] + slopes[1]) @ gradient / 2), TINY)
    off = [fit[:, None] * each - gradient for each in slopes]
    cosines = one.gradients @ gradient / np.maximum(np.linalg.norm(one.gradients, axis=1) * size**0.5, 1e-300)
    unequal = (np.abs(worth) > 1e-9) * weight
    return {
        "slope": slope,
        "bias": bias / variance,
        "noise": noise / variance,
        "correlation": _correlation(weight, credit, square, worth),
        "wrong_signs": (wrong * (np.abs(worth) > 1e-9)).sum(axis=1) / unequal.sum(axis=1),
        "cosine": counts @ cosines / counts.sum(axis=1),
        "gradient_bias": (off[0] * off[1]).sum(axis=1) / size,
    }


def _correlation(weight: Array, credit: Array, square: Array, worth: Array) -> Array:
    """Pearson's, over all samples."""
    total = weight.sum(axis=1)
    mean, expected = credit.sum(axis=1) / total, (weight @ worth) / total
    together = (credit @ worth) / total - mean * expected
    spread = (square.sum(axis=1) / total - mean**2) * ((weight @ worth**2) / total - expected**2)
    return np.asarray(together / np.sqrt(np.maximum(spread, 1e-300)))


def fidelity(estimator: Estimator, courses: Courses, points: Sequence[Array], budget: int, repetitions: int) -> Array:
    """[1 + B, measures]: each measure, mean over teams, as it is and in B resamples of the repetitions.

    Biases and noise are root mean squares, in units of the deviation of the exact advantages, or of the gradient's
    length; a bias whose square came out negative is 0.
    """
    key = "again" if estimator.name == "rloo again" else "credit"
    rng, rows = np.random.default_rng(0), []
    for place, logits in enumerate(points):
        one = credited(estimator, courses, logits, budget, repetitions, (key, place))
        even = rng.multinomial((repetitions + 1) // 2, [2 / (repetitions + 1)] * ((repetitions + 1) // 2), RESAMPLES)
        odd = rng.multinomial(repetitions // 2, [1 / (repetitions // 2)] * (repetitions // 2), RESAMPLES)
        counts = np.ones((1 + RESAMPLES, repetitions))
        counts[1:, 0::2], counts[1:, 1::2] = even, odd  # halves stay apart, or a repetition would meet itself
        found = measured(one, counts)
        rows.append(np.stack([found[name] for name in MEASURES], axis=1))
    mean: Array = np.mean(rows, axis=0)
    for name in ("bias", "noise", "gradient_bias"):
        place = MEASURES.index(name)
        mean[:, place] = np.sqrt(np.maximum(mean[:, place], 0))
    return mean


def teams(courses: Courses) -> Iterator[Array]:
    """The teams whose credit is measured: as they start, and after exact gradient steps that bring half of the way."""
    for seed in POINTS:
        first = logits = start(courses, seed)
        yield first
        half = (courses.value(first) + courses.game.best_return) / 2
        for _ in range(500):
            if courses.value(logits) >= half:
                break
            logits = logits + 2.0 * courses.exact(logits).gradient
        yield logits


# Learning.


def learn(estimator: Estimator, courses: Courses, seed: int, rate: float, budget: int, updates: int) -> list[float]:
    """The exact expected return, in percent of the best, before every update and after the last."""
    team = Team(courses, start(courses, seed))
    crediting, best = Crediting(estimator, team, budget), courses.game.best_return / 100
    key = ("again" if estimator.name == "rloo again" else "learn", seed)
    curve = [courses.value(team.logits) / best]
    for n in range(updates):
        crediting.ascend(crediting.stages((*key, n)), rate)
        curve.append(courses.value(team.logits) / best)
    return curve


def study(name: str, seeds: int, updates: int, repetitions: int) -> list[dict[str, Any]]:
    """A row for each estimator of one game; those that credit alike learn alike, and learn once."""
    game = GAMES[name]
    courses, budget, rows = Courses(game), BUDGET[game.horizon], list[dict[str, Any]]()
    points = list(teams(courses))
    for estimator in estimators(game):
        found = fidelity(estimator, courses, points, budget, repetitions)
        twin = next((row for row in rows if np.allclose(row["fidelity"][0], found[0], rtol=2e-3, atol=2e-3)), None)
        if twin and not estimator.control:
            twin["also"].append(estimator.name)
            continue
        tuned = {
            rate: float(np.mean([learn(estimator, courses, s, rate, budget, updates) for s in TUNING]))
            for rate in RATES
        }
        rate = max(tuned, key=lambda each: tuned[each])
        curves = [learn(estimator, courses, seed, rate, budget, updates) for seed in range(seeds)]
        row = {"game": name, "name": estimator.name, "also": [], "control": estimator.control, "rate": rate}
        rows.append(
            {**row, "tuned": tuned, "fidelity": found.round(5).tolist(), "curves": np.round(curves, 4).tolist()}
        )
        print(name, estimator.name, flush=True)
    return [*rows, perfect(courses, seeds, updates)]


def perfect(courses: Courses, seeds: int, updates: int) -> dict[str, Any]:
    """The row of credit without any error: the exact gradient, at its best rate of the same grid."""

    def curve(seed: int, rate: float) -> list[float]:
        logits, found = start(courses, seed), list[float]()
        for _ in range(updates + 1):
            exact = courses.exact(logits)
            found.append(100 * exact.value / courses.game.best_return)
            logits = logits + rate * exact.gradient
        return found

    tuned = {rate: float(np.mean([curve(seed, rate) for seed in TUNING])) for rate in RATES}
    rate = max(tuned, key=lambda each: tuned[each])
    ideal = dict.fromkeys(MEASURES, 0.0) | dict.fromkeys(("slope", "correlation", "cosine"), 1.0)
    row = {"game": courses.game.name, "name": "exact gradient", "also": [], "control": True, "rate": rate}
    curves = np.round([curve(seed, rate) for seed in range(seeds)], 4).tolist()
    return {**row, "tuned": tuned, "fidelity": [list(ideal.values())] * (1 + RESAMPLES), "curves": curves}


# Tables.


def interval(values: Sequence[float], digits: int = 2) -> str:
    """The first of some values, and the middle 95 % of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def areas(row: Mapping[str, Any]) -> Array:
    """The mean of each seed's curve after its start."""
    return np.asarray(row["curves"])[:, 1:].mean(axis=1)


def title(row: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in (row["name"], *row["also"]))


def fidelity_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row per estimator, the highest cosine first."""
    lines = ["| estimator | slope | bias | noise | correlation | wrong signs % | cosine | gradient bias |"]
    lines.append("|---" + "|--:" * len(MEASURES) + "|")
    for row in sorted(rows, key=lambda row: (row["control"], -row["fidelity"][0][MEASURES.index("cosine")])):
        by_name = dict(zip(MEASURES, np.asarray(row["fidelity"]).T, strict=True))
        low, high = np.quantile(by_name["slope"][1:], [0.025, 0.975])
        blind = low < 0 < high
        cells = [
            "-"
            if blind and name in ("bias", "noise", "gradient_bias")  # a slope of 0 cannot be divided by
            else interval(100 * by_name[name], 0)
            if name == "wrong_signs"
            else interval(by_name[name])
            for name in MEASURES
        ]
        lines.append(f"| {title(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def learning_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: area and end of the learning curves, and the difference of areas to rloo, seed by seed."""
    base = areas(next(row for row in rows if row["name"] == "rloo"))
    others = [row for row in rows if row["name"] != "rloo"]
    compared = {row["name"]: paired_bootstrap(areas(row).tolist(), base.tolist()) for row in others}
    corrected = dict(zip(compared, holm([each.p for each in compared.values()]), strict=True))
    lines = ["| estimator | rate | area % | end % | area, minus `rloo` | p |", "|---|--:|--:|--:|--:|--:|"]
    rng = np.random.default_rng(0)
    for row in sorted(rows, key=lambda row: (row["control"], -areas(row).mean())):
        ends = np.asarray(row["curves"])[:, -1]
        drawn = rng.integers(len(ends), size=(RESAMPLES, len(ends)))
        cells = [interval([each.mean(), *each[drawn].mean(axis=1)], 1) for each in (areas(row), ends)]
        if row["name"] in compared:
            gap = compared[row["name"]].difference
            cells += [f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]", f"{corrected[row['name']]:.3f}"]
        else:
            cells += ["", ""]
        lines.append(f"| {title(row)} | {row['rate']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def predicted(games: Mapping[str, Sequence[Mapping[str, Any]]], measure: str) -> Array:
    """[1 + B, games] Spearman's correlation of a measure of credit and the area, over the estimators of each game.

    As it is, and in resamples, which draw estimators anew, the same for all games, and seeds of learning and
    repetitions of credit. Measures of error count from the other end, so that 1 always says that the better credit
    learns faster.
    """
    place, sign = MEASURES.index(measure), 1 if measure in ("correlation", "cosine") else -1
    ranked = {game: [row for row in rows if not row["control"]] for game, rows in games.items()}
    names = list(dict.fromkeys(row["name"] for rows in ranked.values() for row in rows))
    rng, columns = np.random.default_rng(0), []
    draws = [names, *(rng.choice(names, len(names)).tolist() for _ in range(RESAMPLES))]
    for rows in ranked.values():
        credit = {row["name"]: [sign * draw[place] for draw in row["fidelity"]] for row in rows}
        area = {row["name"]: areas(row) for row in rows}
        count = len(next(iter(area.values())))
        column = []
        for n, drawn in enumerate(draws):
            chosen = [name for name in drawn if name in area]
            seeds = rng.integers(count, size=count) if n else np.arange(count)
            learned = [float(area[name][seeds].mean()) for name in chosen]
            column.append(spearman([credit[name][n] for name in chosen], learned))
        columns.append(column)
    return np.array(columns).T


def ceiling(rows: Sequence[Mapping[str, Any]]) -> float:
    """Spearman's correlation of the areas of even and of odd seeds: what chance leaves to be predicted."""
    area = np.stack([areas(row) for row in rows if not row["control"]])
    return spearman(area[:, 0::2].mean(axis=1).tolist(), area[:, 1::2].mean(axis=1).tolist())


def prediction_table(games: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Markdown: a row per measure of credit, a column per game, and the mean over games."""
    lines = ["| measure | " + " | ".join(games) + " | mean |", "|---" + "|--:" * (len(games) + 1) + "|"]
    place = MEASURES.index("cosine")
    upright = {game: [row for row in rows if row["fidelity"][0][place] > 0] for game, rows in games.items()}
    names = ("correlation", "wrong_signs", "noise", "bias", "cosine", "gradient_bias")
    found = {name.replace("_", " "): predicted(games, name) for name in names}
    found["cosine, of those above 0"] = predicted(upright, "cosine")
    found["cosine minus correlation"] = found["cosine"] - found["correlation"]
    for name, column in found.items():
        cells = [interval(each) for each in [*column.T, column.mean(axis=1)]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| *half of the seeds* | {' | '.join(f'{ceiling(rows):.2f}' for rows in games.values())} | |")
    lines.append(f"| *estimators* | {' | '.join(str(sum(not r['control'] for r in g)) for g in games.values())} | |")
    return "\n".join(lines)


# Charts.


def family(name: str) -> str:
    return next((family for family, names in FAMILIES.items() if name in names), "control")


def colors() -> dict[str, str]:
    return {**{family: f"C{n}" for n, family in enumerate(FAMILIES)}, "control": "0.6"}


def draw(games: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """fidelity.svg: area of the learning curve over cosine, without controls; fidelity-curves.svg: all the curves."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "madrigal"  # the same rows make the same file
    for name, panel in (("fidelity.svg", _scatter), ("fidelity-curves.svg", _curves)):
        figure = Figure(figsize=(2.6 * len(games), 3.1), layout="constrained")
        for axes, (game, rows) in zip(figure.subplots(1, len(games), squeeze=False)[0], games.items(), strict=True):
            panel(axes, rows)
            axes.set_title(game, fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="0.92", linewidth=0.6)
        marks = {}
        for axes in figure.axes:
            marks |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(marks.values(), marks, loc="outside lower center", ncols=len(marks), fontsize=7, frameon=False)
        FigureCanvasSVG(figure).print_svg(str(folder / name), metadata={"Date": None})


def _scatter(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    place = MEASURES.index("cosine")
    for row in (row for row in rows if not row["control"]):
        cosine = np.asarray(row["fidelity"])[:, place]
        low, high = np.quantile(cosine[1:], [0.025, 0.975])
        area = areas(row)
        error = area.std(ddof=1) / len(area) ** 0.5
        color = colors()[family(row["name"])]
        axes.plot((low, high), (area.mean(),) * 2, color="0.75", linewidth=0.9, zorder=1)
        axes.plot((cosine[0],) * 2, (area.mean() - error, area.mean() + error), color="0.75", linewidth=0.9, zorder=1)
        axes.plot(cosine[0], area.mean(), "o", markersize=4, color=color, label=family(row["name"]), zorder=2)
    axes.set_xlabel("cosine with the exact gradient", fontsize=8)
    axes.set_ylabel("area of the learning curve, %", fontsize=8)


def _curves(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        mean = np.asarray(row["curves"]).mean(axis=0)
        axes.plot(mean, color=colors()[family(row["name"])], linewidth=0.9, label=family(row["name"]))
    axes.set_xlabel("update", fontsize=8)
    axes.set_ylabel("expected return, % of the best", fontsize=8)


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    games = {name: [row for row in rows if row["game"] == name] for name in GAMES}
    games = {name: several for name, several in games.items() if several}
    parts = [f"### {name}\n\n{fidelity_table(several)}\n\n{learning_table(several)}" for name, several in games.items()]
    return "\n\n".join([*parts, f"### Prediction\n\n{prediction_table(games)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=25)
    parser.add_argument("--repetitions", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("fidelity.json"), help="where rows go")
    parser.add_argument("--charts", type=Path, default=Path(), help="folder of the charts")
    parser.add_argument("--draw", type=Path, nargs="+", help="rows to show, instead of measuring")
    options = parser.parse_args()
    if options.draw:
        rows = [row for file in options.draw for row in json.loads(file.read_text())]
    else:
        rows = []
        with unchecked_shapes():
            for name in options.games:
                rows += study(name, options.seeds, options.updates, options.repetitions)
                options.output.write_text(json.dumps(rows))
    print(report(rows))
    draw(
        {name: [row for row in rows if row["game"] == name] for name in dict.fromkeys(r["game"] for r in rows)},
        options.charts,
    )


if __name__ == "__main__":
    main()
