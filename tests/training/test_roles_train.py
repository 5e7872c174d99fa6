"""A whole run of a tiny shared policy with roles: words reach prompts; a run that was cut goes on as if it was not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.runs import StopsBefore, numbers, tiny_run
from madrigal.algorithms.role_information import RoleInformation
from madrigal.api import load_team, train
from madrigal.runs.checkpoint import load_checkpoint, newest_checkpoint
from madrigal.runs.log import read_lines
from madrigal.settings import RolesConfig
from madrigal.tasks.chores.task import Chores


def test_a_run_that_was_cut_goes_on_with_the_same_classifier_and_is_asked_with_roles(
    model_folder: Path, tmp_path: Path
) -> None:
    algorithm = RoleInformation(width=2, weight=1.0)
    run = tiny_run(model_folder, Chores(), algorithm, steps=2, roles=RolesConfig(("red", "blue")))
    run = replace(run, team=replace(run.team, shared=True))
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    for folder in (whole, cut):
        folder.mkdir()
    assert train(run, whole)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(run, cut, watch=StopsBefore(1))
    assert train(run, cut, resume=True)
    assert numbers(cut) == numbers(whole)
    memories = [
        load_checkpoint(newest)[1]["memory"] for f in (cut, whole) if (newest := newest_checkpoint(f / "checkpoints"))
    ]
    assert json.dumps(memories[0]) == json.dumps(memories[1]) and len(memories) == 2
    assert sorted(memories[0]["classifier"]["roles"]) == ["blue", "red"]

    for episode in read_lines(whole / "episodes.jsonl"):
        roles = episode["details"]["roles"]
        assert sorted(roles.values()) == ["blue", "red"]
        assert all(t["prompt"][0]["content"].startswith(f"{roles[t['agent']]}\n2 of you") for t in episode["turns"])
    answer = load_team(whole).answer({"jobs": ["wash the car", "dig the garden"]})
    assert [turn["prompt"][0]["content"].split("\n")[0] for turn in answer.turns] == ["red", "blue"]
