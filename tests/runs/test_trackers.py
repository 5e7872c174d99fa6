"""Trackers get the numbers that the run folder gets; a package that is missing is named."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from madrigal.runs.log import RunLog, read_lines
from madrigal.runs.trackers import check_trackers, make_tracker
from madrigal.types import ConfigError

SETTINGS = {"steps": 3}


class Service:
    """Stands for a tracking package: remembers how it was begun and what it was sent."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.sent: list[tuple[dict[str, float], int | None]] = []

    def init(self, **settings: Any) -> SimpleNamespace:
        self.begun = settings
        return SimpleNamespace(log=lambda numbers, step=None: self.sent.append((numbers, step)))

    def table(self, columns: list[str], data: list[list[Any]]) -> list[dict[str, Any]]:
        return [dict(zip(columns, row, strict=True)) for row in data]


def install(monkeypatch: pytest.MonkeyPatch, name: str) -> Service:
    service, module = Service(), ModuleType(name)
    module.init, module.Table = service.init, service.table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return service


def test_trackio_gets_every_number_at_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = install(monkeypatch, "trackio")
    log = RunLog(tmp_path, [make_tracker("trackio", tmp_path, SETTINGS)])
    log.step({"step": 4, "reward": 0.5, "note": "words are no numbers"}, [])
    assert service.begun == {"project": "madrigal", "name": tmp_path.name, "config": SETTINGS, "resume": "allow"}
    assert service.sent == [({"train/step": 4.0, "train/reward": 0.5}, 4)]


def test_wandb_gets_the_step_among_the_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = install(monkeypatch, "wandb")
    make_tracker("wandb", tmp_path, SETTINGS)(2, {"train/reward": 1.0})
    assert service.begun["config"] == SETTINGS
    assert service.sent == [({"train/reward": 1.0, "step": 2}, None)]


EPISODES = [
    {
        "example": f"test-{n}",
        "return_percent": 50.0,
        "turns": [{"agent": "ann", "text": "Hi."}, {"agent": "bob", "text": ""}],
    }
    for n in range(3)
]


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_an_evaluation_is_sent_with_some_of_its_transcripts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    service = install(monkeypatch, kind)
    RunLog(tmp_path, [make_tracker(kind, tmp_path, SETTINGS)], shown=2).evaluation("after", {"low": 1.0}, EPISODES, 3)
    ((sent, _),) = service.sent
    words = "ann:\nHi.\n\nbob:\n"
    rows = [{"example": f"test-{n}", "return %": 50.0, "transcript": words} for n in range(2)]
    assert sent["evaluation/transcripts"] == rows and sent["evaluation/low"] == 1.0


def test_tensorboard_shows_transcripts_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts: list[tuple[str, str, int]] = []
    module = ModuleType("torch.utils.tensorboard")
    writer = SimpleNamespace(add_scalar=lambda *_: None, add_text=lambda *text: texts.append(text), flush=lambda: None)
    module.SummaryWriter = lambda folder: writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    make_tracker("tensorboard", tmp_path, SETTINGS)(3, {}, [("test-0", 50.0, "ann:\n# Hi")])
    assert texts == [("evaluation/transcripts/test-0", "50.0 %\n\n    ann:\n    # Hi", 3)]


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ConfigError, match=rf"records.trackers: {kind} is not installed; pip install 'madrigal"):
        make_tracker(kind, tmp_path, SETTINGS)


@pytest.mark.parametrize("kind", ["wandb", "trackio", "tensorboard"])
def test_trackers_are_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if kind == "tensorboard" else kind, None)
    with pytest.raises(ConfigError, match=rf"records.trackers: {kind} is not installed; pip install 'madrigal"):
        check_trackers([kind])
    check_trackers([])


@pytest.mark.parametrize(
    ("variables", "key", "allowed"),
    [
        ({}, None, False),
        ({"WANDB_MODE": "online"}, None, False),
        ({"WANDB_MODE": "offline"}, None, True),
        ({"WANDB_API_KEY": "k"}, None, True),
        ({}, "from an earlier login", True),
    ],
)
def test_wandb_without_a_key_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str | None, allowed: bool
) -> None:
    install(monkeypatch, "wandb")
    monkeypatch.setattr(sys.modules["wandb"], "api", SimpleNamespace(api_key=key), raising=False)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if allowed:
        check_trackers(["wandb"])
        return
    with pytest.raises(ConfigError, match="wandb is not logged in; run: wandb login, or set WANDB_MODE=offline"):
        check_trackers(["wandb"])


def test_a_line_of_other_bytes_is_an_error_where_it_is_not_the_last(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": "\xff"}')
    assert read_lines(path) == [{"step": 0}]
    path.write_bytes(b'{"step": "\xff"}\n{"step": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is not JSON"):
        read_lines(path)
