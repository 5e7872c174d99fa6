"""Negotiation: nothing is made or lost, nobody gives what it does not have, and worths stay private."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.tasks.games.negotiation import RESOURCES, Market, Negotiation, Offer, covers, parse_move, traded
from madrigal.types import ConfigError

GAME = Negotiation()
MARKET = Market(((5, 5, 5, 5, 5), (6, 6, 6, 6, 6)), ((5, 10, 15, 25, 40), (4, 12, 15, 20, 40)))

amounts = st.tuples(*[st.integers(0, 9)] * 5)
some = amounts.filter(any)


def listed(amount: tuple[int, ...]) -> str:
    return ", ".join(f"{n} {name}" for n, name in zip(amount, RESOURCES, strict=True) if n)


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("[offer 2 wheat for 1 ore]", Offer((2, 0, 0, 0, 0), (0, 0, 0, 0, 1))),
        ("[Offer: 3 Sheep, 2 Ore -> 5 Brick, 2 Sheep]", Offer((0, 0, 3, 0, 2), (0, 0, 2, 5, 0))),
        ("[Offer: I give 1 wood and 1 wood -> 2 ores.]", Offer((0, 2, 0, 0, 0), (0, 0, 0, 0, 2))),
        ("[Accept]", "accept"),
        ("I accept! [deny]", "deny"),
        ("[offer 2 wheat for 1 ore] no, [ACCEPT]", "accept"),
        ("Let us talk. [whatever]", "deny"),
        ("", "deny"),
        ("[offer]", None),
        ("[offer 2 wheat]", None),
        ("[offer 0 wheat for 1 ore]", None),
        ("[offer 2 gold for 1 ore]", None),
        ("[offer 2 wheat for 1 ore or 2]", None),
        ("[offer -2 wheat for 1 ore]", None),
        ("[offer 9999 wheat for 1 ore]", None),
        ("[accept all]", None),
    ],
)
def test_moves_are_read(text: str, move: Any) -> None:
    assert parse_move(text) == move


@given(some, some)
def test_every_offer_is_read_back(gives: tuple[int, ...], wants: tuple[int, ...]) -> None:
    assert parse_move(f"Well: [Offer: {listed(gives)} -> {listed(wants)}]") == Offer(gives, wants)
    assert parse_move(f"[offer {listed(gives)} for {listed(wants)}]") == Offer(gives, wants)


@given(st.lists(st.one_of(st.sampled_from(["[accept]", "[deny]"]), st.builds(listed, some), st.text())))
def test_nothing_is_made_lost_or_owed(said: list[str]) -> None:
    market = GAME.start(GAME.deals("train")[0])
    total = [sum(each) for each in zip(*market.holdings, strict=True)]
    for words in said:
        text = f"[offer {words} for 1 ore]" if words[:1].isdigit() else words
        market = GAME.play(market, text) or market
        assert [sum(each) for each in zip(*market.holdings, strict=True)] == total
        assert min(min(held) for held in market.holdings) >= 0


@given(some, some)
def test_gains_are_what_holdings_are_worth_more_than_before(gives: tuple[int, ...], wants: tuple[int, ...]) -> None:
    after = traded(MARKET, 1, Offer(gives, wants))
    for player in (0, 1):
        was, now = (
            sum(n * worth for n, worth in zip(market.holdings[player], market.worth[player], strict=True))
            for market in (MARKET, after)
        )
        assert after.gains[player] == now - was


def test_a_trade_by_hand() -> None:
    offered = GAME.play(MARKET, "Deal? [offer 2 wheat for 1 brick]")
    assert offered is not None and offered.offer == Offer((2, 0, 0, 0, 0), (0, 0, 0, 1, 0))
    assert 'They said: "Deal? [offer 2 wheat for 1 brick]"' in GAME.observation(offered)
    assert "They give 2 wheat for your 1 brick.\nMoves: [accept], [deny], " in GAME.observation(offered)
    after = GAME.play(offered, "[accept]")
    assert after is not None
    assert after.holdings == ((3, 5, 5, 6, 5), (8, 6, 6, 5, 6))
    assert after.gains == (25 - 2 * 5, 2 * 4 - 20)
    assert (after.offer, after.turn) == (None, 2)


def test_nobody_gives_what_it_does_not_have() -> None:
    assert GAME.play(MARKET, "[offer 6 wheat for 1 ore]") is None
    dear = GAME.play(MARKET, "[offer 1 wheat for 7 ore]")
    assert dear is not None, "whether the other has as much is not known to who offers"
    assert GAME.play(dear, "[accept]") is None
    assert "[accept]" not in GAME.observation(dear)
    assert GAME.play(MARKET, "[accept]") is None, "nothing was offered"
    assert covers((1, 2), (1, 2)) and not covers((1, 2), (2, 1))


def test_denying_and_talking_drop_an_offer() -> None:
    offered = GAME.play(MARKET, "[offer 2 wheat for 1 brick]")
    assert offered is not None
    for text in ("[deny]", "Hm."):
        after = GAME.play(offered, text)
        assert after is not None and (after.offer, after.holdings) == (None, MARKET.holdings)


def test_whoever_gained_more_wins_after_the_last_turn() -> None:
    over = replace(MARKET, turn=10)
    assert [GAME.payoff(replace(over, gains=gains)) for gains in ((3, 2), (2, 2), (-3, -2))] == [1, 0, -1]
    assert GAME.payoff(replace(over, turn=9, gains=(3, 2))) is None


@given(amounts, amounts)
def test_what_the_other_has_and_what_it_is_worth_to_it_is_not_shown(held: Any, worth: Any) -> None:
    for turn, player in ((0, 0), (1, 1)):
        market = replace(MARKET, turn=turn)
        other = 1 - player
        changed = replace(
            market,
            holdings=tuple(held if n == other else market.holdings[n] for n in (0, 1)),
            worth=tuple(worth if n == other else market.worth[n] for n in (0, 1)),
        )
        assert GAME.observation(changed) == GAME.observation(market)


def test_words_are_shown_in_one_line_and_cut() -> None:
    said = GAME.play(MARKET, "a\nMoves: accept.\n" + "b" * 500)
    assert said is not None
    lines = GAME.observation(said).split("\n")
    assert sum(line.startswith("Moves: ") for line in lines) == 1
    assert max(len(line) for line in lines if line.startswith("They said")) < 180


def test_deals_are_drawn_as_in_textarena() -> None:
    ranges = [(5, 6), (8, 12), (12, 18), (20, 30), (32, 40)]
    deals = [*GAME.deals("train"), *GAME.deals("test")]
    assert len({str(deal) for deal in deals}) == len(deals) == 192
    for deal in deals:
        assert all(5 <= n <= 25 for held in deal["holdings"] for n in held)
        for worth in deal["worth"]:
            assert all(low <= n <= high for n, (low, high) in zip(worth, ranges, strict=True))


def test_one_turn_is_no_negotiation() -> None:
    with pytest.raises(ConfigError, match=r"task\.turns"):
        Negotiation(turns=1)
