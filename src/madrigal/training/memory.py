"""What a run takes of memory, as arithmetic: its parts, and the largest micro-batches that fit.

All sizes are in bytes. Two times of a step are the fullest: the update, and sampling (the held-out examples are played
in batches, too). What stays, weights and moments, is there in both; gradients and activations only in the first, keys
and values only in the second. On a processor policies with weights of their own work side by side, unless they are to
learn in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from madrigal.config import Experiment
from madrigal.policies.forward import GPU_TABLE, TABLE
from madrigal.policies.generate import SAMPLING_TOKENS
from madrigal.policies.machine import LARGE, free_memory, prefers_bfloat16
from madrigal.policies.sizes import ModelSize
from madrigal.settings import PolicyConfig

GB = 1e9
LEAST_TOKENS = 512  # in a micro-batch before activations are recomputed: with fewer, products become slow
ROOM = 0.9  # of the target that is planned for: the rest is what the plan may be wrong by
TABLES = 2  # of logits that are alive at once while sampling: as computed and scaled
LIBRARY = 1.3  # of the activations of the written-out path; measured with the library's own code
# Of the activations: freed, but kept by the C library in pieces that fit nothing; of all weights nothing where large
# pieces are given back at once. Runs of adapters hold a part that no size of micro-batches changes. All measured.
HELD, HELD_ADAPTER, LEFT_ADAPTER = 0.65, 0.5, 1.1 * GB
FAULTS = 1.15  # times as long, where every large piece is given back and asked for again; 1.05 to 1.27 were measured
RESERVE = 1 * GB  # left to others where no target is set
PROCESS = 0.5 * GB  # Python, torch, transformers and a tokenizer, measured


@dataclass(frozen=True, slots=True)
class Target:
    """What a run may have.

    Attributes:
        memory: bytes to plan for; None where nothing is known.
        limit: bytes that are really there.
        told: whether the user named it.
    """

    memory: float | None
    limit: float | None
    told: bool = False


def target_of(run: Experiment, device: torch.device) -> Target:
    """What a run may have: what its user says, else what is free but for a reserve."""
    limit = free_memory(device)
    if run.memory is not None:
        return Target(run.memory * GB, limit, told=True)
    return Target(None, None) if limit is None else Target(max(0.0, limit - RESERVE), limit)


def itemsize_of(config: PolicyConfig, size: ModelSize, device: torch.device) -> int:
    """Bytes of one weight, as `policies.local.load_model` chooses them."""
    if config.dtype != "auto":
        return 4 if config.dtype == "float32" else 2
    return 2 if device.type == "cuda" or prefers_bfloat16(size.parameters) else 4


@dataclass(frozen=True, slots=True)
class Texts:
    """What a policy reads and writes at a time.

    Attributes:
        prompts: distinct ones.
        answers: to each of them.
        prompt: tokens of the longest.
        answer: the most tokens of one.
    """

    prompts: int
    answers: int
    prompt: int
    answer: int

    @property
    def row(self) -> int:
        return self.prompt + self.answer

    @property
    def tokens(self) -> int:
        """Padded, each prompt once."""
        return self.prompts * (self.prompt + self.answers * self.answer)


@dataclass(frozen=True, slots=True)
class Body:
    """One policy or critic.

    Attributes:
        name: as the run calls it.
        size: of its model.
        itemsize: bytes of one weight.
        trained: parameters that learn; 0 of one that only speaks.
        adapter: whether these are an adapter's.
        owns: whether the weights are its own; those of a shared model count once.
        reference: whether a copy of its first weights is kept.
        older: snapshots of what it trains that are kept.
        critic: whether it has a head of values in place of logits, and never speaks.
        sampled, held_out, learned: what it writes in a training step, in an evaluation, and learns from.
        written_out: whether `policies.llama` runs it.
        on_gpu: whether it computes there, with more logits at a time, and nothing packed or held by the C library.
        reads: whether it only reads what others wrote, for its fluency.
        ranks: processes that share what learns; this is the first, which also holds the whole policy.
        local: whether it answers with these weights; else an engine does.
        engine: bytes that an engine in this process holds for it.
    """

    name: str
    size: ModelSize
    itemsize: int
    trained: int
    adapter: bool
    owns: bool
    reference: bool
    older: int
    critic: bool
    sampled: Texts
    held_out: Texts
    learned: Texts
    written_out: bool
    on_gpu: bool = False
    reads: bool = False
    ranks: int = 1
    local: bool = True
    engine: float = 0.0

    @property
    def table(self) -> int:
        """Logits that are worked on at a time, in numbers."""
        return (GPU_TABLE if self.on_gpu else TABLE) // self.size.vocabulary


def lasting(body: Body) -> dict[str, float]:
    """What is there all the time."""
    size, parts = body.size, {"weights": 0.0}
    weights = float(size.parameters * body.itemsize) if body.owns else 0.0
    if body.reads:
        return {"the model of fluency": weights}
    # A twin of older weights is made when the first of them plays.
    twin = (4 * body.trained if body.adapter else weights) if body.older else 0.0
    learned, ranks = body.trained / body.ranks, body.ranks
    apart = not body.adapter and (body.itemsize < 4 or ranks > 1)
    kept = weights if ranks == 1 else 4.0 * size.parameters / ranks
    own = {
        "weights": weights * (1 + 1 / ranks if body.adapter and ranks > 1 else 1),
        "adapters": 4.0 * learned if body.adapter else 0.0,
        "float32 masters": 4.0 * learned if apart else 0.0,
        "AdamW's moments": 8.0 * learned,
        "reference copies": kept if body.reference and not body.adapter else 0.0,
        "vLLM": body.engine,
    }
    parts = {"critics": sum(own.values())} if body.critic else own
    return parts | {"older selves": 4.0 * body.trained * body.older + twin}


def gradients(body: Body) -> float:
    """In float32; those of less wide weights are added up into them, all at once."""
    narrow = 0 if body.adapter or body.itemsize == 4 or body.ranks > 1 else body.itemsize
    tied = 0 if body.critic or body.adapter else 4 * body.size.vocabulary * body.size.width  # two of one matrix
    return float((4 + narrow) * body.trained / body.ranks + (tied if body.trained else 0))


def gathered(body: Body) -> float:
    """Weights that ranks gather to use them, in the type that they compute in.

    On a card the embedding and two layers at a time. On a processor the C library keeps what is freed of each layer, in
    pieces that the next one's do not fit: measured, it comes to all weights once.
    """
    size = body.size
    if body.ranks == 1:
        return 0.0
    table = size.vocabulary * size.width
    used = table + 2 * (size.parameters - table) / size.layers if body.on_gpu else size.parameters
    return float(used * body.itemsize)


def micro_batch(texts: Texts, budget: int) -> Texts:
    """The largest micro-batch within a budget of padded tokens: whole groups, or one answer or more to one prompt."""
    whole = texts.prompt + texts.answers * texts.answer
    if budget >= whole:
        return Texts(min(texts.prompts, budget // whole), texts.answers, texts.prompt, texts.answer)
    answers = max(1, (budget - texts.prompt) // texts.answer)
    return Texts(1, min(texts.answers, answers), texts.prompt, texts.answer)


def layer_numbers(size: ModelSize) -> int:
    """Numbers that one layer keeps of one token for the gradient, in the written-out path.

        4 D + 3 F + 3 H d + (2 + n) (H + p) d + 2 p d

    Both norms and what they scale; the halves of the gate and their product; queries, what attention found of them
    in its places and packed; queries and keys before and after their rotation (n = 1 where they are normed); values.
    """
    queries, keys = size.heads * size.head, size.kv_heads * size.head
    norms = (2 + size.normed_heads) * (queries + keys)
    return 4 * size.width + 3 * size.inner + 3 * queries + norms + 2 * keys


def activations(body: Body, budget: int, *, recompute: bool) -> float:
    """Of one micro-batch; without what is alive for a moment, in a layer or the logits."""
    batch, size = micro_batch(body.learned, budget), body.size
    answers, tokens = batch.prompts * batch.answers, batch.tokens
    if _in_one_pass(body, recompute=recompute):
        tokens = answers * batch.row
    stream = 4.0 * size.width * tokens
    mask = size.heads // size.kv_heads * (answers * batch.answer * batch.row + batch.prompts * batch.prompt**2)
    layer = stream if recompute else _layer(body, batch, tokens)
    return layer * size.layers + mask * body.itemsize + 2 * stream


def moment(body: Body, budget: int, *, recompute: bool) -> dict[str, float]:
    """What is alive for a moment of one micro-batch: its logits, in pieces, or one layer and its gradients."""
    batch = micro_batch(body.learned, budget)
    answers = batch.prompts * batch.answers
    rows = min(answers * batch.answer, max(1, body.table))
    tables = 0.0 if body.critic else float(body.itemsize * rows * body.size.vocabulary)
    tokens = answers * batch.row if _in_one_pass(body, recompute=recompute) else batch.tokens
    layer = _layer(body, batch, tokens) * (2 if recompute else 1)
    return {"logits": tables} if tables > layer else {"one layer": layer}


def _in_one_pass(body: Body, *, recompute: bool) -> bool:
    """Whether every prompt is read before each of its answers: by ranks, and where the library's code recomputes."""
    return body.ranks > 1 or (recompute and not body.written_out)


