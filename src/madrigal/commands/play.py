"""`madrigal play`: episodes in the terminal as they are played, and a seat among the agents for whoever is watching.

A human is a speaker like any other: it is asked with a prompt and answers with a completion. Where one is seated, the
rest of an episode is shown after its end, because an agent sees no more than its observations.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from madrigal.commands.arguments import add_trust, own_flags, quietly
from madrigal.commands.keyboard import END, keyboard
from madrigal.commands.overrides import with_settings
from madrigal.commands.scene import Scene, shown
from madrigal.config import Experiment, read_experiment
from madrigal.evaluation.ablations import by_agent
from madrigal.recipes import RECIPES
from madrigal.recipes.own_file import with_topology
from madrigal.recipes.start import base_experiment
from madrigal.recipes.trust import check_trust
from madrigal.rollouts.play import EpisodeRun, Generate, Judge, drive, judge_in_turn, play
from madrigal.rollouts.rewards import rewarded
from madrigal.rollouts.task import Task, scripted_in
from madrigal.rollouts.topology import TOPOLOGIES, Topology
from madrigal.runs.plain import plain
from madrigal.runs.whole import found
from madrigal.tasks.splits import Validated, with_validation
from madrigal.types import (
    AgentId,
    ConfigError,
    Episode,
    Example,
    MadrigalError,
    Point,
    Split,
    TaskError,
    joint_reward,
)


def play_command(arguments: list[str]) -> int:
    """madrigal play RECIPE|RUN [--example ID | --split NAME] [--seat AGENT ...] [options] [settings]"""
    parser = _parser()
    options, settings = quietly(lambda: parser.parse_known_args(arguments))
    if options.what and options.what not in RECIPES:
        options.what = str(found(options.what))
    if {"-h", "--help"} & set(settings) and (not options.what or _is_run(options.what)):
        parser.print_help()
        return 0
    scene = Scene(Console(stderr=options.json), options.seat)
    try:
        _play_episodes(options, _experiment(options, settings), scene)
    except KeyboardInterrupt:
        scene.summary()
        return 130
    except EOFError as error:
        if not scene.returns and not (sys.stdin and sys.stdin.isatty()):
            raise ConfigError(
                "play: the standard input ended before the first episode did; write one answer after the other, each "
                f"ended by a line that holds a single {END}"
            ) from error
    except MadrigalError as error:  # it may quote what a model or a user wrote
        if scene.returns:
            scene.summary()
        raise type(error)(plain(str(error))) from error
    scene.summary()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madrigal play",
        description="Watch episodes turn by turn, or take a seat: be shown what its agent would be shown, and type its "
        "answers. A run is played by its saved team, a recipe by the models that it starts from. Settings of a recipe "
        "are in: madrigal play RECIPE --help",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="?", default="", metavar="RECIPE|RUN")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--example", metavar="ID", help="play this example; otherwise those of a split, in their order")
    which.add_argument("--split", choices=("test", "validation", "train"), default="test")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of all sampling; by default the experiment's own, as evaluations use")
    parser.add_argument("--seat", nargs="+", default=[], metavar="AGENT", help="answer for these agents yourself")
    parser.add_argument("--untrained", action="store_true", help="play the models that a run started from")
    parser.add_argument("--topology", choices=TOPOLOGIES, help="of a recipe: who hears whom within a round")
    parser.add_argument("--json", action="store_true", help="print each finished episode as one line of JSON")
    add_trust(parser)
    return parser


def _is_run(name: str) -> bool:
    return name not in RECIPES and Path(name).is_dir()


def _experiment(options: argparse.Namespace, settings: list[str]) -> Experiment:
    """What is to be played.

    Raises:
        ConfigError: if there is no such recipe, run or setting, or a run has no team yet.
    """
    name = options.what
    if not name:
        raise ConfigError(f"play: name a recipe or a run folder; recipes are {', '.join(RECIPES)}")
    if options.episodes < 1:
        raise ConfigError(f"play: --episodes: expected at least 1, got {options.episodes}")
    if _is_run(name):
        if given := [*settings, *(["--topology"] if options.topology else [])]:
            raise ConfigError(f"play: a run is played with its own settings and takes no others, got {given[0]}")
        run = read_experiment(Path(name))
    else:
        start = base_experiment(name)
        if options.topology:
            start = with_topology(start, options.topology)
        run = with_settings(start, settings, f"madrigal play {name}", own_flags(_parser()))
    if not options.trust and name not in RECIPES and (Path(name).exists() or ":" not in name):
        typed = {word.partition("=")[0].replace("_", "-") for word in settings}
        check_trust(run, name, "ask", typed)
    if _saved_team(options, run):
        from madrigal.training.teams import check_saved

        check_saved(Path(name), run, ", or play the models that it starts from with --untrained")
    return run if options.seed is None else replace(run, seed=options.seed)


def _saved_team(options: argparse.Namespace, run: Experiment) -> Path | None:
    """Where the team to be played was saved; None where the models that the experiment starts from play."""
    if options.untrained or not _is_run(options.what):
        return None
    from madrigal.training.teams import saved_team

    return saved_team(Path(options.what), run)


def _play_episodes(options: argparse.Namespace, run: Experiment, scene: Scene) -> None:
    """Plays the episodes that were asked for, one after the other."""
    from madrigal.evaluation.evaluate import percent_of_best
    from madrigal.training.checks import open_checked_task
    from madrigal.training.teams import use_threads

    use_threads(run.threads)
    with open_checked_task(run) as opened:
        validating = options.split == "validation" and not isinstance(opened, Validated)
        task: Task[Any] = with_validation(opened) if validating else opened
        _check_seats(task, options.seat)
        examples = _examples(task, options)
        scene.rounds, scene.best = task.horizon, task.best_return
        seating = ""
        speak, judge = _speakers(options, run, task, scene)
        for n in range(options.episodes):
            again, place = divmod(n, len(examples))
            example = examples[place]
            if (now := _seating(options, run, task, example)) != seating:
                scene.heading(f"{run.recipe}: {now}")
                seating = now
            # The seeds of an evaluation: with the same team, its first sample of an example is this very episode.
            key = ("evaluate", run.seed, example.id, *((again,) if again else ()))
            scene.begin(f"{example.id} ({n + 1} of {options.episodes})")
            start = Point(example.id, task.reset(example))
            moves = play(task, run.topology, start)
            live = not options.seat and not options.json
            [episode] = drive([EpisodeRun(shown(moves, scene) if live else moves, key)], speak, judge)
            if options.seat:
                _replay(task, run.topology, episode, scene)
            total = sum(map(joint_reward, episode.steps))
            scene.ended(total, percent_of_best(task, episode), episode.steps[-1].ending)
            if options.json:
                _print_json(task, episode)


def _check_seats(task: Task[Any], seats: Sequence[AgentId]) -> None:
    if strangers := [agent for agent in seats if agent not in task.agents]:
        raise ConfigError(f"play: --seat: {strangers[0]!r} is no agent of {task.name}; it has {', '.join(task.agents)}")


def _examples(task: Task[Any], options: argparse.Namespace) -> Sequence[Example]:
    """What can be played: the example that was named, or those of a split, in which the seats asked for are free."""
    chosen = task.examples(options.split) if options.example is None else [_example(task, options.example)]
    free = [example for example in chosen if scripted_in(task, example).keys().isdisjoint(options.seat)]
    if not free:
        where = f"the {options.split} examples" if options.example is None else f"example {options.example}"
        raise ConfigError(
            f"play: --seat: expected a free seat, but in {where} {task.name} itself plays {' or '.join(options.seat)}; "
            "take one seat, another example or another --split"
        )
    return free


def _example(task: Task[Any], name: str) -> Example:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    by_id = {example.id: example for split in splits for example in task.examples(split)}
    if name not in by_id:
        near = difflib.get_close_matches(name, by_id, n=3) or list(by_id)[-1:]
        raise ConfigError(
            f"play: --example: {task.name} has no example {name!r}; there is {' or '.join(map(repr, near))}"
        )
    return by_id[name]


def _seating(options: argparse.Namespace, run: Experiment, task: Task[Any], example: Example) -> str:
    """Who speaks for whom in an example."""
    scripted = scripted_in(task, example)
    return ", ".join(f"{agent} by {scripted.get(agent) or _who(options, run, agent)}" for agent in task.agents)


def _who(options: argparse.Namespace, run: Experiment, agent: AgentId) -> str:
    """Who speaks for an agent, in a few words."""
    if agent in options.seat:
        return "you"
    policy = run.team.policy if run.team.shared else run.team.seats.get(agent, run.team.policy)
    if policy.outside:
        return policy.speaker
    saved = _saved_team(options, run)
    return str(saved / agent) if saved else f"{policy.model} (untrained)"


def _speakers(options: argparse.Namespace, run: Experiment, task: Task[Any], scene: Scene) -> tuple[Generate, Judge]:
    """Who answers and who judges: the team, and whoever sits in seats of their own, whose models are not loaded."""
    from madrigal.policies.team import Team
    from madrigal.training.teams import load_saved_team, make_fluency, make_team, sampling_budget

    others = tuple(agent for agent in task.agents if agent not in options.seat)
    saved = _saved_team(options, run)
    if not others:
        team = Team({})
    elif saved:
        team = load_saved_team(saved, run.team, others, run.memory)
    else:
        team = make_team(run.team, others, run.seed, run.memory)
    speak = team.speaker(run.sampling, sampling_budget(run, team))
    speakers = dict.fromkeys(others, speak) | dict.fromkeys(options.seat, keyboard(scene))
    fluency = make_fluency(run, team) if run.reward.fluency else None
    return by_agent(speakers), rewarded(judge_in_turn(task), task, run.topology, run.reward, fluency=fluency)


def _replay(task: Task[Any], topology: Topology, episode: Episode[Any], scene: Scene) -> None:
    """Shows an episode that is over: plays it again, with the answers and steps that it had."""
    turns, steps = iter(episode.turns), iter(episode.steps)
    moves = shown(play(task, topology, episode.start), scene)
    scene.part("The whole episode")
    drive([EpisodeRun(moves, ())], lambda wanted: [next(turns).completion for _ in wanted], lambda asked: [next(steps)])


def _print_json(task: Task[Any], episode: Episode[Any]) -> None:
    from madrigal.runs.records import transcript

    try:
        print(json.dumps(transcript(episode)), flush=True)
    except TypeError as error:
        raise TaskError(f"task {task.name}: step details must be JSON values: {error}") from error
