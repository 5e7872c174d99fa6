"""Simple negotiation: two traders value five resources differently; who gains more by trading wins."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from madrigal.rollouts.seeds import derive
from madrigal.tasks.games.moves import bracketed
from madrigal.tasks.games.players import Player
from madrigal.tasks.games.rules import NUM_EXAMPLES, Deal, House
from madrigal.types import ConfigError, Split

WORTH = {"wheat": 5, "wood": 10, "sheep": 15, "brick": 25, "ore": 40}
RESOURCES = tuple(WORTH)
HOLDING = (5, 25)  # the least and the most of each resource that is dealt
SPREAD = 0.2  # a player's own worth of a resource lies so far around the usual one
CAPS = (5, 40)  # and never beyond these
HEARD = 160  # characters of the other's words that a player is shown
ACCEPT, DENY = "accept", "deny"

Amounts = tuple[int, ...]  # of each resource, in the order of RESOURCES


@dataclass(frozen=True, slots=True)
class Offer:
    """What the player who makes it gives, and what it wants for that."""

    gives: Amounts
    wants: Amounts


@dataclass(frozen=True, slots=True)
class Market:
    """The position.

    Attributes:
        holdings: of the first player and of the second.
        worth: of one unit of each resource, to each of them.
        gains: what each has gained by trading so far, by its own worth.
        offer: the one that the player to move may accept.
        said: the last words of the other.
        turn: how many turns were taken.
    """

    holdings: tuple[Amounts, Amounts]
    worth: tuple[Amounts, Amounts]
    gains: tuple[int, int] = (0, 0)
    offer: Offer | None = None
    said: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Negotiation:
    """SimpleNegotiation of TextArena, as SPIRAL plays it: 5 resources, 10 turns in all.

    A deal: {"holdings": [[...], [...]], "worth": [[...], [...]]}. Each player sees its own holdings and worths, and the
    other's last words. It answers with [offer 2 wheat for 1 ore], [accept] or [deny]; an offer may name several
    resources on each side and also be written as [Offer: 2 Wheat, 1 Wood -> 1 Ore]. A trade needs both to hold what
    they give. After the last turn whoever has gained more, each by its own worth, wins 1; equal gains are a draw.

    Amounts, worths, their spread and caps, and that words without any move deny, are TextArena's. Ours: the last move
    of an answer counts alone, so that one cannot accept and offer in one turn; to accept where there is no offer is
    illegal; deals are fixed by the example; the other's words are cut after 160 characters.

    Attributes:
        turns: of both players together.
        house: the settings that hold at every table.
    """

    turns: int = 10
    house: House = field(default_factory=House)
    name: ClassVar[str] = "negotiation"
    stake: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.turns < 2:
            raise ConfigError(f"task.turns: expected at least 2, an offer and an answer, got {self.turns}")

    @property
    def plies(self) -> int:
        return self.turns

    @property
    def optimal(self) -> Player | None:
        return None

    def deals(self, split: Split) -> Sequence[Deal]:
        return [_deal(random.Random(derive("negotiation", split, n))) for n in range(NUM_EXAMPLES[split])]

    def start(self, deal: Deal) -> Market:
        (first, second), (worth, other_worth) = deal["holdings"], deal["worth"]
        return Market((tuple(first), tuple(second)), (tuple(worth), tuple(other_worth)))

    def mover(self, position: Market) -> int:
        return position.turn % 2

    def play(self, position: Market, text: str) -> Market | None:
        mover, move, offer = self.mover(position), parse_move(text), None
        held = position.holdings[mover]
        match move:
            case Offer() if covers(held, move.gives):
                offer = move
            case "accept" if position.offer is not None and covers(held, position.offer.wants):
                position = traded(position, mover, position.offer)
            case "deny":
                pass
            case _:
                return None
        return replace(position, offer=offer, said=" ".join(text.split())[:HEARD], turn=position.turn + 1)

    def payoff(self, position: Market) -> float | None:
        if position.turn < self.turns:
            return None
        first, second = position.gains
        return (first > second) - (first < second) + 0.0

    def observation(self, position: Market) -> str:
        mover = self.mover(position)
        held, worth = position.holdings[mover], position.worth[mover]
        goods = ", ".join(f"{n} {name} worth {w}" for n, name, w in zip(held, RESOURCES, worth, strict=True))
        lines = [f"Trade: whoever gains more wins. Turn {position.turn + 1} of {self.turns}.", f"You hold {goods}."]
        if position.said:
            lines.append(f'They said: "{position.said}"')
        moves = [f"[{DENY}]", *_suggested(held, worth)]
        if position.offer is not None:
            lines.append(f"They give {_listed(position.offer.gives)} for your {_listed(position.offer.wants)}.")
            if covers(held, position.offer.wants):
                moves.insert(0, f"[{ACCEPT}]")
        lines += [f"Moves: {', '.join(moves)}.", "End with your move in brackets; you may offer what you like."]
        return "\n".join(lines)


_MOVE = re.compile(r"(accept|deny|offer)\b", re.IGNORECASE)
_OFFER = re.compile(r"offer:?\s+(?:i (?:give|offer)\s+)?(.+?)\s*(?:->|\bfor\b)\s*(.+?)[\s.]*", re.IGNORECASE)
_SOME = re.compile(r"([0-9]{1,3})\s+([a-z]+)", re.IGNORECASE)
_AND = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+", re.IGNORECASE)


def parse_move(text: str) -> Offer | str | None:
    """The last move that stands in brackets; words without one deny; None where it cannot be understood.

    >>> parse_move("Fair? [Offer: 3 Sheep, 2 Ore -> 5 Brick]")
    Offer(gives=(0, 0, 3, 0, 2), wants=(0, 0, 0, 5, 0))
    >>> parse_move("No way."), parse_move("[Accept]"), parse_move("[offer the moon]")
    ('deny', 'accept', None)
    """
    *_, move = (DENY, *(inside for inside in bracketed(text) if _MOVE.match(inside)))
    if move.casefold() in (ACCEPT, DENY):
        return move.casefold()
    sides = _OFFER.fullmatch(" ".join(move.split()))
    gives, wants = (_amounts(side) for side in sides.groups()) if sides else (None, None)
    return Offer(gives, wants) if gives and wants else None


def _amounts(text: str) -> Amounts | None:
    """How much of each resource a list names; None where it is not a list of resources."""
    amounts = dict.fromkeys(RESOURCES, 0)
    for part in _AND.split(text):
        some = _SOME.fullmatch(part)
        name = some[2].casefold() if some else ""
        name = name if name in amounts else name.removesuffix("s")
        if some is None or name not in amounts or int(some[1]) == 0:
            return None
        amounts[name] += int(some[1])
    return tuple(amounts.values())


def covers(held: Amounts, needed: Amounts) -> bool:
    """Whether holdings have all that is needed."""
    return all(have >= need for have, need in zip(held, needed, strict=True))


def traded(market: Market, accepting: int, offer: Offer) -> Market:
    """The market after a trade: nothing is made and nothing is lost."""
    got = tuple(give - want for give, want in zip(offer.gives, offer.wants, strict=True))
    holdings, gains = list(market.holdings), list(market.gains)
    for player, sign in ((accepting, 1), (1 - accepting, -1)):
        holdings[player] = tuple(have + sign * n for have, n in zip(holdings[player], got, strict=True))
        gains[player] += sign * sum(n * worth for n, worth in zip(got, market.worth[player], strict=True))
    return replace(market, holdings=(holdings[0], holdings[1]), gains=(gains[0], gains[1]), offer=None)


def _suggested(held: Amounts, worth: Amounts) -> list[str]:
    """An offer that gains by the player's own worths: two of its cheapest resource in hand for one of the dearest."""
    dearest = max(range(len(RESOURCES)), key=lambda n: worth[n])
    able = sorted((n for n, have in enumerate(held) if have >= 2), key=lambda n: worth[n])
    return [f"[offer 2 {RESOURCES[n]} for 1 {RESOURCES[dearest]}]" for n in able[:1]]


def _listed(amounts: Amounts) -> str:
    return " and ".join(f"{n} {name}" for n, name in zip(amounts, RESOURCES, strict=True) if n)


def _deal(rng: random.Random) -> Deal:
    """Holdings and worths of both players, drawn as in TextArena."""
    low, high = CAPS
    spans = [(max(base - int(SPREAD * base), low), min(base + int(SPREAD * base), high)) for base in WORTH.values()]
    holdings = [[rng.randint(*HOLDING) for _ in RESOURCES] for _ in range(2)]
    return {"holdings": holdings, "worth": [[rng.randint(*span) for span in spans] for _ in range(2)]}
