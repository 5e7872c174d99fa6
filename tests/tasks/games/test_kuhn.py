"""Kuhn poker: payoffs, whose turn it is, who knows what, and matches of several hands."""

from __future__ import annotations

from itertools import product

import pytest

from madrigal.tasks.games.kuhn import (
    DEALS,
    ENDED,
    OPEN,
    Hands,
    Kuhn,
    equilibrium,
    equilibrium_player,
    hand_payoff,
    information_set,
    matches,
    prompt_of,
)
from madrigal.types import ConfigError, Message

GAME = Kuhn()
# What the opener wins: by bets, with the higher card and with the lower one.
TABLE = {"pp": (1, -1), "pbp": (-1, -1), "pbb": (2, -2), "bp": (1, 1), "bb": (2, -2)}


def played(position: Hands, *answers: str, game: Kuhn = GAME) -> Hands:
    for answer in answers:
        after = game.play(position, answer)
        assert after is not None, answer
        position = after
    return position


@pytest.mark.parametrize(("bets", "deal"), list(product(ENDED, DEALS)))
def test_payoffs(bets: str, deal: str) -> None:
    won = TABLE[bets][deal not in ("KQ", "KJ", "QJ")]
    assert hand_payoff(deal, bets) == won
    assert GAME.payoff(played(Hands((deal,)), *("12"["pb".index(bet)] for bet in bets))) == won


def test_every_hand_ends_in_one_of_five_ways() -> None:
    ends, going = [], [("", Hands(("JQ",)))]
    while going:
        bets, position = going.pop()
        for answer, bet in (("1", "p"), ("2", "b")):
            after = played(position, answer)
            (ends if GAME.payoff(after) is not None else going).append((bets + bet, after))
    assert sorted(bets for bets, _ in ends) == sorted(ENDED)


def test_words_are_legal_where_they_make_sense() -> None:
    opened, faced = Hands(("JQ",)), Hands(("JQ",), bets="b")
    assert [GAME.play(opened, word) is not None for word in ("check", "bet", "call", "fold")] == [1, 1, 0, 0]
    assert [GAME.play(faced, word) is not None for word in ("check", "bet", "call", "fold")] == [0, 0, 1, 1]
    assert GAME.play(faced, "I call") == played(faced, "2")
    assert GAME.play(opened, "3") is None


def test_players_take_turns_and_open_in_turn() -> None:
    match = Hands(("JQ", "KQ"))
    assert [GAME.mover(Hands(("JQ",), bets=bets)) for bets in OPEN] == [0, 1, 1, 0]
    second = played(match, "bet", "fold")
    assert (second.hand, second.chips, GAME.mover(second)) == (1, 1, 1)
    assert played(second, "bet", "call").chips == 1 - 2, "the second player opened the second hand, with the king"


@pytest.mark.parametrize("bets", OPEN)
def test_one_sees_ones_own_card_only(bets: str) -> None:
    for rounds in (1, 2):
        game = Kuhn(rounds=rounds)
        for hand in range(rounds):
            shown = {}
            for deal in DEALS:
                position = Hands(("JQ",) * hand + (deal,) + ("QK",) * (rounds - 1 - hand), hand=hand, bets=bets)
                own = deal[len(bets) % 2]
                shown.setdefault(own, set()).add(game.observation(position))
                assert information_set((Message("user", game.observation(position)),)) == (own, bets)
            assert {own: len(texts) for own, texts in shown.items()} == {"J": 1, "Q": 1, "K": 1}
            assert len(set.union(*shown.values())) == 3


def test_cards_of_other_hands_do_not_show() -> None:
    game = Kuhn(rounds=3)
    one, other = (Hands((past, "KQ", coming), hand=1, chips=1) for past, coming in (("JQ", "QK"), ("KJ", "JK")))
    assert game.observation(one) == game.observation(other)


def test_a_match_tells_the_hand_and_ones_own_chips() -> None:
    game = Kuhn(rounds=5)
    assert "Hand 2 of 5. You have won -1 chips." in game.observation(Hands(("JQ",) * 5, hand=1, chips=1))
    assert "Hand 2 of 5. You have won +1 chips." in game.observation(Hands(("JQ",) * 5, hand=1, bets="p", chips=1))


def test_what_a_match_pays() -> None:
    def over(chips: int) -> Hands:
        return Hands(("JQ",) * 3, hand=3, chips=chips)

    chips, winner = Kuhn(rounds=3), Kuhn(rounds=3, reward="winner")
    assert [chips.payoff(over(n)) for n in (-4, 0, 3)] == [-4, 0, 3]
    assert [winner.payoff(over(n)) for n in (-4, 0, 3)] == [-1, 0, 1]
    assert (chips.stake, winner.stake, chips.plies) == (6, 1, 9)
    assert winner.payoff(Hands(("JQ",) * 3, hand=2, chips=5)) is None


def test_matches_are_distinct_and_never_in_both_splits() -> None:
    for rounds, sizes in ((2, (27, 9)), (5, (144, 48))):
        train, test = matches(rounds, "train"), matches(rounds, "test")
        assert (len(train), len(test)) == sizes
        assert len({*train, *test}) == sum(sizes)
        assert {len(match) for match in train} == {rounds}
        assert {deal for match in test for deal in match} == set(DEALS)
    assert len(GAME.deals("train")) == len(GAME.deals("test")) == 6


def test_the_scripted_player_draws_from_the_equilibrium() -> None:
    def bets(card: str, story: str) -> float:
        prompt = (Message("user", prompt_of(card, story)),)
        return sum(equilibrium_player(prompt, seed) == "2" for seed in range(900)) / 900

    for known, chance in equilibrium().items():
        assert bets(*known) == pytest.approx(chance, abs=0.05), known


def test_a_match_without_hands_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.rounds"):
        Kuhn(rounds=0)
