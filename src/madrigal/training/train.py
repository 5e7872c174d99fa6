"""Training: play, credit, update, sync, again and again; and beside the line: log, evaluate, save."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madrigal.algorithms import reported
from madrigal.config import Experiment, with_absolute_places
from madrigal.learning.partners import Partners
from madrigal.learning.rates import rates_in_words
from madrigal.policies.machine import give_back
from madrigal.rollouts.bill import billed
from madrigal.rollouts.play import Generate, GenerationRequest, Judge
from madrigal.rollouts.rewards import Fluency, rewarded
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task
from madrigal.rollouts.tree import numbered, rollout_groups
from madrigal.runs.folders import Held, held
from madrigal.runs.log import RunLog
from madrigal.runs.records import step_record, transcripts
from madrigal.runs.signals import Stop, StoppedError, stop_on_signals
from madrigal.runs.trackers import make_tracker
from madrigal.tasks.splits import Validated
from madrigal.training.checks import check_engines_of, check_prompts, open_checked_task, validates
from madrigal.training.demonstrations import Demonstration, check_lengths, read_demonstrations
from madrigal.training.held_out import Callback, NullCallback, evaluate_on, held_out
from madrigal.training.learner_factory import check_histories
from madrigal.training.plan import check_plan, fitted, make_plan
from madrigal.training.saving import Checkpointer, is_due
from madrigal.training.site import Site, open_site
from madrigal.training.teams import make_fluency, make_team, reads_fluency, use_threads
from madrigal.training.warm import row_in_words, warm_start
from madrigal.types import Completion, Example, Group, Point

if TYPE_CHECKING:
    from madrigal.learning.ranks import Ranks

WARM_REFERENCE = (
    "note: the KL term holds policies near the models as they were loaded, before the warm start; to hold them near "
    "it, make that a run of its own (--steps 0) and begin another with --from"
)


def train_experiment(
    run: Experiment,
    folder: Path,
    *,
    task: Task[Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    watch: Callback | None = None,
    stop: Stop | None = None,
) -> bool:
    """Opens the task of an experiment and its run folder, which is made where there is none, and trains.

    Args:
        task: the task itself, where no file names it.
        resume: go on with the run in the folder, if there is one.
        overwrite: replace the run in the folder.
        stop: nonzero when the run is to stop after the present step; None listens to signals.

    Returns:
        True when all steps were made, False when a signal ended the run early; it is saved then, its team too, and can
        be resumed.

    Raises:
        ConfigError: if the folder holds a run and neither resume nor overwrite, or another process trains there.
    """
    hold = held(folder, resume=resume, overwrite=overwrite, beside=True)
    with open_checked_task(run, task) as checked, hold as place:
        return not training_loop(checked, run, place, watch=watch, stop=stop)


def training_loop(
    task: Task[Any],
    run: Experiment,
    place: Held,
    *,
    watch: Callback | None = None,
    stop: Stop | None = None,
    ranks: Ranks | None = None,
) -> int:
    """Trains in a folder that is held, on a task that is open. Every step is four verbs: play, credit, update, sync.

    Args:
        ranks: processes over which learners are sharded, of which this one is the first.

    Returns:
        0 when all steps were made, else what `stop` said: the signal that ended the run early.
    """
    watch, run = watch or NullCallback(), with_absolute_places(run)
    use_threads(run.threads)
    with open_site(run, task, place.folder.name, watch.stage, ranks) as site:
        return _train(task, run, place, site, watch, stop)


def _train(task: Task[Any], run: Experiment, place: Held, site: Site, watch: Callback, stop: Stop | None) -> int:
    demonstrations = read_demonstrations(run, task)
    checkpointer = Checkpointer(place, run, watch, task)
    if isinstance(task, Validated) and task.note:
        watch.stage(f"note: {task.note}")
    examples = trained_examples(run, task, demonstrations)
    validation = held_out(run, task, "validation") if validates(run) else ()
    played = [*validation, *held_out(run, task)]
    plan = make_plan(run, task, examples, played)
    if site.planned and (warning := check_plan(plan)):
        watch.stage(warning)
    watch.stage(plan.summary)
    give_back(at_once=plan.batches.give_back)
    check_engines_of(run, task)
    watch.stage("loading the team")
    team = make_team(run.team, task.agents, run.seed)
    check_prompts(run, task, team, [*examples, *played])
    check_lengths(demonstrations, team, run.sampling.max_new_tokens)
    learning = site.learning(fitted(run, plan), team, in_turn=plan.batches.in_turn)
    if run.steps and run.optimizer.lr is None:
        watch.stage(f"note: learning rate {rates_in_words(team.trainable)}; --optimizer.lr sets another")
    if run.warm.wanted and run.steps and run.algorithm.needs.reference:
        watch.stage(WARM_REFERENCE)
    check_histories(run, task, learning.critics, examples)
    trackers = [make_tracker(kind, place.folder, dataclasses.asdict(run)) for kind in run.records.trackers]
    fluency = make_fluency(run, team) if reads_fluency(run) else None
    paid = fluency if run.reward.fluency and run.trains else None
    log = RunLog(place.folder, trackers, run.records.transcripts)
    partners = Partners(run.team.partners, team.seats, run.sampling, plan.batches.sampling)
    signals, ended = stop_on_signals() if stop is None else nullcontext(stop), False
    workers = site.rollout_workers(run, task, team, plan.batches.sampling)
    with workers as (speak, judge), signals as interrupted, billed(watch.stage) as counted:
        # Only now: what cannot be loaded or started leaves no run behind.
        memory, step = checkpointer.restore(log, learning, partners)
        stoppable = counted(_until(interrupted, speak))
        evaluate = _Evaluator(run, task, stoppable, judge, log, watch, place, fluency, site.lanes)
        plays = site.played(
            lambda step, speak: _play(run, task, step, partners, counted(speak), judge, paid, site.lanes),
            speak,
            run.steps,
        )
        try:
            if run.trains and (missing := checkpointer.missing_evaluation(step)):
                evaluate(missing, step)
            if checkpointer.lacks_warm_start:
                judging = rewarded(judge, task, run.topology, run.reward, fluency=paid)
                given = demonstrations or examples_of(0, task.examples("train"), run.warm.examples, run.seed)
                watch.stage("warm start")
                for row in warm_start(run, task, learning, given, stoppable, judging, interrupted, site.lanes):
                    log.warm(row)
                    watch.stage(row_in_words(row))
                checkpointer.end_warm_start(memory)
                if run.steps:
                    evaluate("warm", step)
            if checkpointer.lacks_validation(step):
                checkpointer.choose(step, evaluate.validate(step), memory)
            if run.optimizer.step_backs and checkpointer.saved_at < 0:
                checkpointer.save(step, memory)
            if step < run.steps and checkpointer.is_patient:
                watch.stage("training")
            while step < run.steps and checkpointer.is_patient and not interrupted():
                began = time.perf_counter()
                with checkpointer.saving_on_error(step, memory):
                    partners.remember(step)
                    groups = learning.read(plays(step))
                    stages, memory = run.algorithm.credit(groups, memory)
                    rate = run.optimizer.scale(step, run.steps) * checkpointer.rate
                    updates = learning.update(groups, stages, rate)
                # sync: who speaks with copies of the weights is handed the new ones, by the site or when it is asked
                # next; `logprob_mismatch` proves that it speaks with them.
                record = step_record(step, time.perf_counter() - began, groups, stages, updates)
                record |= reported(run.algorithm, memory)
                record |= {"step_backs": checkpointer.step_backs} if checkpointer.step_backs else {}
                log.step(record, transcripts(step, groups, stages, run.records.transcripts))
                watch.step(record)
                if jump := checkpointer.jumped(record):
                    memory, step = checkpointer.step_back(step, jump)
                    continue
                step += 1
                with checkpointer.saving_on_error(step, memory):
                    if checkpointer.lacks_validation(step):
                        checkpointer.choose(step, evaluate.validate(step), memory)
                    elif is_due(step, run.evaluation.every) and step < run.steps and not validates(run):
                        evaluate(f"step-{step}", step)
                if checkpointer.is_due(step):
                    checkpointer.save(step, memory)
            if step == run.steps or not checkpointer.is_patient:
                if run.trains:
                    checkpointer.save(step, memory)
                    checkpointer.take_best(team, step)
                evaluate("after", step)
                ended = True
        except StoppedError:
            pass  # the weights are those after the last step; half a warm start is not saved
        if run.trains:
            checkpointer.save(step, memory)
        if step or checkpointer.warmed:
            checkpointer.save_team(team, step)
    return 0 if ended else int(interrupted())


def _until(interrupted: Stop, speak: Generate) -> Generate:
    """A speaker that raises StoppedError once the run is to stop: an evaluation may take longer than a step."""

    def answer(wanted: Sequence[GenerationRequest]) -> Sequence[Completion]:
        if interrupted():
            raise StoppedError
        return speak(wanted)

    return answer


def examples_of(step: int, examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """The examples of a step: passes over the data, each in its own order, cut up; a function of its arguments."""
    chosen = []
    orders: dict[int, list[int]] = {}
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, len(examples))
        if epoch not in orders:
            orders[epoch] = list(range(len(examples)))
            random.Random(derive(seed, "epoch", epoch)).shuffle(orders[epoch])
        chosen.append(examples[orders[epoch][place]])
    return chosen


def _play(
    run: Experiment,
    task: Task[Any],
    step: int,
    partners: Partners,
    speak: Generate,
    judge: Judge,
    fluency: Fluency | None,
    lanes: int = 1,
) -> list[Group[Any]]:
    examples = examples_of(step, task.examples("train"), run.prompts, run.seed)
    origins = [Point(example.id, task.reset(example)) for example in examples]
    stop_above, without = run.algorithm.branching.stop_above, run.algorithm.needs.counterfactual_rewards
    judging = rewarded(
        judge,
        task,
        run.topology,
        run.reward,
        fluency=fluency,
        training=True,
        counterfactual_rewards=without,
        stop_above=stop_above,
    )
    played = [
        group
        for table in partners.matchups(origins, speak, (run.seed, step))
        for group in rollout_groups(
            task, run.topology, table.origins, run.algorithm.branching, table.speak, judging, table.key, lanes
        )
    ]
    return numbered(played)  # each call of `rollout_groups` numbers its answers from 0


def trained_examples(run: Experiment, task: Task[Any], given: Sequence[Demonstration] = ()) -> list[Example]:
    """The distinct examples of all steps and of the warm start: the first pass over the data meets them all."""
    examples = task.examples("train")
    count = max(run.steps * run.prompts, 0 if given else run.warm.examples)
    met = [*examples_of(0, examples, min(count, len(examples)), run.seed), *(one.example for one in given)]
    return list({example.id: example for example in met}.values())


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Evaluates the team, logs and shows the result."""

    run: Experiment
    task: Task[Any]
    speak: Generate
    judge: Judge
    log: RunLog
    watch: Callback
    place: Held
    fluency: Fluency | None
    lanes: int

    def __call__(self, when: str, step: int) -> None:
        self.watch.stage(f"evaluating {when}")
        result, shown = evaluate_on(self.task, self.run, self.speak, self.judge, "test", self.fluency, self.lanes)
        self.log.evaluation(when, dataclasses.asdict(result), shown, step)
        self.place.settle()
        self.watch.evaluated(when, result)

    def validate(self, step: int) -> float:
        """Plays the validation split after a step, and returns the normalized return."""
        self.watch.stage(f"validating after step {step}")
        result, shown = evaluate_on(self.task, self.run, self.speak, self.judge, "validation", self.fluency, self.lanes)
        self.log.validation(dataclasses.asdict(result), shown, step)
        self.watch.evaluated(f"validation-{step}", result)
        return result.return_percent
