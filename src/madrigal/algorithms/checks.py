"""What settings of algorithms may be: each check refuses one kind of mistake, in one line that names the setting.

Knows: names and numbers. Does not know: which algorithm asks.
"""

from __future__ import annotations

import math

from madrigal.types import ConfigError


def check_width(width: int, least: int = 2) -> None:
    """Refuses groups that are too small to compare anything.

    Raises:
        ConfigError: saying how many are needed.
    """
    if width < least:
        what = "a group needs at least 2 answers to compare" if least > 1 else "expected at least 1 answer"
        raise ConfigError(f"algorithm.width: {what}, got {width}; 4 is usual")


def check_share(name: str, value: float, usual: str) -> None:
    """Refuses a number that is not from 0 to 1.

    Raises:
        ConfigError: naming the setting and a usual value.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"algorithm.{name}: expected 0 to 1, got {value}; {usual}")


def check_finite(**values: float | None) -> None:
    """Refuses settings that are neither left out nor finite numbers.

    Raises:
        ConfigError: naming the setting.
    """
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"algorithm.{name}: expected None or a finite number, got {value}")


def check_positive(usual: str = "", /, **values: float | None) -> None:
    """Refuses settings that are neither left out nor positive finite numbers.

    Args:
        usual: a usual value, to end the message with.

    Raises:
        ConfigError: naming the setting.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"algorithm.{name}: expected a positive number, got {value}{_also(usual)}")


def check_least(least: int, usual: str = "", /, **values: int) -> None:
    """Refuses counts that are too small.

    Args:
        usual: a usual value, to end the message with.

    Raises:
        ConfigError: naming the setting.
    """
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"algorithm.{name}: expected at least {least}, got {value}{_also(usual)}")


def check_loss(clip: float | None, kl: float) -> None:
    """Refuses a clip range or KL weight that cannot work.

    Raises:
        ConfigError: naming the setting.
    """
    if clip is not None and not 0 < clip < math.inf:
        raise ConfigError(f"algorithm.clip: expected a positive range such as 0.2, got {clip}")
    if not 0 <= kl < math.inf:
        raise ConfigError(f"algorithm.kl: expected 0 or more, got {kl}")


def _also(usual: str) -> str:
    return f"; {usual}" if usual else ""
