"""Checkpoints are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from madrigal.runs.checkpoint import load_checkpoint, newest_checkpoint, newest_whole, save_checkpoint
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
    assert "\n" not in str(refusal.value) and "step-1 is whole" in str(refusal.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]
    assert load_checkpoint(tmp_path / "step-1")[1]["step"] == 1


def test_the_first_error_does_not_speak_of_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder is to be")
    with pytest.raises(TrainingError, match="make its folder writable and resume: there is no checkpoint yet"):
        save(tmp_path / "checkpoints", 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, number: float) -> None:
    save(tmp_path, 1)
    moments = {"optimizer": {"state": {0: {"exp_avg": torch.tensor([0.0, number])}}}}
    with pytest.raises(TrainingError, match=r"optimizer.state.0.exp_avg of ann holds numbers that are not finite"):
        save_checkpoint(tmp_path, 2, {"ann": moments}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def remade(path: Path, **files: bytes) -> Path:
    """A checkpoint with other files and a manifest that is true of them."""
    for name, data in files.items():
        (path / name.replace("_", ".")).write_bytes(data)
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.iterdir() if p.name != "manifest.json"}
    (path / "manifest.json").write_text(json.dumps(sums))
    return path


def as_bytes(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"state_json": b'{"step": 2, "memory": {}}'}, "it is of step 2"),
        ({"state_json": b'{"step": -5}'}, "it is of step -5"),
        ({"state_json": b"[]"}, "expected a JSON object, got list"),
        ({"state_json": b"[" * 100_000}, "lists too deep"),
        ({"state_json": b'{"step": ' + b"1" * 5000 + b"}"}, "a number too long"),
        ({"ann_pt": b"no archive"}, "ann.pt is no file of torch.save"),
        ({"ann_pt": as_bytes([1])}, "ann.pt holds no learner's state"),
        ({"ann_pt": as_bytes({"w": torch.tensor([float("nan")])})}, "its weights are not finite"),
    ],
)
def test_a_checkpoint_whose_manifest_is_true_is_looked_at_too(
    tmp_path: Path, files: dict[str, bytes], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as refusal:
        load_checkpoint(remade(save(tmp_path, 1), **files))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"ann.pt": 3}', '"x"'])
def test_a_manifest_that_names_not_every_file_verifies_nothing(tmp_path: Path, manifest: str) -> None:
    (save(tmp_path, 1) / "manifest.json").write_text(manifest)
    with pytest.raises(ConfigError, match=r"expected a manifest\.json"):
        load_checkpoint(tmp_path / "step-1")


def test_the_newest_whole_one_is_taken_and_damaged_ones_are_told(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    (tmp_path / "step-3" / "ann.pt").write_bytes(b"half")
    (tmp_path / "step-2" / "manifest.json").write_text("{}")
    told: list[str] = []
    found = newest_whole(tmp_path, told.append)
    assert found is not None and found[1]["step"] == 1
    assert ["step-3" in told[0], "going on from step-2" in told[0], "going on from step-1" in told[1]] == [True] * 3
    (tmp_path / "step-1" / "state.json").unlink()
    with pytest.raises(ConfigError, match="step-1"):
        newest_whole(tmp_path, told.append)
    assert newest_whole(tmp_path / "none", told.append) is None


@pytest.mark.parametrize("name", ["step-\u00b2", "step-07", "step--1", "step-", "step-x"])
def test_a_folder_of_another_name_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert newest_checkpoint(tmp_path) is None


def test_a_kill_while_old_ones_are_removed_leaves_whole_ones_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name goes first: whatever is removed no longer bears the name of a checkpoint."""
    names: list[str] = []
    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, **how: (names.append(Path(path).name), remove(path, **how)))
    for step in (1, 2, 3, 3):
        save(tmp_path, step, keep=1)
    assert all(name.startswith(".") for name in names) and ".step-1.removed" in names
    (tmp_path / ".step-2.removed").mkdir()
    save(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-3", "step-4"]
