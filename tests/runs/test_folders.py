"""A run folder is one process's at a time; what never began leaves nothing, what is replaced is there until then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from madrigal.runs.folders import PREVIOUS, held, held_free, is_part
from madrigal.runs.signals import ending_cleanly
from madrigal.types import ConfigError

HOLD = """
import sys, time
from pathlib import Path
from madrigal.runs.folders import held
with held(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    time.sleep(60)
"""


def finished(folder: Path) -> Path:
    (folder / "team" / "ann").mkdir(parents=True)
    for name in ("experiment.json", "evaluation.json", "team/ann/weights"):
        (folder / name).write_text("old")
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["../up", "/up", "a/b", ".", "..", "", "a\0b", "a b", "[red]x", ["x"], 3, None])
def test_a_name_is_one_part_of_a_path(name: object) -> None:
    assert not is_part(name) and is_part("tldr-2") and is_part("résumé_1.5")


def test_a_run_that_fails_before_its_first_record_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), held(tmp_path / "runs" / "new") as place:
        (place.folder / "experiment.json").write_text("{}")
        (place.folder / "tensorboard").mkdir()
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be made"), held(tmp_path / name / "run"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_with_a_record_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), held(tmp_path / "new") as place:
        (place.folder / "evaluation.json").write_text("{}")
        raise RuntimeError
    assert content(tmp_path / "new") == {"evaluation.json": "{}"}


def test_what_ended_a_run_is_told_where_its_folder_can_no_longer_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    with pytest.raises(RuntimeError, match="the reason"), held(tmp_path / "new") as place:
        (place.folder / "experiment.json").write_text("{}")
        monkeypatch.setattr(Path, "unlink", refuse)
        raise RuntimeError("the reason")
    monkeypatch.undo()
    with held(tmp_path / "new", resume=True):
        pass


def test_what_was_to_be_replaced_is_back_when_the_new_run_fails(tmp_path: Path) -> None:
    before = content(finished(tmp_path / "run"))
    with pytest.raises(RuntimeError), held(tmp_path / "run", overwrite=True) as place:
        assert content(place.folder).keys() & before.keys() == set()
        (place.folder / "experiment.json").write_text("new")
        raise RuntimeError
    assert content(tmp_path / "run") == before


def test_what_was_replaced_goes_with_the_first_record(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with held(tmp_path / "run", overwrite=True) as place:
        (place.folder / "evaluation.json").write_text("new")
        assert (place.folder / PREVIOUS).is_dir()
        place.settle()
    assert content(tmp_path / "run") == {"evaluation.json": "new"}


@pytest.mark.parametrize("moved", [["evaluation.json"], ["evaluation.json", "experiment.json"], ["team"]])
def test_a_kill_while_it_is_put_aside_loses_nothing(tmp_path: Path, moved: list[str]) -> None:
    before = content(finished(tmp_path / "run"))
    if moved == ["team"]:  # a run that was never evaluated
        (tmp_path / "run" / "evaluation.json").unlink()
        before.pop("evaluation.json")
    (tmp_path / "run" / PREVIOUS).mkdir()
    for name in moved:
        (tmp_path / "run" / name).rename(tmp_path / "run" / PREVIOUS / name)
    with held(tmp_path / "run", resume=True) as place:
        assert place.begun
    assert content(tmp_path / "run") == before


def test_a_held_folder_is_refused_in_one_line_until_its_owner_dies(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    for wish in ({"resume": True}, {"overwrite": True}, {}):
        with (
            pytest.raises(ConfigError, match=f"is in use by process {child.pid} on .*; wait"),
            held(tmp_path / "run", **wish),
        ):
            pass
    child.kill()
    child.communicate()
    with held(tmp_path / "run", resume=True) as place:
        assert place.begun
    assert not (tmp_path / "run" / ".lock").exists()


def test_many_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    names: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        with held_free(tmp_path, "run") as place:
            (place.folder / "evaluation.json").write_text("{}")
            names.append(place.folder.name)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == sorted(["run", *(f"run-{n}" for n in range(2, 9))])


def test_files_that_are_no_run_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for wish in ({"overwrite": True}, {}):
        with pytest.raises(ConfigError), held(tmp_path / "thesis", **wish):
            pass
    with held(tmp_path / "thesis", beside=True) as place:
        (place.folder / "experiment.json").write_text("{}")
    assert content(tmp_path / "thesis") == {"chapter.txt": "years of work"}


@pytest.mark.parametrize("call", ["open", "ftruncate"])
def test_a_signal_while_the_lock_is_taken_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def interrupted(*arguments: object) -> object:
        result = real(*arguments)
        signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(os, call, interrupted)
    with ending_cleanly(), pytest.raises(SystemExit) as ended, held(tmp_path / "runs" / "new"):
        pytest.fail("the signal was forgotten")
    assert ended.value.code == 143 and not list(tmp_path.iterdir())
