"""Locks run folders: one process at a time, nothing left of a run that never began, nothing lost to --overwrite."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from madrigal.runs.signals import postponed
from madrigal.types import ConfigError

LOCK, PREVIOUS = ".lock", ".previous"
EXPERIMENT = "experiment.json"
FIRST = "evaluation.json"  # the first record of every run
TRIES = 100
_PART = re.compile(r"[\w.-]+")


class TakenError(ConfigError):
    """A run folder that another process writes, or that is no longer free."""


def is_part(name: object) -> bool:
    """Whether a name can be one part of a path, and no more than that.

    >>> is_part("tldr-2"), is_part("../up"), is_part("..")
    (True, False, False)
    """
    return isinstance(name, str) and _PART.fullmatch(name) is not None and name.strip(".") != ""


@dataclass(frozen=True, slots=True)
class Held:
    """A run folder that this process alone may write.

    Attributes:
        before: names of what lay in it, and stays, when a new run begins there.
        begun: whether it holds a run to go on with.
    """

    folder: Path
    before: frozenset[str]
    begun: bool

    def settle(self) -> None:
        """Removes what a new run replaces; for when its first record is on the disk."""
        shutil.rmtree(self.folder / PREVIOUS, ignore_errors=True)

    def leave(self) -> None:
        """Makes the folder what it was before, where the new run has left no record."""
        if self.begun or (self.folder / FIRST).exists() or (self.folder / "checkpoints").exists():
            return
        for path in list(self.folder.iterdir()):
            if path.name not in {*self.before, LOCK, PREVIOUS}:
                _remove(path)
        _restore(self.folder)


@contextmanager
def held(folder: Path, *, resume: bool = False, overwrite: bool = False, beside: bool = False) -> Iterator[Held]:
    """Locks a run folder for as long as the context lasts, and makes it where there is none.

    The lock ends with its owner, however that ends. A run that fails before its first record leaves no folder behind,
    and the run that it was to replace is back.

    Args:
        resume: go on with the run in it, if there is one.
        overwrite: put the run in it aside, until the new one has its first record.
        beside: a new run may lie beside files that are no run's.

    Raises:
        ConfigError: if another process writes there, or the folder is not empty and neither of these was chosen.
    """
    made = [path for path in (folder, *folder.parents) if not _exists(path)]
    lock = None
    try:
        with postponed():
            lock = _locked(folder)
        _restore(folder)
        entries = _names(folder)
        begun = EXPERIMENT in entries
        replaced = bool(entries) and not resume and (begun or not beside)
        if replaced:
            _put_aside(folder, entries, overwrite=overwrite)
        place = Held(folder, frozenset() if replaced else entries, begun and resume)
        try:
            yield place
        finally:
            with contextlib.suppress(OSError):  # gone or read-only, as whatever ended the run says
                place.leave()
    finally:
        if lock is not None:
            # Who has opened this file meanwhile sees that it is no longer the one of that name, and opens the next.
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
            os.close(lock)
        for path in made:
            with contextlib.suppress(OSError, ValueError):  # it is not empty, or no folder can have that name
                path.rmdir()


def hold_run(
    runs: Path, name: str, folder: Path | None = None, *, resume: bool = False, overwrite: bool = False
) -> AbstractContextManager[Held]:
    """Locks the folder that a run is written to: the given one, or the next free one of its name below `runs`.

    Args:
        resume, overwrite: as in `held`; what is replaced is the folder itself that has the name.
    """
    if folder is None and not overwrite:
        return held_free(runs, name)
    return held(folder or runs / name, resume=resume, overwrite=overwrite)


def folder_to_resume(runs: Path, name: str, folder: Path | None = None) -> Path:
    """The folder of the run to go on with: the given one, or of those of its name below `runs` the one begun last.

    Raises:
        ConfigError: if it holds no run.
    """
    found = folder or runs / _newest_run(runs, name)
    if not (found / EXPERIMENT).is_file():
        raise ConfigError(f"--resume: expected a run at {found}, found none; see what is in {found.parent}/")
    return found


@contextmanager
def held_free(runs: Path, name: str) -> Iterator[Held]:
    """Takes the first folder that is free of `name`, `name-2`, `name-3`, ... below `runs`."""
    with ExitStack() as stack:
        for number in count(1):
            folder = runs / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(TakenError):  # by a process that was a moment faster
                if is_free(folder):
                    place = stack.enter_context(held(folder))
                    break
        yield place


def _newest_run(runs: Path, name: str) -> str:
    """Of the runs NAME, NAME-2, NAME-3, ... below `runs` the one begun last; NAME where there is none."""
    pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
    begun = {
        file.parent.name: file.stat().st_mtime_ns
        for file in runs.glob(f"*/{EXPERIMENT}")
        if pattern.fullmatch(file.parent.name)
    }
    return max(begun, key=lambda run: (begun[run], len(run), run), default=name)


def is_free(folder: Path) -> bool:
    """Whether nothing lies there; a lock that was left by a kill is nothing."""
    return not folder.exists() or (folder.is_dir() and not _names(folder))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long: told when the folder is made
        return False


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) - {LOCK}


def _put_aside(folder: Path, entries: frozenset[str], *, overwrite: bool) -> None:
    if not overwrite:
        raise TakenError(
            f"the run folder {folder} exists; resume it with --resume, replace it with --overwrite, or choose another "
            "--name"
        )
    if EXPERIMENT not in entries:
        raise ConfigError(f"{folder} holds files but no experiment.json: not a run; choose another --name")
    (folder / PREVIOUS).mkdir()
    # The first record goes first: as long as there is none, `_restore` brings back whatever was moved.
    for name in sorted(entries, key=lambda name: name != FIRST):
        (folder / name).rename(folder / PREVIOUS / name)


def _restore(folder: Path) -> None:
    """Brings back a run that was put aside, unless the one that replaces it has a record."""
    previous = folder / PREVIOUS
    if not previous.is_dir():
        return
    if not (folder / FIRST).exists():
        for path in sorted(previous.iterdir(), key=lambda path: path.name == FIRST):
            _remove(folder / path.name)
            path.rename(folder / path.name)
    shutil.rmtree(previous)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _locked(folder: Path) -> int:
    """The descriptor of the folder's lock, made and held.

    Raises:
        TakenError: naming the process that holds it.
        ConfigError: if the folder cannot be made.
    """
    for _ in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # removed in this moment by the run that has left it
            continue
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"the run folder {folder} cannot be made: {reason}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise TakenError(
                f"the run folder {folder} is in use by {owner or 'another process'}; wait for it, stop it, or choose "
                "another --name"
            ) from error
        except OSError:  # some network file systems have no locks; a run is still better than none
            return descriptor
        if _is_the_lock_of(folder, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)
    raise ConfigError(f"the run folder {folder} cannot be made: it is removed again and again")


def _is_the_lock_of(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat((folder / LOCK).stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
