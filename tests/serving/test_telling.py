"""What is told of a request: together where it has come together, and in order."""

from __future__ import annotations

import asyncio
from threading import Thread

from madrigal.serving.telling import Happening, Inbox, Telling
from madrigal.serving.worker import Words
from madrigal.types import Completion, Turn


def turn(agent: str, text: str, round: int = 0) -> Turn:
    return Turn(agent, (), Completion(text), round)


def test_all_that_has_come_is_taken_at_once_and_words_that_grew_are_the_newest() -> None:
    told: list[Happening] = [
        (0, Words("ann", 0, "")),
        (0, Words("bob", 0, "")),
        (1, Words("ann", 0, "A")),
        (0, Words("bob", 0, "B")),
        (0, Words("ann", 0, "An")),
        (0, turn("ann", "Ann")),
        (0, Words("ann", 1, "")),
        (0, Words("ann", 1, "Again")),
    ]

    async def taken() -> list[list[Happening]]:
        inbox = Inbox()
        thread = Thread(target=lambda: [inbox.put(*one) for one in told])
        thread.start()
        thread.join()
        first = await inbox.take()
        inbox.put(0, turn("bob", "Bob"))
        return [first, await inbox.take()]

    assert asyncio.run(taken()) == [
        [
            (0, Words("ann", 0, "An")),
            (0, Words("bob", 0, "B")),
            (1, Words("ann", 0, "A")),
            (0, turn("ann", "Ann")),
            (0, Words("ann", 1, "Again")),
        ],
        [(0, turn("bob", "Bob"))],
    ]


def test_nothing_is_lost_between_two_threads() -> None:
    """A thread tells 20,000 turns while the loop takes them: each comes once, in order."""

    async def taken() -> list[str]:
        inbox, seen = Inbox(), list[str]()
        thread = Thread(target=lambda: [inbox.put(0, turn("ann", str(n))) for n in range(20_000)])
        thread.start()
        async with asyncio.timeout(20):
            while len(seen) < 20_000:
                seen += [event.completion.text for _, event in await inbox.take() if isinstance(event, Turn)]
        thread.join()
        return seen

    assert asyncio.run(taken()) == [str(n) for n in range(20_000)]


def test_the_first_part_says_who_speaks_and_all_parts_are_the_answer() -> None:
    telling = Telling(("ann", "bob"), traced=True)
    deltas = []
    for event in (
        Words("ann", 0, ""),
        Words("bob", 0, "Oh"),
        Words("ann", 0, "An"),
        turn("ann", "Ann"),
        turn("bob", "Oh."),
    ):
        telling.hear(event) if isinstance(event, Turn) else telling.overhear(event)
        deltas.append(telling.delta())
    assert [delta.get("role") for delta in deltas] == ["assistant", None, None, None, None]
    assert "".join(delta.get("content", "") for delta in deltas) == "Ann\n\nOh." and telling.rest("Ann\n\nOh.") == ""
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "ann: Ann\n\nbob: Oh.\n\n"
