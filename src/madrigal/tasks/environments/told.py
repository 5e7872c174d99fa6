"""What other people's code raises, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from madrigal.rollouts.task.contract import one_line
from madrigal.types import ConfigError, MadrigalError

LONGEST = 400  # characters of a message that are shown


@contextmanager
def told_in_one_line(environment: str) -> Iterator[None]:
    """Whatever an environment raises while it is made and tried.

    Raises:
        ConfigError: instead.
    """
    try:
        yield
    except MadrigalError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"task {environment}: {type(error).__name__}: {one_line(error)[:LONGEST]}") from error
