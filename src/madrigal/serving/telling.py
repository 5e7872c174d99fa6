"""What is told of a request: words, turns and answers as they come, and their records as clients read them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from madrigal.serving.protocol import Usage
from madrigal.serving.worker import Event, Words
from madrigal.types import AgentId, EngineError, Turn

Happening = tuple[int, Event]  # which of a request's answers, and what came of it


class Inbox:
    """What the worker's thread tells the event loop that made it, which is woken once for all that comes meanwhile."""

    def __init__(self) -> None:
        self.loop, self.come = asyncio.get_running_loop(), asyncio.Event()
        self.told: deque[Happening] = deque()
        self.woken = False

    def put(self, index: int, event: Event) -> None:
        """Tells, from any thread."""
        self.told.append((index, event))
        if not self.woken:
            self.woken = True
            with contextlib.suppress(RuntimeError):  # the loop has ended before the worker
                self.loop.call_soon_threadsafe(self.come.set)

    async def take(self) -> list[Happening]:
        """All that has come, once there is something; of words that grow the newest, at the place of the first."""
        await self.come.wait()
        self.come.clear()
        self.woken = False  # before it looks: what comes from now on wakes it again
        taken = list[Happening]()
        growing = dict[tuple[int, AgentId], int]()
        while self.told:
            index, event = self.told.popleft()
            if isinstance(event, Words):
                place = growing.setdefault((index, event.agent), len(taken))
                if place < len(taken):
                    taken[place] = index, event
                    continue
            elif isinstance(event, Turn):
                growing.pop((index, event.agent), None)
            taken.append((index, event))
        return taken


class Telling:
    """One answer of a stream; owns what was said of it, and what was sent of that.

    Args:
        joint: the agents whose words are the answer, where each of them speaks once; () where it comes at the end.
        traced: whether who said what is told, too.
    """

    def __init__(self, joint: Sequence[AgentId], *, traced: bool) -> None:
        self.joint, self.traced = joint, traced
        self._said: list[Words] = []  # turns in their order; of those that are spoken at once, all that is known
        self._whole = 0  # so many of them are over
        self._sent = dict[str, str]()

    def overhear(self, words: Words) -> str:
        """Takes up the words of a turn that is not over; what is new of them."""
        place = next((n for n, one in enumerate(self._said) if n >= self._whole and one.agent == words.agent), None)
        if place is None:
            self._said.append(words)
            return words.text
        before = self._said[place].text
        if not words.text.startswith(before):  # it is said again, since another failed in the same batch
            return ""
        self._said[place] = words
        return words.text[len(before) :]

    def hear(self, turn: Turn) -> None:
        """Takes up a turn that is over: the first of those that were not."""
        words = Words(turn.agent, turn.round, turn.completion.text)
        _rest(words.text, self._said[self._whole].text)
        self._said[self._whole] = words
        self._whole += 1

    def delta(self) -> dict[str, str]:
        """What can be sent now: of turns that are spoken at once, the first one's words, and then the next one's.

        The first time it also says who speaks to the client.
        """
        told = self._said[: self._whole + 1]
        trace = "".join(map(traced, told[: self._whole])) + "".join(traced(one, "") for one in told[self._whole :])
        said, over = {one.agent: one.text for one in self._said}, {one.agent for one in told[: self._whole]}
        answered = next((n for n, agent in enumerate(self.joint) if agent not in over), len(self.joint))
        content = "\n\n".join(said[agent] for agent in self.joint[: answered + 1] if agent in said)
        whole = {"reasoning_content": trace if self.traced else "", "content": content}
        new = {name: text[len(self._sent.get(name, "")) :] for name, text in whole.items()}
        begun = {} if self._sent else {"role": "assistant", "content": ""}
        self._sent = whole
        return begun | {name: text for name, text in new.items() if text}

    def rest(self, answer: str) -> str:
        """What has not been sent of an answer."""
        return _rest(answer, self._sent.get("content", ""))


def _rest(whole: str, begun: str) -> str:
    """What of a text follows its beginning.

    Raises:
        EngineError: if it begins in another way: a batch was repeated, and rounding changed a word.
    """
    if not whole.startswith(begun):
        raise EngineError("the answer had to be given again, and came out otherwise than it had begun; ask again")
    return whole[len(begun) :]


def usage_of(turns: Sequence[Turn]) -> Usage:
    """What all agents have read and written."""
    said = [turn.completion for turn in turns]
    return Usage(sum(len(one.prompt_ids) for one in said), sum(len(one.token_ids) for one in said))


def by_agent(turns: Sequence[Turn]) -> dict[AgentId, dict[str, float]]:
    """Tokens and seconds of each agent."""
    agents = dict.fromkeys(turn.agent for turn in turns)
    own = {agent: [turn for turn in turns if turn.agent == agent] for agent in agents}
    return {
        agent: usage_of(said).record | {"seconds": round(sum(turn.completion.seconds for turn in said), 4)}
        for agent, said in own.items()
    }


def words_record(words: Words, new: str) -> Mapping[str, Any]:
    """What an agent has added to a turn, as clients are told of it."""
    return {"agent": words.agent, "round": words.round, "text": new}


def turn_record(turn: Turn) -> Mapping[str, Any]:
    """A turn as clients are told of it."""
    said = turn.completion
    return {
        "agent": turn.agent,
        "round": turn.round,
        "text": said.text,
        "finish": said.finish,
        "prompt_tokens": len(said.prompt_ids),
        "completion_tokens": len(said.token_ids),
        "seconds": round(said.seconds, 4),
    }


def trace(turns: Sequence[Turn]) -> str:
    """Who said what, for readers."""
    return "".join(traced(Words(turn.agent, turn.round, turn.completion.text)) for turn in turns)


def traced(words: Words, end: str = "\n\n") -> str:
    where = f", round {words.round + 1}" if words.round else ""
    return f"{words.agent}{where}: {words.text}{end}"
