"""A learner in several processes of a cluster: they meet, the first of them is the learner, and they end together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Thread
from typing import Any

from madrigal.cluster.host import Host, LostError, Place, Remote
from madrigal.learning.ranks import RankLostError, joined, serve_rank
from madrigal.learning.remote import LearnerHolder

PATIENCE = 10.0  # seconds in which the loss of a process that was ended must be seen


class Rank:
    """One of the processes of a learner, as it is held by itself; rank 0 becomes its `LearnerHolder`."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._holder: LearnerHolder | None = None

    def meeting(self, address: str) -> str:
        """Where the others find this one, of which the machine has this address."""
        with socket.socket() as free:
            free.bind((address, 0))
            return f"tcp://{address}:{free.getsockname()[1]}"

    def lead(self, count: int, meeting: str, make: Callable[..., LearnerHolder], args: tuple[Any, ...]) -> None:
        """Waits for the others as rank 0, and makes the learner with them."""
        self._holder = make(*args, self._open.enter_context(joined(0, count, meeting)))

    def serve(self, rank: int, count: int, meeting: str) -> int:
        """Does what rank 0 calls, until that ends."""
        return serve_rank(rank, count, meeting)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # no such attribute, as when this is copied
            raise AttributeError(name)
        return getattr(self._holder, name)


class RankGroup:
    """Several processes as one remote object: it is lost when one of them is."""

    def __init__(self, remotes: Sequence[Remote], make: Callable[..., LearnerHolder], args: tuple[Any, ...]) -> None:
        """Has them meet, and makes the learner.

        Raises:
            LostError: if one of them ends meanwhile.
        """
        self.lead, *self.others = remotes
        self.ended = False
        self._serving = list[Thread]()
        try:
            meeting = self.lead.call("meeting", self.lead.address())
            for rank, other in enumerate(self.others, 1):
                self._serving.append(Thread(target=self._serve, args=(other, rank, meeting), daemon=True))
                self._serving[-1].start()
            self.call("lead", len(remotes), meeting, make, args)
        except BaseException:
            self.end()
            raise

    def _serve(self, other: Remote, rank: int, meeting: str) -> None:
        with suppress(Exception):  # whatever it is, the learner cannot go on without it
            other.call("serve", rank, 1 + len(self.others), meeting)
        if not self.ended:
            self.lead.end()

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Of rank 0."""
        try:
            return self.lead.call(method, *args, **kwargs)
        except RankLostError as error:
            raise LostError(str(error)) from error

    def address(self) -> str:
        """Of rank 0."""
        return self.lead.address()

    def end(self) -> None:
        """Ends all of them, and the calls that still wait for them: a host that is gone may not be asked."""
        self.ended = True
        for remote in (self.lead, *self.others):
            remote.end()
        for thread in self._serving:
            thread.join(PATIENCE)


def start_ranks(host: Host, place: Place, count: int, make: Callable[..., LearnerHolder], *args: Any) -> RankGroup:
    """Starts a learner on `count` processes; `make(*args, ranks)` makes it on the first.

    Raises:
        LostError, EngineError: as `Host.start`.
    """
    with ThreadPoolExecutor(count) as pool:
        remotes = list(pool.map(lambda _: host.start(place, Rank), range(count)))
    return RankGroup(remotes, make, args)
