"""A synthetic run, made once, and a browser, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, chromium, find_chromium
from synthetic import write_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended; tests do not change it."""
    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not find_chromium():
        pytest.skip("no Chromium on this machine; apt-get install chromium, and the page is tested in it")
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page
