"""Checkpoints whose tensors several ranks wrote: whole or absent, and nothing but tensors."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from madrigal.runs.checkpoint import load_checkpoint, save_checkpoint
from madrigal.runs.shards import read_shards
from madrigal.types import ConfigError, TrainingError

pytestmark = pytest.mark.filterwarnings("ignore:.*the intent is to save in a single process")
TENSORS = {
    "parameters.model.a.weight": torch.arange(6.0).view(2, 3),
    "parameters.b": torch.ones(2, dtype=torch.bfloat16),
    "optimizer.0.step": torch.tensor(3.0),
    "optimizer.0.exp_avg": torch.zeros(2, 3),
}


def write(folder: Path) -> None:
    dcp.save(dict(TENSORS), storage_writer=dcp.FileSystemWriter(folder), no_dist=True)


def save(folder: Path) -> Path:
    learner: dict[str, Any] = {"version": 4, "optimizer": {"param_groups": [{"lr": 0.1}]}, "shards": write}
    return save_checkpoint(folder, 3, {"ann": learner}, {"memory": None})


def test_it_is_read_as_the_state_that_one_process_writes(tmp_path: Path) -> None:
    path = save(tmp_path)
    ann = load_checkpoint(path)[0]["ann"]
    assert ann.keys() == {"version", "optimizer", "parameters"} and ann["version"] == 4
    assert ann["parameters"].keys() == {"model.a.weight", "b"} and ann["parameters"]["b"].dtype == torch.bfloat16
    assert torch.equal(ann["parameters"]["model.a.weight"], TENSORS["parameters.model.a.weight"])
    assert ann["optimizer"]["param_groups"] == [{"lr": 0.1}]
    assert float(ann["optimizer"]["state"][0]["step"]) == 3


def test_every_file_of_every_rank_is_in_the_manifest(tmp_path: Path) -> None:
    path = save(tmp_path)
    shard = next((path / "ann").glob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=rf"ann/{shard.name} is missing, truncated or changed"):
        load_checkpoint(path)
    shard.unlink()
    with pytest.raises(ConfigError, match="is missing"):
        load_checkpoint(path)


def test_a_rank_that_cannot_write_leaves_no_checkpoint(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        write(folder)
        raise TrainingError("rank 1: disk full; free some space")

    with pytest.raises(TrainingError, match=r"step-3 could not be written \(rank 1: disk full; .*no checkpoint yet"):
        save_checkpoint(tmp_path, 3, {"ann": {"optimizer": {}, "shards": full}}, {})
    assert not list(tmp_path.iterdir())


def test_reading_runs_no_code(tmp_path: Path) -> None:
    """The description of a checkpoint is a pickle, which could name any function."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    write(tmp_path / "ann")
    (tmp_path / "ann" / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="mkdir is no part of a checkpoint"):
        read_shards(tmp_path / "ann")
    assert not (tmp_path / "made").exists()


def test_anything_but_tensors_is_refused(tmp_path: Path) -> None:
    dcp.save({"a": {"b": 1}}, storage_writer=dcp.FileSystemWriter(tmp_path / "ann"), no_dist=True)
    with pytest.raises(pickle.UnpicklingError, match="is no tensor"):
        read_shards(tmp_path / "ann")
