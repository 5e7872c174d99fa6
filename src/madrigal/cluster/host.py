"""Where objects live that are not in this process: started, called, lost and started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from madrigal.types import EngineError

Found = TypeVar("Found")
# Seconds before each try of one call, after the last of which the run ends. Until Ray misses a machine that is gone,
# after 15 s of silence, it may place anew there what was lost with it.
PAUSES = (0.0, 0.0, 2.0, 4.0, 8.0, 16.0)


class LostError(Exception):
    """The process of an object is gone, or its machine, or what it was sent."""


@dataclass(frozen=True, slots=True)
class Place:
    """What an object needs of the machine that it lives on.

    Attributes:
        name: what errors call the object.
        node: an address or resource of one node; "" is any.
        gpus: a share of one.
        calls: that it answers at a time, each in a thread of its own.
    """

    name: str
    node: str = ""
    gpus: float = 0.0
    calls: int = 1


class Shared(Protocol):
    """A value that is sent once to each machine, however many of its objects take it."""

    def get(self) -> Any:
        """The value.

        Raises:
            LostError: if it is gone.
        """


class Remote(Protocol):
    """An object that lives elsewhere."""

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of it returns; its own errors are raised here.

        Raises:
            LostError: if the object is gone.
        """

    def address(self) -> str:
        """Where other objects reach its machine."""

    def end(self) -> None:
        """Ends its process."""


class Host(Protocol):
    """Machines that objects can be started on."""

    def start(self, place: Place, make: Callable[..., Any], *args: Any) -> Remote:
        """Makes an object elsewhere, `make(*args)`.

        Raises:
            LostError: if its process ends meanwhile.
            EngineError: if no machine has what it needs.
        """

    def share(self, value: Any) -> Shared:
        """Makes a value ready to be sent to many."""

    def nodes(self) -> int:
        """How many machines there are."""


def despite_losses(attempt: Callable[[], Found], name: str) -> Found:
    """What an attempt returns that begins anew whatever it found lost before; a LostError of it asks for another one.

    Raises:
        EngineError: naming what was lost too often.
    """
    for pause in PAUSES:
        time.sleep(pause)
        try:
            return attempt()
        except LostError as error:
            reason = error
    raise EngineError(
        f"{name} was lost {len(PAUSES)} times in one call ({reason}); look at the memory of its node, then go on with "
        "--resume"
    )
