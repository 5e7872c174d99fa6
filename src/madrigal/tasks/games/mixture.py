"""Several games in one run: every example is of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from madrigal.rollouts.task import Rewards
from madrigal.tasks.games.kuhn import Kuhn
from madrigal.tasks.games.negotiation import Negotiation
from madrigal.tasks.games.opponent import Opposed, open_table
from madrigal.tasks.games.rules import PLAYERS, Game
from madrigal.tasks.games.tictactoe import TicTacToe
from madrigal.types import AgentId, ConfigError, Example, Messages, Split, Step, Turn

GameName = Literal["tictactoe", "kuhn", "negotiation"]
APART = ("legal", "win", "return_percent")  # metrics that are also reported by game


@dataclass(frozen=True, slots=True)
class Games:
    """A mixture of games, as many examples of each.

    Attributes:
        games: which.
        tictactoe, kuhn, negotiation: their settings; poker as in SPIRAL, matches of 5 hands and a point for the winner.
    """

    games: tuple[GameName, ...] = ("tictactoe", "kuhn", "negotiation")
    tictactoe: TicTacToe = field(default_factory=TicTacToe)
    kuhn: Kuhn = field(default_factory=lambda: Kuhn(rounds=5, reward="winner"))
    negotiation: Negotiation = field(default_factory=Negotiation)

    def __post_init__(self) -> None:
        if not self.games or len(set(self.games)) != len(self.games):
            raise ConfigError(f"task.games: expected one or more different games, got {self.games}")


@dataclass(frozen=True, slots=True)
class Playing:
    """A state, and the game that it is of."""

    game: str
    state: Any


@dataclass(frozen=True, slots=True)
class Mixture:
    """The task of playing several games with one team."""

    tables: Mapping[str, Opposed[Any]]
    name: str = "games"

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return PLAYERS

    @property
    def horizon(self) -> int:
        return max(table.horizon for table in self.tables.values())

    @property
    def best_return(self) -> float:
        return max(table.best_return for table in self.tables.values())

    @property
    def rewards(self) -> Rewards:
        return "zero-sum"

    def examples(self, split: Split) -> Sequence[Example]:
        """Examples of all games in turn; each knows its game."""
        rows = [
            [Example(example.id, {**example.data, "game": name}) for example in table.examples(split)]
            for name, table in self.tables.items()
        ]
        return [example for turn in zip_longest(*rows) for example in turn if example is not None]

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        return self.tables[str(example.data["game"])].scripted(example)

    def ask(self, data: object) -> Playing:
        raise ConfigError(f"task {self.name} is made of games: they are played, not asked; see madrigal play")

    def reset(self, example: Example) -> Playing:
        name = str(example.data["game"])
        return Playing(name, self.tables[name].reset(example))

    def acting(self, state: Playing) -> tuple[AgentId, ...]:
        return self.tables[state.game].acting(state.state)

    def observe(self, state: Playing, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        return self.tables[state.game].observe(state.state, agent, heard)

    def step(self, state: Playing, actions: Mapping[AgentId, str]) -> Step[Playing]:
        step = self.tables[state.game].step(state.state, actions)
        by_game = {f"{name}_{state.game}": step.metrics[name] for name in APART if name in step.metrics}
        metrics = {**step.metrics, **by_game}
        return Step(Playing(state.game, step.state), step.rewards, step.ending, metrics, step.details)


def games_task(config: Games) -> Mixture:
    """The mixture that settings describe."""
    known: dict[str, Game[Any]]
    known = {"tictactoe": config.tictactoe, "kuhn": config.kuhn, "negotiation": config.negotiation}
    return Mixture({name: open_table(known[name]) for name in config.games})
