"""Checkpoints are whole or absent."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from madrigal.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from madrigal.types import ConfigError, TrainingError

LEARNERS: dict[str, dict[str, Any]] = {
    "ann": {"parameters": {"w": torch.arange(3.0)}, "version": 2},
    "bob": {"parameters": {"w": torch.ones(2, 2)}, "version": 5},
}


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(folder, step, LEARNERS, {"memory": {"m": 1.5}}, keep)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    learners, state = load_checkpoint(save(tmp_path / "checkpoints", 7))
    assert state == {"step": 7, "memory": {"m": 1.5}}
    assert set(learners) == {"ann", "bob"} and learners["bob"]["version"] == 5
    assert torch.equal(learners["ann"]["parameters"]["w"], torch.arange(3.0))


def test_only_the_newest_are_kept_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-11"]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-11"


def test_a_draft_left_behind_by_a_kill_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / ".step-4.draft").mkdir()
    (tmp_path / ".step-4.draft" / "ann.pt").write_bytes(b"half")
    (tmp_path / "step-x").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "step-3"
    assert load_checkpoint(save(tmp_path, 4))[1]["step"] == 4


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save_checkpoint(tmp_path, 3, {"ann": {"version": 9}}, {})
    assert load_checkpoint(tmp_path / "step-3")[0] == {"ann": {"version": 9}}


@pytest.mark.parametrize("name", ["ann.pt", "bob.pt", "state.json"])
@pytest.mark.parametrize("harm", ["truncated", "changed", "missing"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, harm: str) -> None:
    file = save(tmp_path, 1) / name
    data = file.read_bytes()
    file.write_bytes({"truncated": data[:-5], "changed": data[:-1] + bytes([data[-1] ^ 1]), "missing": b""}[harm])
    if harm == "missing":
        file.unlink()
    with pytest.raises(ConfigError, match=f"{name} is missing, truncated or changed"):
        load_checkpoint(tmp_path / "step-1")


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_checkpoint_without_its_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    manifest = save(tmp_path, 1) / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(ConfigError, match=r"expected a manifest.json.*; remove this folder"):
        load_checkpoint(tmp_path / "step-1")


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert set(json.loads((path / "manifest.json").read_text())) == {"ann.pt", "bob.pt", "state.json"}


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> NoReturn:
        raise failure

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"step-2 could not be written .*free some space and resume") as refusal:
        save(tmp_path, 2)
    assert "\n" not in str(refusal.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert load_checkpoint(tmp_path / "step-1")[1]["step"] == 1
