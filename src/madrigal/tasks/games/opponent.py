"""A table at which a scripted player has one of the seats.

In self-play nobody gets better than the other, so the score stays at a half whatever is learned; against a fixed
opponent it shows. The opponent's moves are part of the task's own step, drawn from a seed that is a function of the
example and of the answers so far, so that steps stay pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Wrapper
from madrigal.tasks.games.players import Player, random_player
from madrigal.tasks.games.rules import PLAYERS, Game, Opponent
from madrigal.tasks.games.table import GameState, Table, zero_sum
from madrigal.types import AgentId, ConfigError, Example, Messages, Split, Step, Turn

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class OpposedState(Generic[P]):
    """A state, the example that it belongs to, and the agent that plays against a script; "" where both are played."""

    game_state: GameState[P]
    example: str
    seat: AgentId = ""
    opponent: str = ""


@dataclass(frozen=True)
class Opposed(Wrapper, Generic[P]):
    """A game against itself in training, and against a scripted opponent in evaluation, or as the house says.

    An example against an opponent is a deal with a seat and who sits opposite: {"board": "X...O....", "seat": "second",
    "opponent": "random"}. Every deal is there for both seats, one after the other. The metrics of such a game:

        win, draw, loss              of the seat that is not scripted, in percent
        win_as_first, win_as_second  the same by seat
        legal                        legal answers of that seat, in percent
        return_percent               50 (1 + reward / stake): 100 for the best win, 50 for a draw, 0 for the worst loss

    Attributes:
        task: the table.
    """

    task: Table[P]

    def examples(self, split: Split) -> Sequence[Example]:
        house = self.task.game.house
        opponent: Opponent = house.train_against if split == "train" else house.test_against
        deals = self.task.examples(split)
        if opponent == "self":
            return deals
        return [
            Example(f"{deal.id}-{seat}", {**deal.data, "seat": seat, "opponent": opponent})
            for deal in deals
            for seat in PLAYERS
        ]

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        seat, opponent = _opposite(example)
        return {agent: f"a script ({opponent})" for agent in PLAYERS if seat and agent != seat}

    def ask(self, data: object) -> OpposedState[P]:
        raise ConfigError(f"task {self.name} is a game: it is played, not asked; see madrigal play")

    def reset(self, example: Example) -> OpposedState[P]:
        seat, opponent = _opposite(example)
        state = OpposedState(self.task.reset(example), example.id, seat, opponent)
        return self._answered(state, Step(state.game_state, zero_sum(0.0))).state

    def acting(self, state: OpposedState[P]) -> tuple[AgentId, ...]:
        return self.task.acting(state.game_state)

    def observe(self, state: OpposedState[P], agent: AgentId, heard: Sequence[Turn]) -> Messages:
        return self.task.observe(state.game_state, agent, heard)

    def step(self, state: OpposedState[P], actions: Mapping[AgentId, str]) -> Step[OpposedState[P]]:
        return self._answered(state, self.task.step(state.game_state, actions))

    def _answered(self, before: OpposedState[P], step: Step[GameState[P]]) -> Step[OpposedState[P]]:
        """Lets the opponent, where there is one, take all the turns that are now its own."""
        reward = step.rewards[PLAYERS[0]]
        while before.seat and not step.ending and (acting := self.task.acting(step.state)) != (before.seat,):
            (scripted,) = acting
            seed = derive("opponent", before.example, *step.state.answers)
            answer = player_of(self.task.game, before.opponent)(self.task.observe(step.state, scripted, ()), seed)
            step = self.task.step(step.state, {scripted: answer})
            reward += step.rewards[PLAYERS[0]]
        metrics = self._score(before.seat, step, reward) if before.seat and step.ending else step.metrics
        state = replace(before, game_state=step.state)
        return Step(state, zero_sum(reward), step.ending, metrics, step.details)

    def _score(self, seat: AgentId, step: Step[GameState[P]], reward: float) -> dict[str, float]:
        place = PLAYERS.index(seat)
        won = zero_sum(reward)[seat]
        win = 100.0 * (won > 0)
        share = max(-1.0, min(1.0, won / self.task.game.stake))
        return {
            "win": win,
            "draw": 100.0 * (won == 0),
            "loss": 100.0 * (won < 0),
            f"win_as_{seat}": win,
            "legal": 100 * (1 - step.state.illegal[place] / step.state.answers[place]),
            "return_percent": 50 * (1 + share),
        }


def _opposite(example: Example) -> tuple[AgentId, str]:
    """The seat that is not scripted, and who sits opposite; "" where both are played."""
    return str(example.data.get("seat", "")), str(example.data.get("opponent", ""))


def player_of(game: Game[Any], name: str) -> Player:
    """The scripted player of that name.

    Raises:
        ConfigError: if the game knows none.
    """
    player = {"random": random_player, "optimal": game.optimal}.get(name)
    if player is None:
        raise ConfigError(f"task {game.name}: no {name} player is known; take random")
    return player


def open_table(game: Game[P]) -> Opposed[P]:
    """The task of playing a game, against whom the house says.

    Raises:
        ConfigError: if the house asks for a player that is not known.
    """
    for name in {game.house.train_against, game.house.test_against} - {"self"}:
        player_of(game, name)
    return Opposed(Table(game))
