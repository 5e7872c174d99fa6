"""An office, and the judge that it asks."""

from __future__ import annotations

from functools import partial

import pytest
from premises import Judge, Make, office


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def make(judge: Judge) -> Make:
    return partial(office, judge)
