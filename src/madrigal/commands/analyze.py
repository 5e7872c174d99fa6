"""`madrigal analyze`: does a team cooperate, or do its agents merely coexist?

It reads run folders and writes nothing. What is asked of a team stands in `evaluation.teamwork`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from madrigal.commands.arguments import add_trust, parse
from madrigal.commands.scene import Scene
from madrigal.compare.load import difference
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.alarms import Alarm, alarms
from madrigal.evaluation.evaluate import EvalSetup, play_examples
from madrigal.evaluation.exploitability import Exploitability, measure_exploitability
from madrigal.evaluation.fidelity import Fidelity, fidelity
from madrigal.evaluation.games import Match, match
from madrigal.evaluation.metrics import credit_shares
from madrigal.evaluation.roles import RoleMeasures, acts_of, measure_roles, swap_losses
from madrigal.evaluation.statistics import Comparison, Interval
from madrigal.evaluation.teamwork import CHANGES, Drop, Teamwork, analyze_team
from madrigal.recipes.trust import check_trust
from madrigal.rollouts.play import Generate, Judge
from madrigal.rollouts.rewards import rewarded
from madrigal.rollouts.task import Task, rewards_of, scripted_in
from madrigal.runs.read import Record, is_number, read_run
from madrigal.runs.records import transcript
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.types import AgentId, ConfigError, Example

if TYPE_CHECKING:
    from madrigal.policies.team import Team

WIDTH = 140  # of a table that no terminal bounds


@dataclass(frozen=True, slots=True)
class Training:
    """What the records of a run's training say.

    Attributes:
        credit: each agent's part of the credit given in the recorded episodes.
        alarms: what looks wrong.
        notices: what is missing in the files, or could not be read.
    """

    credit: dict[AgentId, float]
    alarms: tuple[Alarm, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found: of the team by playing, of its training by reading; both of the first run.

    Attributes:
        fidelity: of the agent that was asked for.
        matches: of zero-sum games between two, against the other runs.
        exploitability: of Kuhn poker in single hands, in chips a hand; and the share of legal answers.
        roles: how far roles tell behavior, where the run has roles (`tasks.roles`).
        swaps: what the return loses where roles are dealt otherwise, in points.
    """

    runs: tuple[str, ...]
    team: Teamwork
    training: Training
    fidelity: Fidelity | None = None
    matches: dict[str, Match] = field(default_factory=dict)
    exploitability: Exploitability | None = None
    roles: RoleMeasures | None = None
    swaps: dict[str, Comparison] = field(default_factory=dict)


def analyze_command(arguments: list[str]) -> int:
    """madrigal analyze RUN [RUN...] [--examples N] [--fidelity AGENT] [--json] [--trust]"""
    parser = argparse.ArgumentParser(
        prog="madrigal analyze",
        description="Take a trained team apart: what is lost without an agent, without its messages, and with the "
        "agents of another run of the same task (give several runs); how much messages change what is done; alarms. Of "
        "games of two also how it does against the other runs, of Kuhn poker what it loses to who knows it.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--examples", type=int, default=50, help="held-out examples that are played (default 50)")
    parser.add_argument(
        "--fidelity", default="", metavar="AGENT", help="play its first messages on many times: is credit true?"
    )
    parser.add_argument("--json", action="store_true")
    add_trust(parser)
    options = parse(parser, arguments)
    if options.examples < 2:
        raise ConfigError(f"--examples: expected at least 2, got {options.examples}")
    with Console(stderr=True).status("reading") as status:  # shows nothing where there is no terminal
        analysis = analyze(
            options.runs, options.examples, credit_of=options.fidelity, trust=options.trust, stage=status.update
        )
    if options.json:
        print(json.dumps(asdict(analysis), indent=2, allow_nan=False))
    else:
        _show(analysis)
    return 0


