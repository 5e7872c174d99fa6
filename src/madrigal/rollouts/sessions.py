"""Sessions: episodes that a program of somebody else plays, by asking agents whatever it likes, until it says a reward.

A session stands between two threads. In one a program asks (`Session.ask`) and at last ends it (`Session.end`); in the
other `moves` goes through the play like that of any task: it yields what is asked, and at last what came of it. So all
sessions of a step are answered in one call per policy and tick, and credit, records and evaluation know of no program.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from madrigal.rollouts.play import Play, SpeakRequest, StepRequest
from madrigal.rollouts.task import Task, check_step
from madrigal.types import AgentId, Completion, Ending, Episode, Example, MadrigalError, Messages, Point, Turn

WATCH = 1.0  # seconds after which whoever waits looks at the clock
KEPT = 100_000  # names of sessions that are over, for those who still ask in them


class SessionError(MadrigalError):
    """A session in which nothing more can be asked or said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a session: the state that its task judges.

    Attributes:
        rewards: by agent.
        ending: "lost" where its program never said a reward.
        metrics: what else it said, one number each.
        why: it was lost.
    """

    rewards: Mapping[AgentId, float]
    ending: Ending = "horizon"
    metrics: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


@dataclass(eq=False, slots=True)
class Call:
    """One request to one agent.

    Attributes:
        place: its number among the session's requests to this agent, from 0; its seed derives from that.
        key: by which a client names it when it asks again.
        since: when it came.
    """

    agent: AgentId
    prompt: Messages
    place: int
    key: str
    since: float
    reply: Future[Completion] = field(default_factory=Future)


class Session:
    """One episode of one example, played by a program.

    Attributes:
        id: names it, and is the key that lets ask in it.
        evaluating: whether nothing is learned from it.
        claimed: whether a program has taken it; its time runs from then on.
        error: what is wrong with the program, and not with this session; raised by the play.
    """

    def __init__(self, desk: Desk, example: Example, *, evaluating: bool = False) -> None:
        self.desk, self.example, self.evaluating = desk, example, evaluating
        self.id = secrets.token_urlsafe(18)
        self.claimed = False
        self.outcome: Outcome | None = None
        self.why = ""
        self.error: Exception | None = None
        self.calls: list[Call] = []
        self.waiting: list[Call] = []
        self._began = 0.0

    def claim(self) -> None:
        """A program takes it: its time begins."""
        with self.desk.changed:
            self.claimed, self._began = True, time.monotonic()
            self.desk.stirred = self._began

    def ask(self, agent: AgentId, prompt: Messages, *, again: bool = False, key: str = "") -> Future[Completion]:
        """Asks an agent; what it will say.

        Args:
            again: whether the client asks this for another time: it gets the answer that the same messages got, if
                there is one, and nothing is recorded twice.
            key: the client's own name of the request; the same name gets the same answer.

        Raises:
            SessionError: if the session is over.
            MadrigalError: if the prompt leaves no room for an answer.
        """
        with self.desk.changed:
            self._check_open()
            if (before := self._before(agent, prompt, again, key)) is not None:
                return before.reply
        self.desk.check(agent, prompt)
        with self.desk.changed:
            self._check_open()
            place = sum(call.agent == agent for call in self.calls)
            call = Call(agent, prompt, place, key, time.monotonic())
            self.calls.append(call)
            self.waiting.append(call)
            self.desk.changed.notify_all()
            return call.reply

    def _before(self, agent: AgentId, prompt: Messages, again: bool, key: str) -> Call | None:
        """The call that a client asks for another time."""
        alike = [
            call
            for call in reversed(self.calls)
            if (key and call.key == key) or (again and (call.agent, call.prompt) == (agent, prompt))
        ]
        return next(iter(alike), None)

    def _check_open(self) -> None:
        if self.outcome is not None:
            raise SessionError(f"this session is over ({self.why}); ask in a new one")

    def end(self, outcome: Outcome, why: str = "its reward is known") -> None:
        """Nothing more is asked: what came of it. What has not been answered yet never is, and is not recorded.

        Raises:
            SessionError: if it is over already.
        """
        with self.desk.changed:
            self._check_open()
            self.outcome, self.why = outcome, why
            for call in self.calls:
                if not call.reply.done():
                    call.reply.set_exception(SessionError(f"this session is over ({why})"))
            self.waiting.clear()
            self.desk.forget(self)
            self.desk.changed.notify_all()

    def fail(self, error: Exception) -> None:
        """The program is wrong in a way that nobody should train on: the play raises this."""
        self.error = error
        self.end(Outcome({}, "lost"), "its program failed")

    def overdue(self) -> float:
        """Seconds for which it has gone on too long; below 0 while it has not."""
        return time.monotonic() - self._began - self.desk.seconds if self.claimed else -self.desk.seconds

    def next_calls(self) -> tuple[Call, ...]:
        """What is asked at once: one call of each of several agents at most, of the same place."""
        first = min((call.place for call in self.waiting), default=0)
        calls = tuple(call for call in self.waiting if call.place == first)
        self.waiting = [call for call in self.waiting if call not in calls]
        return calls


class Desk:
    """Where sessions are opened, taken and looked for, and where play waits for them.

    Args:
        lose: ends a session whose program has died or hangs, and says so.
        seconds: that a session may take from when it was taken.
        gather: seconds that a call waits for those of other sessions, to be answered together.
        unclaimed: seconds for which sessions may wait while no program plays any; None is without end.
        check: raises if an agent cannot be shown a prompt.
        stop: raises if the run is to stop; asked while no program plays.

    Attributes:
        stirred: when a session was last opened, taken or ended.
    """

    def __init__(
        self,
        lose: Callable[[Session, str], None],
        *,
        seconds: float,
        gather: float,
        unclaimed: float | None = None,
        check: Callable[[AgentId, Messages], None] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self.lose, self.seconds, self.gather, self.unclaimed = lose, seconds, gather, unclaimed
        self.stop, self.stirred = stop, time.monotonic()
        self.changed = threading.Condition(threading.RLock())
        self._check, self._checking = check, threading.Lock()
        self._open: dict[str, Session] = {}
        self._over: dict[str, Session | None] = {}

    def check(self, agent: AgentId, prompt: Messages) -> None:
        """Raises if an agent cannot be shown a prompt; tokenizers are asked by one thread at a time."""
        if self._check is not None:
            with self._checking:
                self._check(agent, prompt)

    def open(self, example: Example, *, evaluating: bool = False) -> Session:
        """A new session, to be taken by a program."""
        session = Session(self, example, evaluating=evaluating)
        with self.changed:
            self._open[session.id], self.stirred = session, time.monotonic()
            self.changed.notify_all()
        return session

    def forget(self, session: Session) -> None:
        """A session is over; its name is kept for a while."""
        self._open.pop(session.id, None)
        self.stirred = time.monotonic()
        self._over[session.id] = None
        while len(self._over) > KEPT:
            del self._over[next(iter(self._over))]

    def find(self, name: str) -> Session | None:
        """The open session of that name."""
        return self._open.get(name)

    def is_over(self, name: str) -> bool:
        """Whether there was a session of that name."""
        return name in self._over

    def free(self, example: str = "") -> list[Session]:
        """Sessions that no program has taken, of one example or of all."""
        with self.changed:
            return [one for one in self._open.values() if not one.claimed and example in ("", one.example.id)]

    def claim(self, example: str = "") -> Session | None:
        """Takes the next session that no program has, of one example or of all; None where there is none."""
        with self.changed:
            free = self.free(example)
            if free:
                free[0].claim()
            return free[0] if free else None

    def close(self, why: str, error: SessionError | None = None) -> None:
        """Ends whatever is open, for whose plays this is an error."""
        with self.changed:
            for session in list(self._open.values()):
                session.error = error or SessionError(f"a session was left open: {why}")
                session.end(Outcome({}, "lost"), why)

    def wait(self, session: Session) -> tuple[Call, ...]:
        """What a session asks next.

        () once it is over, and () for now where somebody else's call has waited for `gather` seconds: all that go
        through their sessions together go on, and come back.
        """
        with self.changed:
            while self._is_silent(session):
                oldest = min((call.since for one in self._open.values() for call in _unanswered(one)), default=None)
                soon = WATCH if oldest is None else oldest + self.gather - time.monotonic()
                if soon <= 0:
                    break
                ends = [-one.overdue() for one in self._open.values()]
                self.changed.wait(min(soon, WATCH, self.unclaimed or WATCH, *ends))
            return session.next_calls()

    def _is_silent(self, session: Session) -> bool:
        """Whether a session goes on and asks nothing, once those that took too long are ended."""
        if session.outcome is None and not session.waiting:
            for late in [one for one in self._open.values() if one.overdue() >= 0]:
                self.lose(late, f"it took longer than {self.seconds:g} s")
            self._end_unclaimed()
        return session.outcome is None and not session.waiting

    def _end_unclaimed(self) -> None:
        """Ends the play of sessions that nobody takes, when the run is to stop or they have waited for too long."""
        if any(one.claimed for one in self._open.values()):
            return
        if self.stop is not None:
            self.stop()
        if self.unclaimed is not None and time.monotonic() - self.stirred >= self.unclaimed:
            error = SessionError(
                f"no program took a session for {self.unclaimed:g} s, and {len(self._open)} wait; start the program "
                "that plays them and go on with --resume, or let the run wait longer (task.unclaimed, in seconds)"
            )
            self.close("nobody took it", error)


def _unanswered(session: Session) -> list[Call]:
    return [call for call in session.calls if not call.reply.done()]


def moves(task: Task[Any], session: Session, start: Point[Any]) -> Play:
    """The play of a session, as a generator like that of `rollouts.play.play`: one round, of as many turns as it asks.

    Every turn has the session's reward as its return, and is compared with those of sibling sessions. Seeds derive from
    the agent and the place of a call among the session's calls to it, whatever the clock says.
    """
    turns: tuple[Turn, ...] = ()
    try:
        while session.outcome is None:
            calls = session.desk.wait(session)
            prompts = {call.agent: call.prompt for call in calls}
            replies = yield SpeakRequest(prompts, start.round, calls[0].place if calls else 0)
            if calls:
                turns += _answered(session, calls, replies, start.round, len(turns))
                yield SpeakRequest({}, start.round, 0)  # the others are answered before this one is waited for
        if session.error is not None:
            raise session.error
        said = {turn.agent: turn.completion.text for turn in turns}
        step = yield StepRequest(session.outcome, dict.fromkeys(task.agents, "") | said, turns)
        return Episode(start, turns, (check_step(task, step),))
    finally:
        if session.outcome is None:
            session.end(Outcome({}, "lost"), "the run has stopped")


def _answered(
    session: Session, calls: Sequence[Call], replies: Mapping[AgentId, Completion], round: int, after: int
) -> tuple[Turn, ...]:
    """Gives calls their answers; the turns of those that somebody still waited for."""
    turns = []
    with session.desk.changed:
        for call in calls:
            if not call.reply.done():
                turns.append(Turn(call.agent, call.prompt, replies[call.agent], round, after=after))
                call.reply.set_result(replies[call.agent])
    return tuple(turns)
