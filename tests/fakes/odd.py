"""A task of two rounds that pays for odd letters, so that random models earn something; named "fakes.odd:joint"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from madrigal.rollouts.task import Rewards
from madrigal.types import AgentId, Example, Message, Messages, Split, Step, Turn

State = tuple[str, int]  # the word that is shown, the round


@dataclass(frozen=True)
class Odd:
    """Both are shown a word, which ann's answer then makes longer. Where rewards are own ones, a game may end early."""

    rewards: Rewards
    letters: int = 1  # of the first example's word; every next one is longer by one

    name: str = "odd"
    agents: tuple[AgentId, ...] = ("ann", "bob")
    horizon: int = 2
    best_return: float = 1.0

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(f"{split}-{n}", {"word": chr(97 + n) * (n + self.letters)}) for n in range(4)]

    def reset(self, example: Example) -> State:
        return example.data["word"], 0

    def acting(self, state: State) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: State, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        return (Message("user", f"{agent}, {state[0]}!"),)

    def step(self, state: State, actions: Mapping[AgentId, str]) -> Step[State]:
        word, index = state
        shares = {agent: sum(ord(c) % 2 for c in text) / max(1, len(text)) for agent, text in actions.items()}
        mean = sum(shares.values()) / len(shares)
        early = self.rewards == "own" and word == "a" and shares["ann"] > 0.4
        paid = shares if self.rewards == "own" else dict.fromkeys(shares, mean)
        after = (word + actions["ann"][:2], index + 1)
        return Step(after, paid, "horizon" if index else "solved" if early else "", {"reward": mean})


joint, own, long = Odd("joint"), Odd("own"), Odd("joint", letters=9)
