"""Many plays in one lock-step: who joins, who leaves, who fails, and who finds no room."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Queue
from typing import Any

import pytest

from fakes.play import Diary, Voice, judge_of
from fakes.serving import Gate
from madrigal.rollouts.play import EpisodeRun, GenerationRequest, Lockstep, drive, heard, play
from madrigal.rollouts.topology import Parallel, Sequential, Topology
from madrigal.serving.worker import ClosedError, Event, FullError, Job, Words, Worker
from madrigal.types import Completion, Episode, Point, Turn

TASK = Diary(horizon=2)


def run_of(name: str, topology: Topology | None = None) -> EpisodeRun:
    return EpisodeRun(play(TASK, topology or Parallel(), Point(name, ())), (name,))


class Client:
    """Waits for one job."""

    def __init__(
        self, name: str, topology: Topology | None = None, stop: tuple[str, ...] = (), *, stream: bool = False
    ) -> None:
        self.events = Queue[Event]()
        self.job = Job(run_of(name, topology), self.events.put, stop, stream)

    def turn(self) -> Turn:
        event = self.events.get(timeout=5)
        assert isinstance(event, Turn)
        return event

    def end(self) -> Any:
        while isinstance(event := self.events.get(timeout=5), Turn):
            pass
        return event


def said(episode: Episode[Any]) -> list[tuple[str, str]]:
    return [(turn.agent, turn.completion.text) for turn in episode.turns]


@contextmanager
def working(speak: Any, **limits: int) -> Iterator[Worker]:
    worker = Worker(speak, judge_of(TASK), **limits)
    yield worker
    if isinstance(speak, Gate):
        speak.open.release(100)
    assert worker.close(5)


def test_who_comes_meanwhile_joins_at_the_next_tick_and_is_told_the_same() -> None:
    speak, clients = Gate(), [Client(f"x{n}") for n in range(4)]
    with working(speak) as worker:
        worker.submit([clients[0].job])
        assert speak.begun.acquire(timeout=5)  # a tick is under way
        worker.submit([client.job for client in clients[1:]])
        speak.open.release(3)
        ends = [client.end() for client in clients]
    assert [len(call) for call in speak.calls] == [2, 8, 6]  # two agents: one client, all, those who came later
    plain = drive([run_of(f"x{n}") for n in range(4)], Voice(), judge_of(TASK))
    assert [said(end) for end in ends] == [said(episode) for episode in plain]


def test_turns_are_told_as_they_are_spoken_and_cut_before_teammates_hear_them() -> None:
    speak, client = Gate(ann="one. two.", bob="three"), Client("x", Sequential(), stop=(".", "w"))
    with working(speak) as worker:
        worker.submit([client.job])
        assert speak.begun.acquire(timeout=5)
        assert client.events.empty()
        speak.open.release()
        first = client.turn()
        assert speak.begun.acquire(timeout=5)
        assert client.events.empty()  # bob has not spoken
        speak.open.release(3)
        episode = client.end()
    assert (first.agent, first.completion.text, first.completion.finish) == ("ann", "one", "stop")
    assert episode.turns[1].prompt[0].content == "bob:0:one"
    assert [turn.completion.text for turn in episode.turns] == ["one", "three"] * 2


def spelling(texts: Mapping[str, str], wanted: Sequence[GenerationRequest]) -> list[Completion]:
    """A voice that is overheard letter by letter."""
    said = []
    for one in wanted:
        text = texts[one.agent]
        heard = (text[:n] for n in range(1, len(text) + 1) if one.listener and not one.listener(text[:n]))
        said.append(Completion(next(heard, text)))
    return said


def test_a_stream_tells_words_before_their_turn_and_nothing_of_a_stop() -> None:
    texts = {"ann": "one STOP two", "bob": "no S"}
    client = Client("x", Sequential(), stop=("STOP", "never"), stream=True)
    with working(partial(spelling, texts)) as worker:
        worker.submit([client.job])
        events = [client.events.get(timeout=5) for _ in range(9 + 6)]
    told = [event.text if isinstance(event, Words) else event for event in events]
    assert told[:9] == ["", "o", "o", "o", "one ", "one ", "one ", "one ", "one "]
    turn = events[9]
    assert isinstance(turn, Turn) and turn.completion.text == "one " and turn.completion.finish == "stop"
    assert told[10:] == ["", "", "no", "no ", "no "]  # an S may begin a stop, an n another


def test_who_has_left_a_stream_is_told_no_more_and_its_words_end() -> None:
    client, written = Client("x", stream=True), list[bool]()

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        assert wanted[0].listener and wanted[0].listener("a")
        worker.drop([client.job])
        written.extend(one.listener("ab") for one in wanted if one.listener)
        return Voice()(wanted)

    with working(speak) as worker:
        worker.submit([client.job])
        while not written:
            time.sleep(0.01)
    words = [event for event in client.events.queue if isinstance(event, Words)]
    assert written == [False, False] and [one.text for one in words] == ["", "", "a"]


def test_a_job_that_fails_fails_alone() -> None:
    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        if any(one.prompt[0].content.startswith("bob:1:") and one.seed == bad for one in wanted):
            raise ValueError("no words")
        return Voice()(wanted)

    clients, bad = [Client(f"x{n}") for n in range(3)], 0
    plain = Voice()
    drive([run_of("x1")], plain, judge_of(TASK))
    bad = plain.calls[1][1].seed
    with working(speak) as worker:
        worker.submit([client.job for client in clients])
        ends = [client.end() for client in clients]
    assert [type(end).__name__ for end in ends] == ["Episode", "ValueError", "Episode"]
    assert ends[2] == drive([run_of("x2")], Voice(), judge_of(TASK))[0]


def test_who_has_left_is_asked_no_more() -> None:
    speak, clients = Gate(), [Client(f"x{n}") for n in range(3)]
    with working(speak, playing=2) as worker:
        worker.submit([client.job for client in clients])
        assert speak.begun.acquire(timeout=5)
        worker.drop([clients[0].job])
        speak.open.release(1)
        assert speak.begun.acquire(timeout=5)
        assert worker.load == (2, 0)  # the third has its place
        speak.open.release(2)
        assert isinstance(clients[2].end(), Episode)
        worker.drop([client.job for client in clients])
    assert [len(call) for call in speak.calls] == [4, 4, 2]


def test_a_full_queue_takes_all_or_none() -> None:
    speak, clients = Gate(), [Client(f"x{n}") for n in range(5)]
    with working(speak, playing=1, waiting=2) as worker:
        worker.submit([clients[0].job])
        assert speak.begun.acquire(timeout=5)
        worker.submit([clients[1].job])
        with pytest.raises(FullError) as full:
            worker.submit([client.job for client in clients[2:4]])
        assert full.value.seconds >= 1 and worker.load == (1, 1)
        worker.submit([clients[4].job])


def test_closing_tells_who_waits() -> None:
    speak, clients = Gate(), [Client("x"), Client("y")]
    worker = Worker(speak, judge_of(TASK), playing=1)
    worker.submit([client.job for client in clients])
    assert speak.begun.acquire(timeout=5)
    began = time.monotonic()
    assert not worker.close(0.05) and time.monotonic() - began < 2  # it does not wait for ever
    speak.open.release(9)
    assert worker.close(5)
    assert [type(client.end()) for client in clients] == [ClosedError] * 2
    with pytest.raises(ClosedError):
        worker.submit([Client("z").job])


def test_a_play_that_is_heard_is_the_same_play() -> None:
    turns: list[Turn] = []

    def hear(turn: Turn) -> Completion:
        turns.append(turn)
        return turn.completion

    plain = drive([run_of("x", Sequential())], Voice(), judge_of(TASK))
    run = run_of("x", Sequential())
    assert drive([EpisodeRun(heard(run.moves, hear), run.key)], Voice(), judge_of(TASK)) == plain
    assert tuple(turns) == plain[0].turns


def test_what_a_voice_raises_leaves_all_where_they_were() -> None:
    def fails(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        raise OSError("away")

    together, voice = Lockstep(fails, judge_of(TASK)), Voice()
    numbers = [together.join(run_of(name)) for name in "xy"]
    with pytest.raises(OSError, match="away"):
        together.tick()
    together.speak = voice
    together.leave(numbers[0])
    assert together.tick() == {} == together.tick()
    assert together.tick() == {numbers[1]: drive([run_of("y")], Voice(), judge_of(TASK))[0]}
