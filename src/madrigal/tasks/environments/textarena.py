"""TextArena's games as tasks; the only file that imports textarena.

Its observations and actions are texts already, and what an illegal move costs is a matter of each game.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from madrigal.tasks.environments.live import Scene, shared_chance
from madrigal.tasks.environments.opening import arguments_of, checked, seeded
from madrigal.tasks.environments.replay import Replayed, Rules
from madrigal.tasks.environments.told import told_in_one_line
from madrigal.tasks.games.moves import bracketed
from madrigal.types import AgentId, ConfigError, Example, Message, unknown

MOST_PLAYERS = 15
_SPEAKER = re.compile(r"^\s*\[[^\]]*\]")  # [GAME], [Player 0]


@dataclass(frozen=True, slots=True)
class TextArena:
    """A game of TextArena, for one player or several; its agents are player_0, player_1 and so on.

    Attributes:
        environment: the game, by the name that TextArena has for it: "SimpleTak-v0".
        players: how many; 0 takes 2 where the game can be played by two, else the fewest that it can be played by.
        arguments: those of the game, as JSON: '{"board_size": 4}'.
        rules: what holds in every environment.
    """

    environment: str
    players: int = 0
    arguments: str = ""
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not 0 <= self.players <= MOST_PLAYERS:
            raise ConfigError(f"task.players: expected 1 to {MOST_PLAYERS}, or 0 for the usual, got {self.players}")


@dataclass(slots=True, eq=False)
class Game:
    """A game under way."""

    env: Any
    players: int

    def reset(self, example: Example, seed: int) -> Scene:
        with redirect_stdout(StringIO()):  # games print
            self.env.reset(num_players=self.players, seed=seed)
            return self._scene()

    def step(self, answers: Mapping[AgentId, str]) -> Scene:
        (text,) = answers.values()
        with redirect_stdout(StringIO()):
            done, _ = self.env.step(action=text)
            return self._over() if done else self._scene()

    def close(self) -> None:
        """A game holds nothing."""

    def _scene(self) -> Scene:
        player, seen = self.env.get_observation()
        text = seen if isinstance(seen, str) else "\n".join(str(message) for _, message, *_ in seen)
        return Scene({agent_of(player): (Message("user", text.strip()),)}, {agent_of(player): moves_in(text)})

    def _over(self) -> Scene:
        rewards, infos = self.env.close()
        invalid = any(infos[player].get("invalid_move") for player in range(self.players) if player in infos)
        earned = {agent_of(player): float(reward) for player, reward in (rewards or {}).items()}
        return Scene({}, rewards=earned, ending="failed" if invalid else "solved", metrics={"invalid": 100.0 * invalid})


def moves_in(text: str) -> tuple[str, ...]:
    """What a prompt seems to offer, for players that draw: the brackets of the last line with several, else all.

    >>> moves_in("[GAME] Write [4].\\n[Player 0] [4]\\nAvailable Moves: [0], [1]\\n[GAME] Your turn.")
    ('[0]', '[1]')
    """
    lines = [bracketed(_SPEAKER.sub("", line)) for line in text.splitlines()]
    several = [line for line in lines if len(line) > 1]
    offered = several[-1] if several else [inside for line in lines for inside in line]
    return tuple(f"[{inside}]" for inside in dict.fromkeys(offered) if inside)


def agent_of(player: int) -> AgentId:
    """How a player is called.

    >>> agent_of(0)
    'player_0'
    """
    return f"player_{player}"


def open_textarena(config: TextArena) -> Replayed:
    """The task of playing a game.

    Raises:
        ConfigError: if the package or the game is missing, or so many cannot play it.
        TaskError: if the game is not a function of seed and actions.
    """
    make, name = maker(config), config.environment
    with told_in_one_line(name):
        make()
    players = config.players or _usual_players(make, name)
    agents = tuple(map(agent_of, range(players)))
    task = Replayed(name, agents, config.rules, lambda: Game(make(), players), seeded(name, agents, config.rules))
    with told_in_one_line(name):
        return checked(task)


def maker(config: TextArena) -> Callable[[], Any]:
    """The function that makes a game."""
    try:
        import textarena
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as error:
        raise ConfigError("task textarena needs TextArena: pip install 'madrigal[textarena]'") from error
    if config.environment not in ENV_REGISTRY:
        raise ConfigError(unknown("game of TextArena", config.environment, ENV_REGISTRY))
    arguments = arguments_of(config.arguments)

    def make() -> Any:
        with redirect_stdout(StringIO()):
            return textarena.make(config.environment, **arguments)

    return make


def _usual_players(make: Callable[[], Any], name: str) -> int:
    """The first of 2, 1, 3, 4 and more players with whom a game begins.

    Raises:
        ConfigError: with what the game says, if there is none.
    """
    said = ""
    for players in (2, 1, *range(3, MOST_PLAYERS + 1)):
        try:
            with shared_chance():
                Game(make(), players).reset(Example("", {}), 0)
        except Exception as error:  # noqa: BLE001
            said = said or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        return int(players)
    raise ConfigError(f"task {name}: nobody can play it: {said}; see --task.players and --task.arguments")
