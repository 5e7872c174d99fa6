"""Building letters together, as a task: builders with colors of their own fill a grid, turn by turn.

An example: {"word": "LO", "group": "seen"}. In each turn every builder names cells and colors ("A1r B2y"); all of them
take effect, in the order of the builders, and the grid stays. A turn earns what it added to the worth of the grid, so
that the return is what the grid is worth in the end:

    worth = IoU with the letters - weight * share of neighbors with one color        r_t = worth after - worth before

One builder with two colors can cover the letters, but not alternate them as fast as two can; a team that splits the
cells like a chess board has no equal neighbors, and the highest worth, 1.

References:
    Liu et al., 2026, "CoLLM-CC" (StrBuild), arXiv:2601.21972: letters, palettes, four turns, feedback of positions,
    coverage against extra cells and equal neighbors. Theirs has ten strings, two of them for evaluation, and judges
    every turn by itself; the words, what is held out, the grid that stays, the font and all wording are ours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint, said_lines
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.building.grid import CLEAR, COLORS, Scores, drawn, placements, scores_of, spelled
from madrigal.tasks.building.letters import HEIGHT, SEEN_WORD, Cell, cells_of, examples, width_of
from madrigal.tasks.embedded.grammar import pick_some
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, Turn

BUILDERS = 4
LONGEST = 5  # letters of a word, and one more when tested: columns are letters of the alphabet
PALETTE = 2  # colors of a builder
TOLD = 4  # placements that were refused, of which a builder is told


@dataclass(frozen=True, slots=True)
class Building:
    """The state.

    Attributes:
        word: to be built.
        group: of words that it belongs to (`letters.examples`).
        grid: the filled cells and their colors.
        refused: what each builder named last and could not place.
        conflicts: cells that more than one builder named in one turn, so far.
        round: turns that were taken.
    """

    word: str
    group: str = ""
    grid: Mapping[Cell, str] = field(default_factory=dict)
    refused: Mapping[AgentId, tuple[str, ...]] = field(default_factory=dict)
    conflicts: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True)
class Build:
    """Builders with colors of their own make letters appear on a grid.

    Attributes:
        builders: how many there are, 1 to 4; each has two colors.
        turns: the horizon.
        longest: letters of the longest word of training; tests have words with one more.
        cells: that each builder may fill in a turn; 0 is as many as all of them need for the word in all turns, and one
            more, so that a longer horizon leaves as much room as a short one.
        weight: of equal neighbors, against the coverage of the letters.
        feedback: what builders see of the grid: which cells are missing or too many ("positions"), the grid itself,
            each its "own" colors in it alone, or nothing.
        pays: each turn what it added ("each"), or the last one everything ("last").
        alone: one builder has the colors of all.
    """

    builders: int = 2
    turns: int = 4
    longest: int = 2
    cells: int = 0
    weight: float = 0.5
    feedback: Literal["positions", "grid", "own", "none"] = "positions"
    pays: Literal["each", "last"] = "each"
    alone: bool = False

    def __post_init__(self) -> None:
        for name, number, most in (
            ("builders", self.builders, BUILDERS),
            ("turns", self.turns, 8),
            ("longest", self.longest, LONGEST),
        ):
            if not 1 <= number <= most:
                raise ConfigError(f"task.{name}: expected 1 to {most}, got {number}")
        if self.cells < 0:
            raise ConfigError(f"task.cells: expected 0 or more, got {self.cells}")
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"task.weight: expected 0 or more, got {self.weight}")


@dataclass(frozen=True)
class BuildTask:
    """The task of such settings."""

    config: Build
    name: str = "build"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return ("builder",) if self.config.alone else tuple(f"builder_{n + 1}" for n in range(self.config.builders))

    @property
    def horizon(self) -> int:
        return self.config.turns

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split, self.config.longest)

    def reset(self, example: Example) -> Building:
        word = example.data["word"].upper()
        if not word.isascii() or not word.isalpha():
            raise ValueError(f"expected a word of the letters A to Z, got {word!r}")
        return Building(word, example.data.get("group", ""))

    def acting(self, state: Building) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Building, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        return (Message("user", "\n".join([*self._told(state, agent), *said_lines(heard, agent)])),)

    def _told(self, state: Building, agent: AgentId) -> list[str]:
        wanted, width = cells_of(state.word), width_of(state.word)
        seen = {"none": (), "own": self._colors(agent)}.get(self.config.feedback, tuple(COLORS))
        grid = {cell: color for cell, color in state.grid.items() if color in seen}
        lines = [f"Build {state.word}. Turn {state.round + 1} of {self.config.turns}.", *drawn(grid, width, wanted)]
        if self.config.feedback == "positions":
            lines += _listed("Missing", sorted(wanted - grid.keys(), key=_by_rows))
            lines += _listed("Too many", sorted(grid.keys() - wanted, key=_by_rows))
        if refused := state.refused.get(agent):
            lines.append(f"Not placed: {' '.join(refused)}")
        for other in self.agents:
            colors = " or ".join(f"{COLORS[letter]} ({letter})" for letter in self._colors(other))
            lines.append(f"You place {colors}." if other == agent else f"{other} places {colors}.")
        best = "No two neighbors of one color." if self.config.weight else ""
        how = f"Name up to {self._limit(state)} cells, {self._example(agent)} to clear one."
        return [*lines, " ".join(filter(None, (how, best)))]

    def _colors(self, agent: AgentId) -> tuple[str, ...]:
        if self.config.alone:
            return tuple(COLORS)[: PALETTE * self.config.builders]
        place = self.agents.index(agent)
        return tuple(COLORS)[place * PALETTE : (place + 1) * PALETTE]

    def _example(self, agent: AgentId) -> str:
        one, two = self._colors(agent)[:2]
        return f"like A1{one} B1{two}, A1{CLEAR}"

    def _limit(self, state: Building) -> int:
        """Cells that each builder may fill in a turn."""
        builders, wanted = len(self.agents), len(cells_of(state.word))
        return self.config.cells or math.ceil(wanted / (builders * self.config.turns)) + 1

    def step(self, state: Building, actions: Mapping[AgentId, str]) -> Step[Building]:
        """All placements take effect one after the other; in a cell that two builders fill the later one stays."""
        after = self._placed(state, actions)
        wanted = cells_of(state.word)
        before, scores = (scores_of(each.grid, wanted) for each in (state, after))
        worth = self._worth(scores)
        ending: Ending = ""
        if scores.iou == 1 and (scores.equal == 0 or not self.config.weight):
            ending = "solved"
        elif after.round == self.config.turns:
            ending = "horizon"
        earned = worth - self._worth(before) if self.config.pays == "each" else worth * bool(ending)
        details = {"word": state.word, "grid": drawn(after.grid, width_of(state.word), wanted)}
        metrics = {**_metrics(scores, worth), "conflicts": float(after.conflicts)}
        if state.group not in ("", SEEN_WORD):
            metrics[f"iou/{state.group}"] = metrics["iou"]
        return Step(after, joint(self.agents, earned), ending, metrics, details)

    def unjudged(self, state: Building, actions: Mapping[AgentId, str]) -> Step[Building]:
        """The same; no reference is needed to see what was built."""
        return self.step(state, actions)

    def demonstrations(self) -> Demonstrations:
        """Novices at work on the words of training: each names missing cells by chance, in its own colors by chance.

        They show how to speak, and nothing about who builds what.
        """
        return {example.id: self.novices(example) for example in self.examples("train")}

    def novices(self, example: Example, again: int = 0) -> dict[AgentId, list[str]]:
        """What novices say to one word, round after round; other words of theirs each time that they play it again."""
        key = ("build", example.id, *self.agents, *((again,) if again else ()))
        rng, state = random.Random(derive(*key)), self.reset(example)
        said: dict[AgentId, list[str]] = {agent: [] for agent in self.agents}
        for _ in range(self.horizon):
            missing = sorted(cells_of(state.word) - state.grid.keys(), key=_by_rows)
            for agent in self.agents:
                chosen = pick_some(rng, missing, self._limit(state))
                said[agent].append(" ".join(f"{spelled(cell)}{rng.choice(self._colors(agent))}" for cell in chosen))
            step = self.step(state, {agent: texts[-1] for agent, texts in said.items()})
            state = step.state
            if cells_of(state.word) <= state.grid.keys() or step.ending:
                break
        return said

    def _worth(self, scores: Scores) -> float:
        return scores.iou - self.config.weight * scores.equal

    def _placed(self, state: Building, actions: Mapping[AgentId, str]) -> Building:
        """The state after all placements."""
        grid, refused = dict(state.grid), {}
        filled: dict[Cell, AgentId] = {}
        conflicts = set[Cell]()
        for agent in self.agents:
            named, turned_down = placements(actions.get(agent, "")), list[str]()
            for n, (cell, color) in enumerate(named):
                if reason := self._why_not(state, agent, n, cell, color):
                    turned_down.append(f"{spelled(cell)}{color} ({reason})")
                    continue
                if filled.setdefault(cell, agent) != agent:
                    conflicts.add(cell)
                if color == CLEAR:
                    grid.pop(cell, None)
                else:
                    grid[cell] = color
            refused[agent] = tuple(turned_down[:TOLD])
        met = state.conflicts + len(conflicts)
        return replace(state, grid=grid, refused=refused, conflicts=met, round=state.round + 1)

    def _why_not(self, state: Building, agent: AgentId, place: int, cell: Cell, color: str) -> str:
        """Why a placement does not count; "" where it does."""
        if place >= self._limit(state):
            return "one too many"
        if cell[0] >= width_of(state.word) or cell[1] >= HEIGHT:
            return "outside"
        return "" if color == CLEAR or color in self._colors(agent) else "not your color"


def _metrics(scores: Scores, worth: float) -> dict[str, float]:
    return {
        "iou": 100 * scores.iou,
        "coverage": 100 * scores.coverage,
        "equal_neighbors": 100 * scores.equal,
        "extra": float(scores.extra),
        "return_percent": 100 * worth,
    }


def _listed(title: str, cells: Sequence[Cell]) -> list[str]:
    return [f"{title}: {' '.join(map(spelled, cells))}"] if cells else []


def _by_rows(cell: Cell) -> tuple[int, int]:
    return cell[1], cell[0]
