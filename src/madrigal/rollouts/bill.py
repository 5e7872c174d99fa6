"""What the answers of endpoints took: counted around whoever speaks, told in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from madrigal.rollouts.play import Generate, GenerationRequest
from madrigal.types import AgentId, Completion


@dataclass
class Spent:
    """For one agent: answers, those kept from before among them, those asked for again, tokens in and out, money."""

    answers: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0

    def add(self, completion: Completion) -> None:
        usage = completion.usage
        if usage is None:
            return
        self.answers += 1
        self.cached += usage.cached
        self.retries += completion.retries
        self.prompt_tokens += usage.prompt_tokens
        self.tokens += usage.tokens
        self.cost += usage.cost

    def in_words(self) -> str:
        """One phrase.

        >>> Spent(120, 20, 3, 4512, 1000, 0.0123).in_words()
        '120 answers of an endpoint (20 kept from before, 3 asked for again), 4,512 + 1,000 tokens, cost 0.0123'
        """
        counts = f"{self.cached} kept from before, {self.retries} asked for again"
        return (
            f"{self.answers} answers of an endpoint ({counts}), {self.prompt_tokens:,} + {self.tokens:,} tokens, "
            f"cost {self.cost:.4g}"
        )


@contextmanager
def billed(tell: Callable[[str], None]) -> Iterator[Callable[[Generate], Generate]]:
    """A wrapper of speakers; leaving the context tells what endpoints took, by agent, and nothing where none spoke."""
    spent, lock = defaultdict[AgentId, Spent](Spent), Lock()

    def counted(speak: Generate) -> Generate:
        def answer(wanted: Sequence[GenerationRequest]) -> Sequence[Completion]:
            completions = speak(wanted)
            with lock:
                for request, completion in zip(wanted, completions, strict=True):
                    spent[request.agent].add(completion)
            return completions

        return answer

    try:
        yield counted
    finally:
        for agent, one in spent.items():
            if one.answers:
                tell(f"note: {agent}: {one.in_words()}")
