"""What a run was started with and settings only name: files whose content counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from madrigal.recipes import recipe
from madrigal.tasks.writing.task import Tldr, tldr_task
from madrigal.training.fingerprints import differences, fingerprints


def test_transitions_that_were_rewritten_are_named(tmp_path: Path) -> None:
    file = tmp_path / "transitions.json"
    file.write_text('{"contrast": ["but"]}')
    run = replace(recipe("tldr"), task=Tldr(transitions=str(file)))
    task = tldr_task(Tldr(transitions=str(file)))
    before = fingerprints(run, task)
    file.write_text('{"contrast": ["yet"]}')
    assert differences(before, fingerprints(run, task)) == ["the transitions"]
