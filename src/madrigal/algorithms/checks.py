"""What settings of algorithms may be: each check refuses one kind of mistake, naming the setting in a ConfigError."""

from __future__ import annotations

import math

from madrigal.types import ConfigError


def check_usual(
    width: int,
    discount: float = 1.0,
    reward_shift: float = 0.0,
    clip: float | None = None,
    kl: float = 0.0,
    *,
    least: int = 2,
) -> None:
    """Refuses what is wrong of the settings that most algorithms share; `least` is the smallest width."""
    if width < least:
        what = "a group needs at least 2 answers to compare" if least > 1 else "expected at least 1 answer"
        raise ConfigError(f"algorithm.width: {what}, got {width}; 4 is usual")
    check_share("discount", discount, "1.0 is usual")
    check_finite(reward_shift=reward_shift)
    if clip is not None and not 0 < clip < math.inf:
        raise ConfigError(f"algorithm.clip: expected a positive range such as 0.2, got {clip}")
    if not 0 <= kl < math.inf:
        raise ConfigError(f"algorithm.kl: expected 0 or more, got {kl}")


def check_share(name: str, value: float, usual: str) -> None:
    """Refuses a number that is not from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"algorithm.{name}: expected 0 to 1, got {value}; {usual}")


def check_finite(**values: float | None) -> None:
    """Refuses settings that are neither left out nor finite numbers."""
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"algorithm.{name}: expected None or a finite number, got {value}")


def check_positive(usual: str = "", /, **values: float | None) -> None:
    """Refuses settings that are neither left out nor positive finite numbers; `usual` ends the message."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"algorithm.{name}: expected a positive number, got {value}{_also(usual)}")


def check_least(least: int, usual: str = "", /, **values: float) -> None:
    """Refuses finite numbers that are too small; `usual` ends the message."""
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ConfigError(f"algorithm.{name}: expected at least {least}, got {value}{_also(usual)}")


def _also(usual: str) -> str:
    return f"; {usual}" if usual else ""
