"""From the credited samples of a step's episodes to the stages of PPO: whitened together, dealt out in mini-batches.

Knows: samples, episode by episode. Does not know: who credited them, what is minimised.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice

from madrigal.algorithms.whitening import whitened
from madrigal.types import Sample


def in_minibatches(
    episodes: Sequence[Sequence[Sample]], *, whiten: bool, minibatches: int, epochs: int
) -> list[list[Sample]]:
    """A stage for each mini-batch of each epoch.

    Every epoch deals episodes out to its mini-batches whole: teammates learn from a joint action together. The first
    deals them in order, each later one in an order of its own. A mini-batch of m of M episodes estimates the mean over
    all of them, so its samples count M / m.

    Args:
        whiten: first put the advantages of all of them on one scale, for each agent and round by itself.
    """
    rest = iter(whitened(list(chain(*episodes))) if whiten else chain(*episodes))
    whole = [list(islice(rest, len(several))) for several in episodes]
    stages = [deal for epoch in range(epochs) for deal in _dealt(whole, minibatches, epoch)]
    return [_counting(deal, len(whole)) for deal in stages if deal]


def _dealt(episodes: Sequence[Sequence[Sample]], hands: int, epoch: int) -> list[list[Sequence[Sample]]]:
    order = list(episodes)
    if epoch:
        random.Random(epoch).shuffle(order)
    return [order[n::hands] for n in range(hands)]


def _counting(deal: Sequence[Sequence[Sample]], total: int) -> list[Sample]:
    return [replace(sample, weight=sample.weight * total / len(deal)) for sample in chain(*deal)]
