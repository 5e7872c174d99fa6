"""Saves a run beside its records, and restores it: settings, run.json, checkpoints, the team."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from madrigal.config import Experiment, read_experiment, to_json
from madrigal.evaluation.alarms import Alarm
from madrigal.evaluation.early import EarlyAlarms
from madrigal.learning.learners import Learners
from madrigal.learning.partners import POOL, Partners
from madrigal.policies.team import Team
from madrigal.recipes.trust import check_trust
from madrigal.rollouts.task import Task
from madrigal.runs.checkpoint import check_finite, checkpoints, load_checkpoint, save_checkpoint
from madrigal.runs.files import remedy, remove_folder, write_whole
from madrigal.runs.folders import EXPERIMENT, Held
from madrigal.runs.log import STEPS, RunLog, read_steps
from madrigal.runs.provenance import read_about, session, write_about
from madrigal.training.best import Best, best_of_state
from madrigal.training.checks import open_checked_task, validates
from madrigal.training.fingerprints import fingerprints
from madrigal.training.held_out import Callback
from madrigal.training.resume import Saved, find_saved, state_of
from madrigal.training.teams import pick_device, team_at_step
from madrigal.types import ConfigError, MadrigalError, TrainingError


class Checkpointer:
    """Owns a run folder's checkpoints, and restores the one that a run goes on from.

    Attributes:
        saved_at: the step of the newest checkpoint, -1 while there is none.
        best: the weights that validation chose so far; their checkpoint is kept.
        step_backs: how often the run has gone back to a checkpoint.
        warmed: whether the weights have had their warm start.
        has_best: whether the learners hold those weights now, and no longer the last ones.
        saved_time: when it was written, or the run began, by the clock that is never set.
    """

    def __init__(self, place: Held, run: Experiment, watch: Callback, task: Task[Any]) -> None:
        """Checks what the folder holds, before any model is loaded.

        Raises:
            ConfigError: if the run in it cannot go on with these settings, data or models, or cannot be read.
        """
        self.place, self.run, self.watch = place, run, watch
        self.fingerprints = fingerprints(run, task)
        self.saved: Saved | None = None
        if place.begun:
            self.saved = find_saved(place.folder, run, self.fingerprints, watch.stage)
        self.saved_at, self.best, self.has_best, self.step_backs = -1, Best(), False, 0
        self.warmed = False
        self.saved_time = time.monotonic()
        if self.saved is not None:
            read_about(place.folder)
            for flaw in RunLog(place.folder).check(self.saved.step):
                watch.stage(flaw)

    def restore(self, log: RunLog, learning: Learners, partners: Partners) -> tuple[Any, int]:
        """Restores what was saved and records that the run begins or goes on; returns memory and first step.

        Raises:
            ConfigError: if the checkpoint is of other learners.
        """
        self.log, self.learning, self.partners = log, learning, partners
        memory, first, changes = self.run.algorithm.begin(), 0, {}
        if self.saved is not None:
            changes = dict(self.saved.changes)
            if self.saved.learners is not None:
                memory, first = self.saved.memory, self.saved.step
                self.saved_at = first
                learners, self.saved = self.saved.learners, replace(self.saved, learners=None)
                self._restore_learners(learners)
                self.best = self._best_there(self.saved.best)
                self.step_backs, self.warmed = self.saved.step_backs, self.saved.warmed
        self._begin_session(first, changes)
        # What was measured on the test split with the best weights is no point on the way of a longer run.
        extended = self.saved is not None and self.saved.extended and not validates(self.run)
        log.rewind(first, extended=extended, within=self.saved_at >= 0)
        self.alarms = self._alarms()
        self.saved_time = time.monotonic()
        return memory, first

    def _restore_learners(self, learners: dict[str, dict[str, Any]]) -> None:
        try:
            pool = learners.pop(POOL, None)
            self.learning.restore(learners)
            if pool is not None:
                self.partners.restore(pool)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"checkpoint step-{self.saved_at} of {self.place.folder} does not fit this run's learners "
                f"({type(error).__name__}); remove it and resume from an earlier one"
            ) from error

    def _best_there(self, best: Best) -> Best:
        """The best so far, if its checkpoint can still be read."""
        if best.step in (-1, self.saved_at):
            return best
        try:
            load_checkpoint(self._path(best.step))
        except ConfigError as error:
            self.watch.stage(f"note: {str(error).partition(';')[0]}; the best is chosen among the steps from here on")
            return Best()
        return best

    def _path(self, step: int) -> Path:
        return self.place.folder / "checkpoints" / f"step-{step}"

    def _begin_session(self, step: int, changes: dict[str, Any]) -> None:
        folder = self.place.folder
        about = read_about(folder) if self.saved is not None else {}
        sessions = [*about.get("sessions", []), session(step, pick_device(self.run.team.device), changes)]
        write_about(folder, about | {"sessions": sessions, "fingerprints": self.fingerprints})
        write_whole(folder / EXPERIMENT, to_json(self.run))

    def missing_evaluation(self, first: int) -> str:
        """The evaluation that a run has to make before its next step; "" where it was made."""
        if first == 0 and not self.warmed:
            # A checkpoint of step 0, of a first validation or a signal, keeps what was filed before it.
            return "" if self.saved_at == 0 and "before" in self.log.evaluations() else "before"
        if first == 0:
            return "warm" if self.run.steps and "warm" not in self.log.evaluations() else ""
        due = is_due(first, self.run.evaluation.every) and first < self.run.steps and not validates(self.run)
        return f"step-{first}" if due and f"step-{first}" not in self.log.evaluations() else ""

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after a step: the last, by the number of steps, or by the clock."""
        records, minutes = self.run.records, (time.monotonic() - self.saved_time) / 60
        late = 0 < records.checkpoint_minutes <= minutes
        return late or is_due(step, records.checkpoint_every) or step == self.run.steps

    def save(self, step: int, memory: Any) -> None:
        """Writes a checkpoint, after the records that belong to it; not again where there is one of this step.

        Before the warm start has ended there is none to write: what breaks off in it begins it again.

        Raises:
            TrainingError: if the disk is full or not writable, the folder is gone, or a weight is not a finite number.
        """
        if step == self.saved_at or self.lacks_warm_start:
            return
        if not (self.place.folder / EXPERIMENT).is_file():
            raise TrainingError(f"the run folder {self.place.folder} is gone: what was trained is lost; start it again")
        self.log.flush()
        pool = {POOL: self.partners.state()} if self.run.team.partners.share else {}
        state = state_of(self.run, memory, self.best, self.step_backs, self.fingerprints, warmed=self.warmed)
        # Of two, one is from before the weights that a step has just found to be bad.
        keep = max(self.run.records.keep, 2 if self.run.optimizer.step_backs else 1)
        save_checkpoint(self.log.checkpoints, step, self.learning.states() | pool, state, keep)
        self.saved_at, self.saved_time = step, time.monotonic()
        self.place.settle()

    @property
    def lacks_warm_start(self) -> bool:
        """Whether a warm start is to be made, or made again because it was broken off."""
        return self.run.warm.wanted and not self.warmed

    def end_warm_start(self, memory: Any) -> None:
        """Saves the weights after a warm start, from which the run goes on."""
        self.warmed = True
        self.save(0, memory)

    @property
    def rate(self) -> float:
        """The share of the learning rate that is left: half of it for each time that the run went back."""
        return 0.5**self.step_backs

    def _alarms(self) -> EarlyAlarms:
        """Alarms that have heard all steps that are recorded."""
        alarms = EarlyAlarms()
        for record in read_steps(self.log.folder / STEPS):
            alarms(record)
        return alarms

    def jumped(self, record: Mapping[str, Any]) -> Alarm | None:
        """The jump of KL or entropy in a step that a run is to go back for, as often as it may."""
        alarm, most = self.alarms.jump(record), self.run.optimizer.step_backs
        if alarm is None or not most:
            return None
        if self.step_backs < most and self._good(record["step"]):
            return alarm
        self.watch.stage(f"note: {alarm.name} in step {record['step'] + 1}, and no return to a checkpoint is left")
        return None

    def _good(self, step: int) -> list[int]:
        """The checkpoints of fewer steps: weights are measured in the step that plays with them, before they move."""
        return [number for number, _ in checkpoints(self.log.checkpoints) if number < step]

    def step_back(self, step: int, alarm: Alarm) -> tuple[Any, int]:
        """Forgets the steps from the last good checkpoint on, and halves the rate.

        Args:
            step: in whose record a jump was seen.

        Returns:
            Memory and step to go on from.
        """
        first = self._good(step)[-1]
        learners, state = load_checkpoint(self._path(first))
        tokens = sum(record["tokens"] for record in self._recorded(first))
        self._restore_learners(learners)
        for number, path in checkpoints(self.log.checkpoints):
            if number > first:
                remove_folder(path)
        self.best, self.step_backs = best_of_state(state.get("best")), self.step_backs + 1
        self.log.rewind(first, within=True)
        self.alarms = self._alarms()
        self.saved_at = -1
        self.save(first, state["memory"])
        about = read_about(self.place.folder)
        back = {"from": step, "to": first, "alarm": f"{alarm.name}: {alarm.text}", "rate": self.rate, "tokens": tokens}
        backs = [*about.get("step_backs", [])[: self.step_backs - 1], back]
        write_about(self.place.folder, about | {"step_backs": backs})
        self.watch.stage(
            f"note: {alarm.name} in step {step + 1}: back to the checkpoint after step {first}, and on with "
            f"{self.rate:g} of the learning rate ({self.step_backs} of {self.run.optimizer.step_backs} times)"
        )
        return state["memory"], first

    def _recorded(self, first: int) -> list[dict[str, Any]]:
        return [record for record in read_steps(self.log.folder / STEPS) if record["step"] >= first]

    def lacks_validation(self, step: int) -> bool:
        """Whether the weights after a step are to be measured on the validation split, and were not."""
        due = is_due(step, self.run.evaluation.interval(self.run.steps)) or step == self.run.steps
        return validates(self.run) and due and self.best.seen < step

    def choose(self, step: int, return_percent: float, memory: Any) -> None:
        """Notes the validation return after a step, and saves the step if no earlier one was as good."""
        self.best = self.best.after(step, return_percent)
        if self.best.step == step or self.saved_at == step:
            self.saved_at = -1  # a checkpoint of this step does not know of this evaluation
            self.save(step, memory)

    @property
    def is_patient(self) -> bool:
        """Whether training may go on: validation has become better not too long ago."""
        patience = self.run.evaluation.patience
        return not patience or self.best.waited < patience

    @contextmanager
    def saving_on_error(self, step: int, memory: Any) -> Iterator[None]:
        """Saves what was before a step, or an evaluation, that fails before any weight has moved; the error goes on."""
        pool, steps = self.partners.state(), self._steps()
        try:
            yield
        except (MadrigalError, OSError, RuntimeError):
            if step and step != self.saved_at and self._steps() == steps:
                self.watch.stage(f"saving the {step} steps before the error")
                self.partners.restore(pool)
                with contextlib.suppress(TrainingError):  # what stopped the run is told
                    self.save(step, memory)
            raise

    def _steps(self) -> dict[str, int]:
        """How many optimizer steps each learner has made."""
        return {name: learner.optimizer.steps for name, learner in self.learning.by_name.items()}

    def take_best(self, team: Team, step: int) -> None:
        """Saves the last weights as team-last, and gives the learners those that validation chose, saved before."""
        if self.best.step < 0 or self.has_best:
            return
        self.watch.stage("saving the last team")
        save_team(team, self.place.folder / "team-last")
        learners, _ = load_checkpoint(self._path(self.best.step))
        learners.pop(POOL, None)
        self.learning.restore(learners)
        self.has_best = True
        stopped = "" if self.is_patient else f"stopped early, {self.best.waited} evaluations without a better one; "
        self.watch.stage(
            f"note: {stopped}best validation return {self.best.return_percent:.1f} %, after step {self.best.step} of "
            f"{step}: these weights are in team/, the last in team-last/"
        )

    def save_team(self, team: Team, step: int) -> None:
        """Writes the team, and of which step it is: the best one, if any was chosen."""
        self.take_best(team, step)
        self.watch.stage("saving the team")
        save_team(team, self.place.folder / "team")
        chosen = {"last_step": step, "best": self.best.state()} if self.has_best else {}
        about = {"team_step": self.best.step if self.has_best else step, **chosen}
        write_about(self.place.folder, read_about(self.place.folder) | about)


