"""What a critic is shown of a turn: the agent's own prompt, or those of all agents of the round.

Knows: turns of an episode and their token ids. Does not know: models, values, which critic asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from madrigal.types import AgentId, Completion, Episode, Turn

Ids = tuple[int, ...]
UNREAD = (0,)  # stands where an answer would: what a critic says before it, it says of the history alone


def company(episode: Episode[Any], turn: Turn) -> dict[AgentId, Turn]:
    """By agent the last turn of the round that was asked for before this one or at the same time, itself included.

    What is asked for later has heard this turn, or may have: a critic that read it would know the answer that it is to
    judge, and credit nobody for it.
    """
    said = (*episode.start.said, *episode.turns)
    return {one.agent: one for one in said if one.round == turn.round and one.after <= turn.after} | {turn.agent: turn}


def joint_history(
    turns: Sequence[Turn], shown: Callable[[Turn], Ids], separator: int, last: AgentId | None = None
) -> Ids:
    """The prompts of several agents as one, with a separator between them.

    Each prompt holds what its agent has seen and said so far, as the task words it; together they are the joint
    history.

    Args:
        shown: the token ids of one agent's prompt.
        separator: a token that no prompt holds, the end token say.
        last: the agent whose prompt comes last, so that its answer can follow; None keeps the order.
    """
    ordered = sorted(turns, key=lambda turn: turn.agent == last)
    ids = shown(ordered[0])
    for turn in ordered[1:]:
        ids = (*ids, separator, *shown(turn))
    return ids


def as_shown(turn: Turn, history: Ids, at: Literal["token", "turn"]) -> Turn:
    """A turn with what a critic sees in the place of its prompt, and without its answer where the critic reads none."""
    said = turn.completion
    read = said.token_ids, said.logprobs
    tokens, logprobs = read if at == "token" else (UNREAD, (0.0,))
    return replace(turn, completion=Completion("", history, tokens, logprobs))