def analyze(
    places: Sequence[Path],
    examples: int,
    *,
    credit_of: AgentId = "",
    trust: bool = False,
    stage: Callable[[str], None] = lambda doing: None,
) -> Analysis:
    """Takes the team of the first run apart, and lets it play with the agents of the others.

    Args:
        examples: held-out examples to play; all where there are fewer.
        credit_of: the agent whose credit is compared with the worth of its messages; "" compares none.
        trust: let a run's file import an own task, or go without the sandbox.
        stage: is told what is being done.

    Raises:
        ConfigError: if a run has no team, is of another task or given twice, or there are fewer than two examples.
    """
    from madrigal.training.checks import open_checked_task
    from madrigal.training.teams import make_fluency, open_rollout_workers, sampling_budget, use_threads

    runs = _read(places, trust=trust)
    first, run = places[0], runs[places[0]]
    use_threads(run.threads)
    with ExitStack() as stack:
        task = stack.enter_context(open_checked_task(run))
        chosen = task.examples("test")[:examples]
        if len(chosen) < 2:
            raise ConfigError(f"task {task.name}: expected at least 2 held-out examples to compare, got {len(chosen)}")
        stage("loading")
        teams = {place: _team(place, other, task, chosen) for place, other in runs.items()}
        budgets = {place: sampling_budget(other, teams[place]) for place, other in runs.items()}
        speakers = {place: teams[place].speaker(other.sampling, budgets[place]) for place, other in runs.items()}
        speakers[first], judge = stack.enter_context(open_rollout_workers(run, task, teams[first]))
        fluency = make_fluency(run, teams[first]) if run.reward.fluency else None
        weighed = rewarded(judge, task, run.topology, run.reward, fluency=fluency)
        trial = EvalSetup(task, run.topology, chosen, speakers[first], weighed, run.seed)
        team = analyze_team(trial, {str(place): speak for place, speak in speakers.items()}, stage)
        credit = None
        if credit_of:
            stage("playing messages on")
            credit = fidelity(trial, credit_of)
        stage("swapping roles")
        acts = acts_of(map(transcript, play_examples(trial))) if run.roles.names else []
        roles, swaps = (measure_roles(acts, seed=run.seed), swap_losses(trial)) if acts else (None, {})
        stage("playing games")
        matches = _matches(task, speakers, weighed, examples, run.seed)
        single = isinstance(run.task, Kuhn) and run.task.rounds == 1
        exploitability = measure_exploitability(speakers[first], seed=run.seed) if single else None
    return Analysis(tuple(map(str, places)), team, read_training(first), credit, matches, exploitability, roles, swaps)


def _matches(
    task: Task[Any], speakers: Mapping[Path, Generate], judge: Judge, most: int, seed: int
) -> dict[str, Match]:
    """The first of several teams against each other one, where the task is a game whose deals leave both seats free."""
    if len(task.agents) != 2 or rewards_of(task) != "zero-sum":
        return {}
    deals = [example for example in task.examples("train") if not scripted_in(task, example)][:most]
    one, *others = speakers
    return {
        str(other): match(task, speakers[one], speakers[other], deals, judge, seed=seed) for other in others if deals
    }


def read_training(place: Path) -> Training:
    """What a run's records say; what arithmetic cannot take in them is left out, with a notice."""
    run = read_run(place)
    steps = [{key: value for key, value in line.record.items() if _is_finite(value)} for line in run.steps]
    judged = [(line, _is_sound(line.record)) for line in run.episodes]
    episodes = [line.record for line, sound in judged if sound]
    broken = [line.number for line, sound in judged if not sound]
    where = f"{len(broken)} of {len(judged)} transcripts, first in line {broken[0]}" if broken else ""
    notices = [f"episodes.jsonl: a step or an advantage is no number in {where}; they are left out."] if broken else []
    return Training(
        credit=credit_shares([record for record in episodes if "evaluation" not in record]),
        alarms=tuple(alarms([step for step in steps if "step" in step], run.evaluations, episodes)),
        notices=(*run.notices, *notices),
    )


def _is_sound(record: Record) -> bool:
    """Whether a transcript's step and advantages can be reckoned with."""
    credited = [turn.get("advantage", "") for turn in record["turns"]]
    return _is_finite(record["step"]) and all(one is None or _is_finite(one) for one in credited)


def _is_finite(value: object) -> bool:
    return is_number(value) and isfinite(value)


