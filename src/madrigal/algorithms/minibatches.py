"""From the credited samples of a step's episodes to the stages of PPO: whitened together, dealt out in mini-batches.

Knows: samples, episode by episode. Does not know: who credited them, what is minimised.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from madrigal.algorithms.whitening import whitened
from madrigal.types import Sample


def in_minibatches(
    episodes: Sequence[Sequence[Sample]], *, whiten: bool, minibatches: int, epochs: int
) -> list[list[Sample]]:
    """A stage for each mini-batch of each epoch.

    Every epoch deals episodes out to its mini-batches whole: teammates learn from a joint action together.

    Args:
        whiten: first put the advantages of all of them on one scale, for each agent and round by itself.
    """
    samples = [sample for several in episodes for sample in several]
    rest = iter(whitened(samples) if whiten else samples)
    whole = [list(islice(rest, len(several))) for several in episodes]
    return [[sample for one in whole[n::minibatches] for sample in one] for n in range(minibatches)] * epochs