def is_due(step: int, every: int) -> bool:
    """Whether something that is done every so many steps, 0 for never, is to be done after a step."""
    return every > 0 and step % every == 0


def save_team(team: Team, folder: Path) -> None:
    """Writes the team beside `folder` first and renames, so that a saved team is always whole.

    Raises:
        TrainingError: if a weight is not a finite number, or the disk is full or not writable.
    """
    check_finite({policy.name: policy.parameters() for policy in team.trainable}, f"team {folder}")
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        team.save(draft)
        remove_folder(folder)
        draft.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise TrainingError(
            f"team {folder} could not be written ({error}); {remedy(error)}: the last checkpoint is whole"
        ) from error


def export(folder: Path, step: int | None = None, output: Path | None = None, *, trust: bool = False) -> Path:
    """Makes a team of a checkpoint of a run, the newest by default, and returns where it is.

    Args:
        output: by default the run's own team where there is none yet, else team-step-N beside it.
        trust: let the run's file import an own task, or go without the sandbox.

    Raises:
        ConfigError: if there is no such checkpoint, or something else lies where it is to go.
    """
    run = read_experiment(folder)
    if not trust:
        check_trust(run, folder, "ask")
    steps = [number for number, _ in checkpoints(folder / "checkpoints")]
    wanted = steps[-1] if step is None and steps else step
    own = folder / "team"
    target = output or (folder / f"team-step-{wanted}" if own.exists() else own)
    if target.exists() and not (target / "team.json").is_file():
        raise ConfigError(f"--output: {target} exists and is no team; name another folder")
    with open_checked_task(run) as task:
        save_team(team_at_step(folder, run, task.agents, wanted), target)
    if target == own:
        write_about(folder, read_about(folder) | {"team_step": wanted})
    return target