def _read(places: Sequence[Path], *, trust: bool) -> dict[Path, Experiment]:
    """The experiments of runs that can play together, checked before anything is loaded."""
    if len({place.resolve() for place in places}) < len(places):
        raise ConfigError("analyze: expected every run once, got one of them twice")
    from madrigal.training.teams import check_saved

    runs: dict[Path, Experiment] = {}
    for place in places:
        if place.is_file():
            raise ConfigError(f"analyze: expected a run folder, got the file {place}")
        run = runs[place] = read_experiment(place)
        if not trust:
            check_trust(run, place, "play")
        first = runs[places[0]]
        if differing := difference(first, replace(first, task=run.task, topology=run.topology)):
            raise ConfigError(
                f"analyze: {place} cannot play with {places[0]}: {differing}; give runs of one task with the same "
                "settings"
            )
        check_saved(place, run)
    return runs


def _team(place: Path, run: Experiment, task: Task[Any], examples: Sequence[Example]) -> Team:
    """A run's team, whose prompts leave room for answers."""
    from madrigal.training.checks import check_prompts
    from madrigal.training.teams import team_of_run

    team = team_of_run(place, run, task.agents)
    check_prompts(run, task, team, examples)
    return team


def _show(analysis: Analysis) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    scene = Scene(console)  # names and texts of files may hold anything: a scene shows them as text
    team, normalized = analysis.team, _interval(analysis.team.return_percent)
    scene.heading(f"On {team.examples} held-out examples the normalized return is {normalized} %.", "")
    if team.drops:
        console.print(_table(team.drops))
    for line in (*_measured(analysis), *_lines(team, analysis.training)):
        scene.heading(line, "")


def _measured(analysis: Analysis) -> Iterator[str]:
    if credit := analysis.fidelity:
        spread = f"variance within a context {_interval(credit.variance, 3)}"
        correlation = f"{credit.correlation:z.2f} (1: credit orders messages as their worth does)"
        yield f"Fidelity of credit: {correlation}; {spread}."
    for name, one in analysis.matches.items():
        won = f"{100 * one.win:.0f} % won, {100 * one.draw:.0f} % drawn"
        yield f"Against {name}: payoff {_interval(one.payoff, 2)}, {won} of {one.episodes} games."
    if exploitability := analysis.exploitability:
        legal = f"{100 * exploitability.legal:.0f} % of its answers are legal"
        yield f"Exploitability: {exploitability.chips:.3f} chips a hand; {legal}."
    if roles := analysis.roles:
        shared = f"{roles.information:.3f} nats of {roles.ceiling:.3f}, seat and behavior {roles.seat_information:.3f}"
        chance = f"by chance below {roles.chance:.3f}"
        yield f"Role and behavior share {shared}; {chance}. Specialization: {roles.specialization:.2f}."
    for change, loss in analysis.swaps.items():
        yield f"Where {change} the return loses {_interval(loss.difference)} points (p {loss.p:.3g})."


def _lines(team: Teamwork, training: Training) -> Iterator[str]:
    for speaker, listeners in team.influence.items():
        for listener, one in listeners.items():
            measured = f"Influence of {speaker} on {listener}: {_interval(one.nats, 3)} nats"
            yield f"{measured}; a listener that repeats the message has {one.copied:.3f}."
    if cross := team.cross_play:
        returns = f"{cross.crossed:z.1f} %, among themselves {cross.own:z.1f} %"
        yield f"With agents of other runs the return is {returns}: a gap of {_interval(cross.gap)} points."
    for what, shares in (("tokens", team.tokens), ("credit", training.credit)):
        if shares:
            yield f"Share of {what}: " + ", ".join(f"{agent} {100 * part:.0f} %" for agent, part in shares.items())
    yield from team.notices
    yield from training.notices
    for alarm in training.alarms:
        at_step = f" (step {alarm.step})" if alarm.step is not None else ""
        yield f"{alarm.level}: {alarm.name}{at_step}: {alarm.text}"
    if not training.alarms:
        yield "No alarms."


def _table(drops: Sequence[Drop]) -> Table:
    table = Table(title="What the return loses, in points", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("agent", "change", "loss [95 %]", "p (Holm)"):
        table.add_column(name, justify="left" if name in {"agent", "change"} else "right")
    for drop in drops:
        table.add_row(drop.agent, CHANGES[drop.change], _interval(drop.loss), f"{drop.corrected:.3g}")
    return table


def _interval(interval: Interval, digits: int = 1) -> str:
    mean, low, high = (f"{value:z.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
