"""Training: play, credit, update, sync, again and again; and beside the line: log, evaluate, save.

Knows: the order of things. Does not know: any algorithm, task or model in particular.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from madrigal.algorithms import reported
from madrigal.assemble import check_prompts, make_team, prepare, voices
from madrigal.assemble_learning import check_histories, make_learning
from madrigal.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from madrigal.config import Experiment, to_json
from madrigal.forest import branch
from madrigal.held_out import Silent, Watcher, evaluate_on, held_out, use_threads
from madrigal.learning import Learning
from madrigal.measure import step_record, transcripts
from madrigal.partners import POOL, Partners
from madrigal.report.log import RunLog
from madrigal.report.trackers import make_tracker
from madrigal.rollout import Judger, Speaker
from madrigal.seeds import derive
from madrigal.task import Task
from madrigal.team import Team
from madrigal.types import ConfigError, Example, Group, Point, TrainingError
from madrigal.without import leaving_one_out, paying_differences

Stop = Callable[[], bool]


def train(
    run: Experiment, folder: Path, *, resume: bool = False, watch: Watcher | None = None, stop: Stop | None = None
) -> bool:
    """Runs one experiment in its folder, which exists.

    Args:
        stop: says whether to stop after the present step, where the caller minds Ctrl-C; None minds it here.

    Returns:
        True when all steps were made, False when Ctrl-C ended the run early; it is saved and can be resumed then.
    """
    with prepare(run) as task:
        return train_on(task, run, folder, resume=resume, watch=watch, stop=stop)


def train_on(
    task: Task[Any],
    run: Experiment,
    folder: Path,
    *,
    resume: bool = False,
    watch: Watcher | None = None,
    stop: Stop | None = None,
) -> bool:
    """`train` on a task that `prepare` has opened. Every step is four verbs: play, credit, update, sync."""
    watch = watch or Silent()
    use_threads(run.threads)
    log = RunLog(folder)
    saved = _saved(log, run) if resume else None
    watch.stage("loading the team")
    team = make_team(run.team, task.agents, run.seed)
    check_prompts(run, task, team, [*_trained(run, task), *held_out(run, task)])
    learning = make_learning(run, team)
    check_histories(run, task, learning.critics, _trained(run, task))
    log = RunLog(folder, [make_tracker(t, folder, dataclasses.asdict(run)) for t in run.records.trackers])
    partners = Partners(run.team.partners, team.seats)
    start: tuple[Any, int] = _restored(saved, learning, partners) if saved else (run.algorithm.begin(), 0)
    memory, first = start
    if saved is None:  # only now: what cannot be loaded leaves no run behind
        (folder / "experiment.json").write_text(to_json(run))
    log.rewind(first)
    minded = stop_on_interrupt() if stop is None else nullcontext(stop)
    with voices(run, task, team) as (speak, judge), minded as interrupted:
        judged = _Evaluator(run, task, speak, judge, log, watch)
        if first == 0 and run.steps:
            judged("before", 0)
        if first < run.steps:
            watch.stage("training")
        step, stopping = first, interrupted()
        while step < run.steps and not stopping:
            began = time.perf_counter()
            partners.remember(step)
            groups = _play(run, task, step, partners, speak, judge)
            readings = learning.read(groups)
            stages, memory = run.algorithm.credit(groups, memory, readings)
            updates = learning.update(groups, stages, readings, run.optimiser.scale(step, run.steps))
            # sync: the engines of local policies read the learners' own weights, and `stale` proves it.
            record = step_record(step, time.perf_counter() - began, groups, stages, updates)
            record |= reported(run.algorithm, memory)
            log.step(record, transcripts(step, groups, stages, run.records.transcripts))
            watch.step(record)
            step += 1
            if _due(step, run.evaluation.every) and step < run.steps:
                judged(f"step-{step}", step)
            stopping = interrupted()
            if _due(step, run.records.checkpoint_every) or step == run.steps or stopping:
                _save(log, learning, partners, memory, step, run)
        if step < run.steps:
            if step == first:  # stopped before the first step: what was made so far is worth keeping too
                _save(log, learning, partners, memory, step, run)
            return False
        judged("after", step)
    if run.steps:
        watch.stage("saving the team")
        save_team(team, folder / "team")
    return True


def examples_of(step: int, examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """The examples of a step, a function of its arguments: passes over the data, each in its own order, cut up."""
    chosen = []
    orders: dict[int, list[int]] = {}
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, len(examples))
        if epoch not in orders:
            orders[epoch] = list(range(len(examples)))
            random.Random(derive(seed, "epoch", epoch)).shuffle(orders[epoch])
        chosen.append(examples[orders[epoch][place]])
    return chosen


def save_team(team: Team, folder: Path) -> None:
    """Writes the team beside `folder` first and renames, so that a saved team is always whole.

    Raises:
        TrainingError: if the disk is full or not writable; the last checkpoint is whole.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        team.save(draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(
            f"team {folder} could not be written ({error}); free some space and resume: the last checkpoint is whole"
        ) from error


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turns the first Ctrl-C into a wish to stop after the present step; the second one ends at once."""
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: whoever owns it also owns Ctrl-C
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _play(
    run: Experiment, task: Task[Any], step: int, partners: Partners, speak: Speaker, judge: Judger
) -> list[Group[Any]]:
    examples = examples_of(step, task.examples("train"), run.prompts, run.seed)
    origins = [Point(example.id, task.reset(example)) for example in examples]
    paid = paying_differences(judge) if run.reward.share == "difference" else judge
    judging = leaving_one_out(paid) if run.algorithm.needs.without else paid
    return [
        group
        for table in partners.seatings(origins, speak, (run.seed, step))
        for group in branch(task, run.topology, table.origins, run.algorithm.branching, table.speak, judging, table.key)
    ]


def _trained(run: Experiment, task: Task[Any]) -> list[Example]:
    """The distinct examples of all steps: the first pass over the data meets them all."""
    examples = task.examples("train")
    return examples_of(0, examples, min(run.steps * run.prompts, len(examples)), run.seed)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Evaluates, files and shows; the same way before, during and after training."""

    run: Experiment
    task: Task[Any]
    speak: Speaker
    judge: Judger
    log: RunLog
    watch: Watcher

    def __call__(self, when: str, step: int) -> None:
        self.watch.stage(f"evaluating {when}")
        result, shown = evaluate_on(self.task, self.run, self.speak, self.judge)
        self.log.evaluation(when, dataclasses.asdict(result), shown, step)
        self.watch.evaluated(when, result)


def _save(log: RunLog, learning: Learning, partners: Partners, memory: Any, step: int, run: Experiment) -> None:
    state = {"memory": memory, "experiment": to_json(run)}
    states = learning.states() | ({POOL: partners.state()} if run.team.partners.share else {})
    save_checkpoint(log.checkpoints, step, states, state, run.records.keep)


Saved = tuple[dict[str, dict[str, Any]], dict[str, Any]]


def _saved(log: RunLog, run: Experiment) -> Saved | None:
    """The newest checkpoint, checked before any model is loaded; without one the run begins anew.

    Raises:
        ConfigError: if it is damaged, or was made with other settings.
    """
    path = newest_checkpoint(log.checkpoints)
    if path is None:
        return None
    states, state = load_checkpoint(path)
    if state["experiment"] != to_json(run):
        raise ConfigError(
            f"checkpoint {path} was made with other settings than this run's; resume without overrides, or start a new "
            "run with another --name"
        )
    return states, state


def _restored(saved: Saved, learning: Learning, partners: Partners) -> tuple[Any, int]:
    """Takes up a checkpoint: memory and first step."""
    states, state = saved
    learning.restore({name: held for name, held in states.items() if name != POOL})
    if POOL in states:
        partners.restore(states[POOL])
    return state["memory"], int(state["step"])
