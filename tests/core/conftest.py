"""The tiny model of this folder's tests: made once, loaded fresh where a test changes weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from madrigal.policies.local import LocalPolicy

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def policy(model_folder: Path) -> LocalPolicy:
    return tiny.load(model_folder)
