"""Before anything is imported: one thread, and shapes checked at run time in the pure maths; then common fixtures."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest
from jaxtyping import install_import_hook

from madrigal.cli import environment

if TYPE_CHECKING:
    from fakes.chromium import Page
    from fakes.coding import TrustedJudge
    from madrigal.config import Experiment
    from madrigal.policies.local import LocalPolicy
    from madrigal.tasks.coding.problem import Problem

for name, value in {**environment(), "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(name, value)

# Shells ignore these in what they start in the background, or with nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CHECKED = (
    "madrigal.maths.advantages",
    "madrigal.algorithms.influence",
    "madrigal.algorithms.mutual_information",
    "madrigal.maths.batch",
    "madrigal.maths.losses",
    "madrigal.verifier.training",
)
install_import_hook(CHECKED, "beartype.beartype")
# A busy machine is no fault of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


LONG = ("cluster", "training", "golden")  # folders whose tests take longest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of three test processes begins with one of the long folders, so that none is left with them in the end."""
    folders = [item.path.relative_to(Path(__file__).parent).parts[0] for item in items]
    pairs = list(zip(folders, items, strict=True))
    rest = [item for folder, item in pairs if folder not in LONG]
    size, ordered = len(items) // len(LONG), list[pytest.Item]()
    for folder in LONG:
        own = [item for each, item in pairs if each == folder]
        short = size - len(own)
        ordered += [*own, *rest[:short]]
        rest = rest[short:]
    items[:] = [*ordered, *rest]


def pytest_collection_finish() -> None:
    """What imports have made is no garbage: nobody looks through it again. Models are read from files twice at most."""
    if "madrigal.policies.local" in sys.modules:
        from fakes import loads

        loads.install()
    gc.collect()
    gc.freeze()


# Fixtures import what they need themselves: most tests need no model, and torch takes seconds.


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model: made once, loaded fresh where a test changes weights."""
    from fakes import tiny

    return tiny.build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def policy(model_folder: Path) -> LocalPolicy:
    from fakes import tiny

    return tiny.load(model_folder)


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    from fakes.sums import sums_run

    return sums_run(tmp_path_factory.mktemp("sums"))


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; folders of own tasks stay on sys.path only as long as a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that gets as far as loading a model fails."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model was about to be loaded")

    monkeypatch.setattr("madrigal.training.teams.load_policy", refuse)


@pytest.fixture
def judge() -> TrustedJudge:
    from fakes.coding import TrustedJudge

    return TrustedJudge()


@pytest.fixture
def problem() -> Problem:
    from fakes.coding import PROBLEM

    return PROBLEM


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a synthetic run that has ended; tests do not change it."""
    from fakes.synthetic import write_run

    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pages of which the charts are not looked at: these take seconds."""
    for chart in ("panel", "changes", "shares"):
        monkeypatch.setattr(f"madrigal.report.figures.draw_{chart}", lambda *_: "")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    from fakes.chromium import chromium, find_chromium

    if not find_chromium():
        pytest.skip("no Chromium on this machine; apt-get install chromium, and the page is tested in it")
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page
