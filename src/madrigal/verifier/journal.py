"""Answers on disk as they come, so that a gathering that was stopped goes on where it was.

Everything in a gathering derives from its seed, so that a resumed one asks the same in the same order: whatever was
answered is read, and only the rest is asked. The journal lies beside the file that the answers go to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from madrigal.types import ConfigError
from madrigal.verifier.samples import Ask, Say

PORTION = 64  # answers asked for at once; what a stop can lose
EVERY = 10.0  # seconds between lines

Tell = Callable[[str], None]


class Journal:
    """The answers so far, one line of JSON each; the first line holds the settings that they were given under."""

    def __init__(self, target: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Opens the journal of a file.

        Raises:
            ConfigError: if there is one and it is not to be resumed, or it was begun under other settings.
        """
        self.path = target.with_name(f"{target.name}.partial")
        self.held: Iterator[str] = iter(())
        self.count = 0
        first = json.dumps(settings, sort_keys=True, default=str)
        if not self.path.is_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append([first])
            return
        if not resume:
            raise ConfigError(f"{self.path} holds answers of a gathering that was stopped; add --resume, or remove it")
        lines = self.path.read_text("utf-8").split("\n")[:-1]  # a line that was cut off has no end
        if lines[:1] != [first]:
            raise ConfigError(f"{self.path} was begun with other settings; take those again, or remove it")
        self.path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        self.count = len(lines) - 1
        self.held = iter(lines[1:])

    def recording(self, say: Say) -> Say:
        """`say`, asked only for what the journal does not hold, a portion at a time."""

        def recorded(asks: Sequence[Ask], temperature: float) -> list[str]:
            known = [str(json.loads(line)) for _, line in zip(asks, self.held, strict=False)]
            rest = asks[len(known) :]
            for start in range(0, len(rest), PORTION):
                texts = say(rest[start : start + PORTION], temperature)
                self._append([json.dumps(text) for text in texts])
                known += texts
            return known

        return recorded

    def remove(self) -> None:
        """Forgets the answers; they are in the file now."""
        self.path.unlink()

    def _append(self, lines: Sequence[str]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            raise ConfigError(f"{self.path} could not be written: {error.strerror}") from error


def counted(say: Say, plain: int, tell: Tell, clock: Callable[[], float] = time.monotonic) -> Say:
    """`say`, which tells now and then how many answers there are and how long the plain ones will still take.

    Args:
        plain: plain answers that will be asked for; helped and misled ones follow, as many as are needed.
    """
    began = told = clock()
    count = 0

    def counting(asks: Sequence[Ask], temperature: float) -> Sequence[str]:
        nonlocal told, count
        texts = say(asks, temperature)
        count, now = count + len(texts), clock()
        if told == began or now - told >= EVERY:
            told = now
            tell(_progress(count, plain, now - began))
        return texts

    return counting


def _progress(count: int, plain: int, seconds: float) -> str:
    if count >= plain:
        return f"{count} answers, in {_minutes(seconds)}; helping and misleading where right or wrong ones are lacking"
    left = seconds / count * (plain - count)
    return f"{count} of {plain} plain answers, in {_minutes(seconds)}; about {_minutes(left)} left for these"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
