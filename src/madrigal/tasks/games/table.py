"""A game as a task: one player acts in a round, what it answers is its move, what it wins the other loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from madrigal.rollouts.task import Rewards
from madrigal.tasks.games.rules import NUM_EXAMPLES, PLAYERS, Game
from madrigal.types import AgentId, Ending, Example, Message, Messages, Split, Step, Turn

P = TypeVar("P")

AGAIN = "That was no legal move. Try again."


@dataclass(frozen=True, slots=True)
class GameState(Generic[P]):
    """A position, and what led to it.

    Attributes:
        answers: how many the first player has given, and the second.
        illegal: how many of them were illegal.
        again: the last one was illegal, and its player is asked again.
    """

    position: P
    answers: tuple[int, int] = (0, 0)
    illegal: tuple[int, int] = (0, 0)
    again: bool = False


@dataclass(frozen=True, slots=True)
class Table(Generic[P]):
    """The task of playing a game; rewards are zero-sum.

    The winner gets what the game pays and the loser pays it, both in the last round; all rewards before are 0. An
    illegal answer costs `house.penalty`, paid to the other player; the one after `house.retries` also loses the stake
    and ends the game ("failed"). Otherwise the ending is "solved" where somebody wins, "horizon" in a draw.
    """

    game: Game[P]

    @property
    def name(self) -> str:
        return self.game.name

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return PLAYERS

    @property
    def horizon(self) -> int:
        return self.game.plies + len(PLAYERS) * self.game.house.retries

    @property
    def best_return(self) -> float:
        return self.game.stake

    @property
    def rewards(self) -> Rewards:
        return "zero-sum"

    def examples(self, split: Split) -> Sequence[Example]:
        """The deals in turn, each as often as the others up to one, told apart by number."""
        deals = self.game.deals(split)
        return [Example(f"{self.name}-{split}-{n}", dict(deals[n % len(deals)])) for n in range(NUM_EXAMPLES[split])]

    def reset(self, example: Example) -> GameState[P]:
        return GameState(self.game.start(example.data))

    def acting(self, state: GameState[P]) -> tuple[AgentId, ...]:
        return (PLAYERS[self.game.mover(state.position)],)

    def observe(self, state: GameState[P], agent: AgentId, heard: Sequence[Turn]) -> Messages:
        shown = self.game.observation(state.position)
        return (Message("user", f"{AGAIN}\n{shown}" if state.again else shown),)

    def step(self, state: GameState[P], actions: Mapping[AgentId, str]) -> Step[GameState[P]]:
        game, mover = self.game, self.game.mover(state.position)
        position = game.play(state.position, actions[PLAYERS[mover]])
        answers = _one_more(state.answers, mover)
        if position is None:
            sign, illegal = (-1 if mover == 0 else 1), _one_more(state.illegal, mover)
            after = GameState(state.position, answers, illegal, again=True)
            if illegal[mover] > game.house.retries:
                return self._ended(after, sign * (game.stake + game.house.penalty), "failed")
            reward = sign * game.house.penalty
        else:
            after, payoff = GameState(position, answers, state.illegal), game.payoff(position)
            if payoff is not None:
                return self._ended(after, payoff, "solved" if payoff else "horizon")
            reward = 0.0
        return Step(after, zero_sum(reward), details={"game": self.name})

    def _ended(self, state: GameState[P], reward: float, ending: Ending) -> Step[GameState[P]]:
        answers, illegal = sum(state.answers), sum(state.illegal)
        metrics = {
            "legal": 100 * (1 - illegal / answers),
            "first_wins": 100.0 * (reward > 0),
            "second_wins": 100.0 * (reward < 0),
            "draw": 100.0 * (reward == 0),
        }
        # By the game's name, what is learned of several games can be kept apart.
        return Step(state, zero_sum(reward), ending, metrics, {"game": self.name})


def zero_sum(reward: float) -> dict[AgentId, float]:
    """What the first player gets, the second pays."""
    return {PLAYERS[0]: reward, PLAYERS[1]: 0.0 - reward}


def _one_more(counts: tuple[int, int], place: int) -> tuple[int, int]:
    return (counts[0] + (place == 0), counts[1] + (place == 1))
