"""What a game is: two players, one of whom moves; chance only in the deal; what one wins the other loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from madrigal.tasks.games.players import Player
from madrigal.types import AgentId, ConfigError, Split

PLAYERS: tuple[AgentId, AgentId] = ("first", "second")
Opponent = Literal["self", "random", "optimal"]
Deal = Mapping[str, Any]
P = TypeVar("P")

NUM_EXAMPLES = {"train": 144, "validation": 48, "test": 48}
ASK = "Solve it step by step. End with: The answer is N."  # as word problems are asked, which most models have met


@dataclass(frozen=True, slots=True)
class House:
    """What holds at every table.

    Attributes:
        retries: illegal answers that a player may take back in a game; one more loses it. SPIRAL allows none.
        penalty: what each illegal answer costs beyond losing; the other player gets as much, for the sum must be zero.
            SPIRAL's code gives -1.5 to the offender and 0.5 to the other.
        train_against: who sits opposite in training: the team itself (self-play), or a scripted player.
        test_against: who sits opposite in evaluation. In self-play what one seat wins the other loses, so only a fixed
            opponent shows progress; every deal is then played twice, once from each seat.
    """

    retries: int = 0
    penalty: float = 0.5
    train_against: Opponent = "self"
    test_against: Literal["random", "optimal"] = "random"

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigError(f"task.house.retries: expected 0 or more, got {self.retries}")
        if not 0 <= self.penalty < math.inf:
            raise ConfigError(f"task.house.penalty: expected 0 or more, got {self.penalty}")


class Game(Protocol[P]):
    """Rules over positions of type P; every method is pure.

    Attributes:
        name: how logs and tables call it.
        plies: the most moves that a game can have.
        stake: the most that a player can win.
        house: the settings that hold at every table.
        optimal: a player that cannot be beaten in the long run; None where none is known.
    """

    @property
    def name(self) -> str: ...
    @property
    def plies(self) -> int: ...
    @property
    def stake(self) -> float: ...
    @property
    def house(self) -> House: ...
    @property
    def optimal(self) -> Player | None: ...

    def deals(self, split: Split) -> Sequence[Deal]:
        """What chance may deal, as JSON; no deal of "test" is in another split where there are enough of them.

        Those of "validation" may be some of "train", which are left out of training where validation is asked for.
        """
        ...

    def start(self, deal: Deal) -> P:
        """The position that a deal begins with."""
        ...

    def mover(self, position: P) -> int:
        """Who is to move: 0 is the first player, 1 the second."""
        ...

    def play(self, position: P, text: str) -> P | None:
        """The position that an answer leads to; None where it names no move, or one that is not legal here."""
        ...

    def payoff(self, position: P) -> float | None:
        """What the first player wins, and the second loses; None while the game goes on."""
        ...

    def observation(self, position: P) -> str:
        """What the player to move is shown: all that it may know, and its moves in a line "Moves: ..."."""
        ...
