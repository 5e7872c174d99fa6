"""Finds what a run goes on from, and checks that settings, data and models are as they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from madrigal.config import FREE, Experiment, from_json, read_experiment, to_json, with_absolute_places, without_places
from madrigal.runs.checkpoint import Learners, newest_whole
from madrigal.runs.provenance import read_about
from madrigal.runs.variants import flat
from madrigal.training.best import Best, best_of_state
from madrigal.training.fingerprints import CODE, differences
from madrigal.types import ConfigError

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Saved:
    """What a run goes on from.

    Attributes:
        step: how many steps were made.
        experiment: the settings that they were made with.
        learners: their states by name; None where no checkpoint was written yet.
        memory: the algorithm's.
        best: the weights that validation chose so far.
        step_backs: how often the run had gone back.
        warmed: whether its warm start had ended.
        fingerprints: of data, models and code at the start; empty where the folder does not say.
        changes: settings that are others now, as [before, now].
    """

    step: int
    experiment: Experiment
    learners: Learners | None = None
    memory: Any = None
    best: Best = field(default_factory=Best)
    step_backs: int = 0
    warmed: bool = False
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def extended(self) -> bool:
        """Whether the run had made all its steps and is to make more."""
        return self.step == self.experiment.steps > 0 and "steps" in self.changes


def find_saved(folder: Path, run: Experiment, now: Mapping[str, str], tell: Tell) -> Saved | None:
    """What a run folder holds to go on from, checked before any model is loaded; None where no run has begun.

    Args:
        run: the settings to go on with.
        now: fingerprints of what lies behind its names.
        tell: hears of what was changed, and of what is damaged and can be done without.

    Raises:
        ConfigError: if all checkpoints are damaged, or the run cannot go on with these settings, data or models.
    """
    checkpoint = newest_whole(folder / "checkpoints", tell)
    if checkpoint is None:
        if not (folder / "experiment.json").is_file():
            return None
        saved = Saved(0, read_experiment(folder), fingerprints=read_about(folder).get("fingerprints") or {})
    else:
        learners, state = checkpoint
        if not {"experiment", "memory"} <= state.keys():
            raise ConfigError(
                f"checkpoint step-{state['step']} of {folder} lacks settings or memory; remove it and resume"
            )
        before = from_json(str(state["experiment"]), f"checkpoint step-{state['step']}")
        prints = state.get("fingerprints") or {}
        best, backs = best_of_state(state.get("best")), state.get("step_backs", 0)
        warmed = state.get("warmed", False)
        saved = Saved(state["step"], before, learners, state["memory"], best, backs, warmed, prints)
    _check_keep(folder, saved.experiment, run)
    _check_content(folder, saved.fingerprints, now, tell)
    changes = _changes(saved.experiment, run, known=bool(saved.fingerprints))
    _check_changes(folder, changes, run, saved.step)
    if changes and checkpoint:
        tell(_announced(saved.experiment, run, changes, saved.step))
    return replace(saved, changes=changes)


def state_of(
    run: Experiment, memory: Any, best: Best, step_backs: int, fingerprints: Mapping[str, str], *, warmed: bool
) -> dict[str, Any]:
    """What a checkpoint holds beside its learners."""
    more: dict[str, Any] = {"best": best.state()} if best.step >= 0 else {}
    more |= {"step_backs": step_backs} if step_backs else {}
    more |= {"warmed": True} if warmed else {}
    return {"memory": memory, "experiment": to_json(run), "fingerprints": dict(fingerprints), **more}


def _check_keep(folder: Path, before: Experiment, run: Experiment) -> None:
    if before.steps and before.evaluation.keep != run.evaluation.keep:
        raise ConfigError(
            f"run {folder}: evaluation.keep was {before.evaluation.keep!r}, not {run.evaluation.keep!r}; validation "
            "examples may be taken from training, so start a new run, from this team with --from"
        )


def _check_content(folder: Path, fingerprints: Mapping[str, str], now: Mapping[str, str], tell: Tell) -> None:
    changed = differences(fingerprints, now)
    for name in changed:
        if name.startswith(CODE):  # a mistake in it is mended, and the run goes on
            tell(f"{name} is not what this run was started with; going on with the new one")
    if others := [name for name in changed if not name.startswith(CODE)]:
        raise ConfigError(
            f"run {folder}: {' and '.join(others)} {'is' if len(others) == 1 else 'are'} not what it was started with; "
            "put back what was there, or start a new run, from this team with --from"
        )


def _changes(before: Experiment, run: Experiment, *, known: bool) -> dict[str, Any]:
    """Settings that differ, as [before, now]; where files lie is none where their content is known."""
    comparable = without_places if known else with_absolute_places
    old, new = (dict(flat(json.loads(to_json(comparable(experiment))))) for experiment in (before, run))
    pairs = {key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys())}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _check_changes(folder: Path, changes: Mapping[str, Any], run: Experiment, step: int) -> None:
    # What makes policies answer has no state; the next server has another port.
    elsewhere = {key for key in changes if ".engine." in key or ".remote." in key} - {
        key for key in changes if key.endswith(".remote.model")
    }
    fixed = [key for key in changes if key.partition(".")[0] not in FREE and key not in elsewhere]
    if fixed:
        old, new = changes[fixed[0]]
        raise ConfigError(
            f"run {folder} was made with other settings: {fixed[0]} was {old!r}, not {new!r}; on resume only these may "
            f"change: {', '.join(FREE)}; for others start a new run, from this team with --from"
        )
    if run.steps < step:
        raise ConfigError(
            f"run {folder} has made {step} steps already, expected --steps {step} or more, got {run.steps}; a team of "
            f"an earlier step is made by: madrigal export {folder} --step N"
        )


def _announced(before: Experiment, run: Experiment, changes: Mapping[str, Any], step: int) -> str:
    listed = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changes.items())
    schedule = run.optimizer.lr_schedule
    laid_out = f"; the learning rate's {schedule} schedule is laid out anew for {run.steps} steps"
    anew = before.steps != run.steps and schedule != "constant"
    return f"from step {step} on with other settings ({listed}){laid_out if anew else ''}"
