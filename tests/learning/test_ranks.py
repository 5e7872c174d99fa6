"""Processes that hold a learner together: what one is told all do, and none waits for one that has ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes.ranks import CHILDREN, alone, end_at_once, group, lead_and_end, refuse_on, seen, spawned
from madrigal.learning.ranks import Ranks, joined
from madrigal.types import ConfigError, EngineError, TrainingError


def test_two_ranks_do_what_they_are_told_until_one_of_them_ends(tmp_path: Path) -> None:
    alone(told_until_one_ends, tmp_path)


def told_until_one_ends(folder: Path) -> None:
    address = f"file://{folder}/meeting"
    child = spawned(1, 2, address)
    with joined(0, 2, address) as ranks:
        ranks.place(torch.device("cpu"))
        assert ranks.call(seen, "told", own="kept") == [(0, "kept", "told"), (1, None, "told")]
        for rank in (0, 1):  # an error of either is rank 0's, and both go on
            with pytest.raises(EngineError, match="no such model here"):
                ranks.call(refuse_on, rank)
        assert ranks.call(refuse_on, 2) == "done by 0"
        for _ in range(2):  # it stays so
            with pytest.raises(TrainingError, match=r"a rank of the learner has ended; .* --resume"):
                ranks.call(end_at_once, [1])
    child.join(10)
    assert child.exitcode == 9


def test_a_rank_ends_when_rank_0_is_killed(tmp_path: Path) -> None:
    address = f"file://{tmp_path}/meeting"
    lead = CHILDREN.Process(target=lead_and_end, args=(2, address), daemon=True)
    lead.start()
    child = spawned(1, 2, address)
    lead.join(60)
    ended = time.monotonic()
    child.join(30)
    assert (lead.exitcode, child.exitcode) == (9, 1) and time.monotonic() - ended < 10


def test_one_rank_is_a_group_too(tmp_path: Path) -> None:
    assert alone(told_one, tmp_path) == [(0, 6, 5)]


def told_one(folder: Path) -> Any:
    with group(folder, 1) as ranks:
        return ranks.call(seen, 5, own=6)


def test_each_rank_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = object.__new__(Ranks)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    with pytest.raises(ConfigError, match="--nproc-per-node: 2 ranks need a GPU each and this machine has 1"):
        ranks.set_device("cuda")
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(ConfigError, match="NCCL"):
        ranks.set_device("cuda")
