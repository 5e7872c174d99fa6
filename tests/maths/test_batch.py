"""Batches: what is padding, what is shared, and how a step is cut into pieces."""

from __future__ import annotations

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fakes.tiny import CPU, sample
from madrigal.maths.batch import make_batch, micro_batch_places, micro_batches, pad_rows, prompt_levels
from madrigal.types import Sample

ids = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(tuple)
drawn = st.lists(st.builds(sample, ids, st.lists(st.integers(0, 9), max_size=12).map(tuple)), max_size=12)


def test_prompts_are_padded_on_the_left_and_answers_on_the_right() -> None:
    left, left_mask = pad_rows([(5, 6), (7,)], pad=0, left=True)
    right, right_mask = pad_rows([(5, 6), (7,)], pad=0)
    assert (left.tolist(), left_mask.tolist()) == ([[5, 6], [0, 7]], [[True, True], [False, True]])
    assert (right.tolist(), right_mask.tolist()) == ([[5, 6], [7, 0]], [[True, True], [True, False]])


def test_a_shared_prompt_stands_in_a_batch_once() -> None:
    made = make_batch(
        [sample((1, 2), (7, 8, 9), 2.0), sample((3,), (4,), -1.0), sample((1, 2), (5, 6), 0.5)],
        0,
        CPU,
        total=4.0,
        tokens=60.0,
    )
    assert [level.tokens.tolist() for level in made.prompts] == [[[1, 2], [0, 3]]]
    assert made.prompt_of.tolist() == [0, 1, 0]
    assert made.actions.tolist() == [[7, 8, 9], [4, 0, 0], [5, 6, 0]]
    assert made.mask.sum().item() == 6
    torch.testing.assert_close(made.old_logprobs, torch.tensor([[-0.1, -0.2, -0.3], [-0.1, 0, 0], [-0.1, -0.2, 0]]))
    assert made.advantages.tolist() == [[2.0] * 3, [-1.0, 0, 0], [0.5, 0.5, 0]]
    assert (made.weights.tolist(), made.tokens) == ([0.25] * 3, 60)


@example(
    [sample((0,), (0,)), sample((0, 0), (0, 0, 0)), sample((0, 0, 0), (0,)), sample((1, 0, 0, 0), (0,))], 28
)  # where two levels would have more padding than one
@given(drawn, st.integers(1, 80))
def test_pieces_hold_every_answer_once_within_the_budget(samples: list[Sample], budget: int) -> None:
    pieces = list(micro_batches(samples, budget))
    spread = [place for places in micro_batch_places(samples, budget) for place in places]
    assert sorted(spread) == [n for n, one in enumerate(samples) if one.token_ids]
    assert [samples[place] for place in spread] == [one for piece in pieces for one in piece]
    for piece in pieces:
        made = make_batch(piece, 0, CPU)
        read = sum(level.tokens.numel() for level in made.prompts)
        assert len(piece) == 1 or read + made.actions.numel() <= budget


@given(st.lists(ids, min_size=1, max_size=8, unique=True))
def test_levels_cost_no_more_than_the_prompts_in_one(prompts: list[tuple[int, ...]]) -> None:
    read = sum(level.tokens.numel() for level in prompt_levels(prompts, 0, CPU))
    assert read <= len(prompts) * max(map(len, prompts))


@given(st.lists(ids, min_size=1, max_size=8, unique=True))
def test_levels_spell_every_prompt(prompts: list[tuple[int, ...]]) -> None:
    levels = prompt_levels(prompts, 0, CPU)
    spelt = [[()] * len(levels[0].tokens)]
    for level in levels:
        rows = zip(level.tokens, level.mask, level.parent.tolist(), strict=True)
        spelt.append([spelt[-1][parent] + tuple(row[real].tolist()) for row, real, parent in rows])
    assert spelt[-1] == prompts
    assert all(level.mask.any(dim=1).all() for level in levels[-1:])


def test_prompts_that_begin_alike_are_read_together() -> None:
    """Two examples, each with three prompts of a second round: 12 + 8 shared tokens are read once instead of thrice."""
    first, second = tuple(range(12)), tuple(range(20, 28))
    prompts = [(*first, 90 + n, 50) for n in range(3)] + [(*second, 80 + n) for n in range(3)] + [(1, 2, 3)]
    heads, rest = prompt_levels(prompts, 0, CPU)
    assert heads.mask.sum(1).tolist() == [12, 8, 2]
    assert rest.mask.sum(1).tolist() == [2, 2, 2, 1, 1, 1, 1]
    assert rest.parent.tolist() == [0, 0, 0, 1, 1, 1, 2]
