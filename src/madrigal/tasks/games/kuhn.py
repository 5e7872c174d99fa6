"""Kuhn poker: three cards, one chip to bet, and already bluffing is right."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations, product
from typing import ClassVar, Literal

from madrigal.rollouts.seeds import derive
from madrigal.tasks.games.moves import named_move
from madrigal.tasks.games.players import Player
from madrigal.tasks.games.rules import ASK, NUM_EXAMPLES, Deal, House
from madrigal.types import ConfigError, Messages, Split

CARDS = "JQK"  # from low to high
DEALS = tuple(map("".join, permutations(CARDS, 2)))  # the card of who opens the hand, then the other's
PASS, BET = "p", "b"  # pass is to check or, facing a bet, to fold; bet is to bet or, facing a bet, to call
ENDED = ("pp", "pbp", "pbb", "bp", "bb")
OPEN = ("", "p", "b", "pb")  # who opens the hand moves after "" and "pb"
HELD_OUT = 4  # of the matches that can be dealt, one in so many is for testing
WORDS = {(False, PASS): "check", (False, BET): "bet", (True, PASS): "fold", (True, BET): "call"}  # True: facing a bet


@dataclass(frozen=True, slots=True)
class Hands:
    """The position: a match of one or more hands.

    Attributes:
        deals: of each hand, the card of the player who opens it and the card of the other.
        hand: the hand that is played, from 0; even ones are opened by the first player, odd ones by the second.
        bets: what was done in it, one letter each.
        chips: what the first player has won so far.
    """

    deals: tuple[str, ...]
    hand: int = 0
    bets: str = ""
    chips: int = 0


@dataclass(frozen=True, slots=True)
class Kuhn:
    """Kuhn poker, one hand or a match of several.

    A deal: {"deals": ["JQ"]}, the opener's card first. Each player antes a chip and gets one of three cards. The opener
    checks or bets a chip; facing a bet one folds or calls; after a check the other may still bet. Players open in turn,
    the first player the first hand. Cards of past hands are not shown again.

    Six deals are all there are of one hand: then they are in both splits. Longer matches are never in both.

    Attributes:
        rounds: hands of a match; SPIRAL plays 5.
        reward: "chips" pays the chips won or lost, so that one hand has the value -1/18 for the first player; "winner"
            pays 1 to who has more chips in the end, as in SPIRAL.
        house: the settings that hold at every table.
    """

    rounds: int = 1
    reward: Literal["chips", "winner"] = "chips"
    house: House = field(default_factory=House)
    name: ClassVar[str] = "kuhn"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"task.rounds: expected at least 1 hand, got {self.rounds}")

    @property
    def plies(self) -> int:
        return 3 * self.rounds

    @property
    def stake(self) -> float:
        return 2.0 * self.rounds if self.reward == "chips" else 1.0

    @property
    def optimal(self) -> Player:
        return equilibrium_player

    def deals(self, split: Split) -> Sequence[Deal]:
        if self.rounds == 1:
            return [{"deals": [deal]} for deal in DEALS]
        return [{"deals": list(match)} for match in matches(self.rounds, split)]

    def start(self, deal: Deal) -> Hands:
        return Hands(tuple(deal["deals"]))

    def mover(self, position: Hands) -> int:
        return (position.hand + len(position.bets)) % 2

    def play(self, position: Hands, text: str) -> Hands | None:
        move = move_named(text, position.bets)
        if move is None:
            return None
        bets = position.bets + move
        if bets not in ENDED:
            return replace(position, bets=bets)
        won = hand_payoff(position.deals[position.hand], bets)
        chips = position.chips + (-won if position.hand % 2 else won)
        return replace(position, hand=position.hand + 1, bets="", chips=chips)

    def payoff(self, position: Hands) -> float | None:
        if position.hand < len(position.deals):
            return None
        chips = float(position.chips)
        return chips if self.reward == "chips" else (chips > 0) - (chips < 0) + 0.0

    def observation(self, position: Hands) -> str:
        mover = self.mover(position)
        hand = ""
        if self.rounds > 1:
            chips = -position.chips if mover else position.chips
            hand = f"Hand {position.hand + 1} of {self.rounds}. You have won {chips:+d} chips.\n"
        opens = len(position.bets) % 2 == 0
        card = position.deals[position.hand][0 if opens else 1]
        return hand + prompt_of(card, position.bets)


def move_named(text: str, bets: str) -> str | None:
    """What a text does after some bets, to pass or to bet; None where it names nothing that is legal there.

    >>> move_named("I call!", "b"), move_named("The answer is 2.", ""), move_named("I call!", "")
    ('b', 'b', None)
    """
    return named_move(text, _NAMES[bets.endswith(BET)]) or None


def hand_payoff(deal: str, bets: str) -> int:
    """What the opener wins in one hand.

    >>> [hand_payoff("KQ", bets) for bets in ENDED], hand_payoff("JQ", "bb")
    ([1, -1, 2, 1, 2], -2)
    """
    if bets.endswith("bp"):  # whoever folds loses the ante; the opener is who bet in "bp"
        return 1 if bets == "bp" else -1
    higher = 1 if CARDS.index(deal[0]) > CARDS.index(deal[1]) else -1
    return higher * (2 if bets.endswith("bb") else 1)


def prompt_of(card: str, bets: str) -> str:
    """What a player with a card is shown after some bets: its whole information."""
    facing = bets.endswith(BET)
    return (
        "Poker with three cards, J, Q and K; a bet is a chip.\n"
        f"Your card is {card}. {_bets_in_words(bets)}\n"
        f"Moves: 1 = {WORDS[facing, PASS]}, 2 = {WORDS[facing, BET]}.\n\n{ASK}"
    )


def _bets_in_words(bets: str) -> str:
    """What was done in this hand, seen by the player to move.

    >>> _bets_in_words(""), _bets_in_words("pb")
    ('You open.', 'You check. They bet.')
    """
    steps = [
        f"{'You' if (len(bets) - n) % 2 == 0 else 'They'} {WORDS[bets[:n].endswith(BET), move]}."
        for n, move in enumerate(bets)
    ]
    return " ".join(steps) or "You open."


# Words that are no move here are known too, so that the last one named counts and not the last legal one.
_NAMES = {
    facing: {"1": PASS, "2": BET} | {word: move if at == facing else "" for (at, move), word in WORDS.items()}
    for facing in (False, True)
}
_HOLDING = re.compile(r"Your card is ([JQK])\. (.*)$", re.MULTILINE)
_BETS_SHOWN = {_bets_in_words(bets): bets for bets in OPEN}


def information_set(prompt: Messages) -> tuple[str, str]:
    """The card and the bets that a prompt tells: reads back what `prompt_of` wrote."""
    card, story = _HOLDING.findall(prompt[-1].content)[-1]
    return card, _BETS_SHOWN[story]


def equilibrium(alpha: float = 1 / 3) -> Mapping[tuple[str, str], float]:
    """How likely to bet (or call) with a card after some bets, in the equilibrium of that alpha.

    The opener bets J with probability alpha and K with 3 alpha, and calls with Q with alpha + 1/3. The other's play is
    the same in all of them. The opener loses 1/18 of a chip a hand.

    Args:
        alpha: how often the opener bluffs with J, 0 to 1/3.

    References:
        Kuhn, 1950, "A simplified two-person poker".
    """
    opener = {("J", ""): alpha, ("Q", ""): 0.0, ("K", ""): 3 * alpha}
    opener |= {("J", "pb"): 0.0, ("Q", "pb"): alpha + 1 / 3, ("K", "pb"): 1.0}
    other = {("J", "p"): 1 / 3, ("Q", "p"): 0.0, ("K", "p"): 1.0, ("J", "b"): 0.0, ("Q", "b"): 1 / 3, ("K", "b"): 1.0}
    return opener | other


def equilibrium_player(prompt: Messages, seed: int) -> str:
    """Draws from the equilibrium in which the opener always bets K."""
    return "2" if random.Random(seed).random() < equilibrium()[information_set(prompt)] else "1"


def matches(rounds: int, split: Split) -> Sequence[tuple[str, ...]]:
    """Deals of matches of several hands; all that there are of two hands, and distinct drawn ones of more."""
    if rounds == 2:
        every = list(product(DEALS, repeat=2))
        random.Random(derive("kuhn", 2)).shuffle(every)
    else:
        rng, drawn = random.Random(derive("kuhn", rounds)), dict[tuple[str, ...], None]()
        while len(drawn) < NUM_EXAMPLES["train"] + NUM_EXAMPLES["test"]:
            drawn[tuple(rng.choices(DEALS, k=rounds))] = None
        every = list(drawn)
    cut = len(every) * (HELD_OUT - 1) // HELD_OUT
    first = cut - cut // HELD_OUT
    return {"train": every[:cut], "validation": every[first:cut], "test": every[cut:]}[split]
