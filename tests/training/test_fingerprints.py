"""What a run was started with and settings only name: files whose content counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from madrigal.config import without_places
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


def test_words_of_a_file_are_others_than_those_that_come_with_the_task() -> None:
    """The place of a file says nothing, for its content is compared; that there is one at all does."""
    run = recipe("tldr")
    embedded, here, there = (without_places(replace(run, reworded=w)) for w in ("embedded", "a.json", "b.json"))
    assert here == there != embedded != without_places(run)