def _layer(body: Body, batch: Texts, tokens: int) -> float:
    """What one layer keeps; answers see the keys and values of their prompts, each its own copy."""
    keys = 2 * body.size.kv_heads * body.size.head * batch.prompts * batch.answers * batch.row
    return (layer_numbers(body.size) * tokens + keys) * body.itemsize * (1.0 if body.written_out else LIBRARY)


def sampling(body: Body, texts: Texts, budget: int) -> dict[str, float]:
    """Keys and values, prompts as they are read, logits of one batch, and weights packed or with adapters added."""
    if not body.local:
        return {}
    size = body.size
    rows = max(1, min(texts.prompts * texts.answers, budget // texts.row))
    prompts = min(texts.prompts, -(-rows // texts.answers))
    wide = 4 if body.written_out and not body.on_gpu else body.itemsize
    cached = prompts * texts.prompt + rows * texts.answer
    keys = 2.0 * size.kv_heads * size.head * size.layers * cached * wide
    mask = size.heads // size.kv_heads * prompts * texts.prompt**2
    # Weights in float32 with adapters added; in bfloat16 packed for the processor's products.
    ready = body.written_out and (body.adapter if body.itemsize == 4 else not body.on_gpu)
    read = (4 * size.inner + 3 * size.width) * prompts * texts.prompt + mask
    return {
        "weights for decoding": float(size.parameters * body.itemsize) if ready else 0.0,
        "key-value cache": keys,
        "prompts being read": float(read * body.itemsize),
        "logits": 4.0 * TABLES * rows * size.vocabulary,
    }


@dataclass(frozen=True, slots=True)
class Batches:
    """How work is cut up.

    Attributes:
        update: the most padded tokens in one micro-batch.
        sampling: the most in one batch of answers.
        recompute: whether activations are computed again.
        in_turn: whether policies that could learn side by side learn one after the other.
        give_back: whether freed memory goes back to the system at once, which takes time.
    """

    update: int
    sampling: int = SAMPLING_TOKENS
    recompute: bool = False
    in_turn: bool = False
    give_back: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Memory by what it is for.

    Attributes:
        lasting: there all the time.
        update, sampling: what each of these times needs besides; one of them ends before the other begins.
    """

    lasting: dict[str, float]
    update: dict[str, float]
    sampling: dict[str, float]

    @property
    def updating(self) -> float:
        return _size(self.lasting) + _size(self.update)

    @property
    def speaking(self) -> float:
        return _size(self.lasting) + _size(self.sampling)

    @property
    def total(self) -> float:
        """At the fullest time."""
        return max(self.updating, self.speaking)


def parts_of(bodies: Sequence[Body], batches: Batches, *, side_by_side: bool) -> Parts:
    """The memory of a run.

    Args:
        side_by_side: whether all bodies work at once; else the one that needs most counts.
    """
    learners = [body for body in bodies if body.trained]
    update = [
        {
            "gradients": gradients(body),
            "gathered weights": gathered(body),
            "activations": activations(body, batches.update, recompute=batches.recompute),
            "freed but held": held(body, batches),
            **moment(body, batches.update, recompute=batches.recompute),
        }
        for body in learners
    ]
    speaking = [
        max((sampling(body, texts, batches.sampling) for texts in (body.sampled, body.held_out)), key=_size)
        for body in bodies
        if not (body.critic or body.reads)
    ]
    learning = _summed if side_by_side and not batches.in_turn else _largest
    spoken = _summed if side_by_side else _largest
    return Parts({"the process": PROCESS} | _summed(map(lasting, bodies)), learning(update), spoken(speaking))


def held(body: Body, batches: Batches) -> float:
    """What the C library keeps of freed activations; small models' pieces are small, and fit one another.

    Activations that are computed again leave as much, by measurement: they were all there, layer after layer.
    """
    if body.on_gpu or not body.written_out or body.size.parameters < LARGE:
        return 0.0
    freed = activations(body, batches.update, recompute=False)
    if body.adapter:
        return LEFT_ADAPTER + HELD_ADAPTER * freed
    return 0.0 if batches.give_back else HELD * freed


def choices(asked: Batches, shortest: int, *, recomputable: bool, side_by_side: bool) -> Iterator[Batches]:
    """Ways to cut up the update: as asked, smaller, with activations recomputed, in turn, and freeing at once."""
    plain = list(_halved(asked.update, max(LEAST_TOKENS, shortest)))
    small = list(_halved(asked.update, shortest))
    cuts = [] if asked.recompute else [Batches(budget) for budget in (plain if recomputable else small)]
    if asked.recompute or recomputable:
        cuts += [Batches(budget, recompute=True) for budget in small]
    for in_turn, give_back in product((False, True) if side_by_side else (False,), (False, True)):
        yield from (replace(cut, in_turn=in_turn, give_back=give_back) for cut in cuts)


def cost(bodies: Sequence[Body], cut: Batches, workers: int) -> float:
    """Time of an update in tokens that go through all layers once: prompts are read again for every micro-batch.

    Args:
        workers: policies that learn at once where they are let.
    """
    tokens = 0.0
    for body in bodies:
        if body.trained:
            texts, batch = body.learned, micro_batch(body.learned, cut.update)
            answers = texts.prompts * texts.answers
            passes = (2 if body.adapter else 3) + cut.recompute
            tokens += passes * answers * (texts.answer + texts.prompt / batch.answers)
    return tokens * (workers if cut.in_turn else 1) * (FAULTS if cut.give_back else 1)


def chosen(
    bodies: Sequence[Body], asked: Batches, target: float | None, *, side_by_side: bool, workers: int = 1
) -> Batches:
    """The fastest way that fits a target, or the one that takes least; without a target as asked.

    Args:
        workers: policies that learn at once where they are let.
    """
    if target is None:
        return asked
    row = max(body.learned.row for body in bodies)
    learns = any(body.trained for body in bodies)
    recomputable = all(body.size.recomputable for body in bodies if body.trained)
    ways = choices(asked, row, recomputable=recomputable, side_by_side=side_by_side) if learns else [asked]
    cuts = sorted(ways, key=lambda cut: cost(bodies, cut, workers))
    room = ROOM * target

    def parts(batches: Batches) -> Parts:
        return parts_of(bodies, batches, side_by_side=side_by_side)

    update = next((cut for cut in cuts if parts(cut).updating <= room), None)
    update = update or min(cuts, key=lambda cut: parts(cut).updating)
    longest = max(texts.row for body in bodies for texts in (body.sampled, body.held_out))
    tries = [replace(update, sampling=budget) for budget in _halved(asked.sampling, longest)]
    return next((one for one in tries if parts(one).speaking <= room), tries[-1])


def sampling_tokens(policies: Sequence[tuple[ModelSize, int]], answer: int, room: float) -> int:
    """The most padded tokens in one batch of each of several policies that fit what is free, all of them at work.

    Args:
        policies: of each, its size and the bytes of one of its weights.
        answer: the most tokens of one.
        room: bytes that are free, with the policies loaded.
    """
    each = 0.0
    for size, itemsize in policies:
        keys = 2.0 * size.kv_heads * size.head * size.layers * 4
        each += keys + (4 * size.inner + 3 * size.width) * itemsize + 4.0 * TABLES * size.vocabulary / (answer + 1)
    return max(1, min(SAMPLING_TOKENS, int(ROOM * room / each))) if each else SAMPLING_TOKENS


def _halved(most: int, least: int) -> Iterator[int]:
    """A number, half of it and so on, down to the least.

    >>> list(_halved(1000, 300)), list(_halved(200, 300))
    ([1000, 500, 300], [200])
    """
    now = most
    while now > least:
        yield now
        now //= 2
    yield min(most, least)


def _size(parts: dict[str, float]) -> float:
    return sum(parts.values())


def _summed(each: Iterator[dict[str, float]] | Sequence[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for parts in each:
        for name, number in parts.items():
            total[name] = total.get(name, 0.0) + number
    return total


def _largest(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return max(each, key=_size, default={})
