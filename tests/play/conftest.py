"""A folder with a small talk to play, the tiny model of the core tests, and somebody at the keyboard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "core"))

import tiny
from talking import TALK, Keyboard, Types

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with talk.py; folders of own tasks stay on sys.path only as long as a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("talk.py").write_text(TALK)
    return tmp_path


@pytest.fixture
def settings(model_folder: Path) -> list[str]:
    """The tiny model, and short answers."""
    return [f"--team.policy.model={model_folder}", "--team.device=cpu", "--sampling.max-new-tokens=4"]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Types:
    """Sits somebody at the keyboard: types(line, line, ...), without ends of lines; an exception's class raises it."""

    def sit(*lines: str | type[BaseException], terminal: bool = True, ended: str = "\n") -> Keyboard:
        def read() -> str:
            captured = capsys.readouterr()
            return captured.out + captured.err

        typed = [line + ended if isinstance(line, str) else line for line in lines]
        keyboard = Keyboard(typed, read, terminal)
        monkeypatch.setattr(sys, "stdin", keyboard)
        return keyboard

    return sit
