"""Three kernels of a decoding step on a GPU, in Triton: a layer is four matrix products and four of these launches.

Between its products a layer has some thirty small operations, each of which takes a GPU longer to begin than to do.

Shapes: B rows, D the width of the residual stream; H query heads in groups of G that share one of the p key-value
heads; d numbers per head; Q prompts of at most P tokens.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

try:  # comes with torch where that was built for a GPU
    import triton
    import triton.language as tl
except ImportError:
    triton = None

HEADS = (32, 64, 128, 256)


def available(device: torch.device, head: int) -> bool:
    """Whether these kernels run on a device, for heads of so many numbers: tests pretend to have a GPU."""
    if triton is None or device.type != "cuda" or not torch.cuda.is_available() or head not in HEADS:
        return False
    # Triton launches on the current GPU.
    return device.index in (None, torch.cuda.current_device()) and _compile()


@cache
def _compile() -> bool:
    """Whether Triton can build a kernel here: it needs a C compiler and Python's headers."""
    try:
        gated(torch.zeros(1, 2, device="cuda"))
    except Exception as error:  # noqa: BLE001 - whatever a compiler that is not there raises
        warnings.warn(
            f"decoding without Triton, several times slower: it cannot build kernels here ({error})", stacklevel=2
        )
        return False
    return True


def add_and_norm(
    stream: Float[Tensor, "B D"], more: Float[Tensor, "B D"] | None, weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "B D"]:
    """Adds to the stream in place; returns its root-mean-square normalization, in the type of `weight`."""
    rows, width = stream.shape
    y = torch.empty(stream.shape, dtype=weight.dtype, device=stream.device)
    grid, block = (rows,), triton.next_power_of_2(width)
    _add_and_norm[grid](stream, stream if more is None else more, weight, y, eps, width, more is not None, block)
    return y


def gated(both: Float[Tensor, "B 2F"]) -> Float[Tensor, "B F"]:
    """silu(g) u of a table whose left half is g and whose right half is u."""
    rows, width = both.shape[0], both.shape[1] // 2
    y = both.new_empty((rows, width))
    _gated[(rows, triton.cdiv(width, 1024))](both, y, width, 1024)
    return y


def attend(
    mixed: Float[Tensor, "B H+2p*d"],
    head_norm: Float[Tensor, "H+p d"] | None,
    rotation: tuple[Float[Tensor, "N d"], Float[Tensor, "N d"]],
    position: Int[Tensor, " B"],
    prompts: tuple[Float[Tensor, "Q*p P d"], Float[Tensor, "Q*p P d"]],
    padding: Float[Tensor, "Q P"],
    prompt_of: Int[Tensor, " B"],
    answers: tuple[Float[Tensor, "B*p room d"], Float[Tensor, "B*p room d"]],
    place: Int[Tensor, " 1"],
    scaling: float,
    eps: float,
) -> Float[Tensor, "B H*d"]:
    """What attention gives the newest token of every row, whose key and value go to `place` of its answer.

    Args:
        mixed: queries, keys and values as the projection makes them: neither normed nor rotated.
        rotation: cosines and signed sines by position, as of `llama.rotary_tables`.
        prompts, answers: keys and values.
        padding: 0 where a prompt has a token, else -inf.
    """
    rows, head = len(mixed), prompts[0].shape[-1]
    kv_heads = len(answers[0]) // rows
    heads = mixed.shape[1] // head - 2 * kv_heads
    y = mixed.new_empty((rows, heads * head))
    norm = mixed if head_norm is None else head_norm
    _attend[(rows, kv_heads)](
        *(mixed, norm, *rotation, position, *prompts, padding, prompt_of, *answers, place, y, scaling, eps),
        *(padding.shape[1], answers[0].shape[1]),
        heads=heads,
        kv_heads=kv_heads,
        group=heads // kv_heads,
        head=head,
        normed=head_norm is not None,
        tile=max(16, triton.next_power_of_2(heads // kv_heads)),  # the fewest rows of a product
        block=64,
    )
    return y


def _kernel(function: Any) -> Any:
    # Lengths change from call to call: no program of its own for those that are multiples of 16.
    return function if triton is None else triton.jit(function, do_not_specialize=["longest", "room"])


@_kernel
def _add_and_norm(stream, more, weight, y, eps, width, adds: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0)
    n = tl.arange(0, block)
    real = n < width
    x = tl.load(stream + row * width + n, mask=real, other=0.0)
    if adds:
        x += tl.load(more + row * width + n, mask=real, other=0.0).to(tl.float32)
        tl.store(stream + row * width + n, x, mask=real)
    unit = x * tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    kind = y.dtype.element_ty
    scale = tl.load(weight + n, mask=real, other=0.0)
    tl.store(y + row * width + n, (unit * scale.to(tl.float32)).to(kind), mask=real)


@_kernel
def _gated(both, y, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0)
    n = tl.program_id(1) * block + tl.arange(0, block)
    real = n < width
    gate = tl.load(both + row * 2 * width + n, mask=real, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * width + width + n, mask=real, other=0.0).to(tl.float32)
    tl.store(y + row * width + n, (gate / (1 + tl.exp(-gate)) * up).to(y.dtype.element_ty), mask=real)


@_kernel
def _attend(  # type: ignore[no-untyped-def]
    mixed,
    head_norm,
    cos,
    sin,
    position,
    prompt_keys,
    prompt_values,
    padding,
    prompt_of,
    keys,
    values,
    place,
    y,
    scaling,
    eps,
    longest,
    room,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    group: tl.constexpr,
    head: tl.constexpr,
    normed: tl.constexpr,
    tile: tl.constexpr,
    block: tl.constexpr,
):
    """One row and one key-value head: the newest token's query against itself, its prompt, and its answer so far."""
    row, kv_head = tl.program_id(0), tl.program_id(1)
    kind = y.dtype.element_ty
    half: tl.constexpr = head // 2
    left, whole = tl.arange(0, half), tl.arange(0, head)
    line = tl.load(position + row) * head
    cos_left, cos_right = tl.load(cos + line + left).to(tl.float32), tl.load(cos + line + half + left).to(tl.float32)
    sin_left, sin_right = tl.load(sin + line + left).to(tl.float32), tl.load(sin + line + half + left).to(tl.float32)
    start = mixed + row * (heads + 2 * kv_heads) * head

    member = tl.arange(0, tile)
    real = (member < group)[:, None]
    places = (kv_head * group + member)[:, None] * head + left[None, :]
    q_left = tl.load(start + places, mask=real, other=0.0).to(tl.float32)
    q_right = tl.load(start + places + half, mask=real, other=0.0).to(tl.float32)
    key_place = (heads + kv_head) * head
    k_left = tl.load(start + key_place + left).to(tl.float32)
    k_right = tl.load(start + key_place + half + left).to(tl.float32)
    value = tl.load(start + (heads + kv_heads + kv_head) * head + whole)
    if normed:
        scale = tl.rsqrt((tl.sum(q_left * q_left, 1) + tl.sum(q_right * q_right, 1)) / head + eps)[:, None]
        q_left *= scale * tl.load(head_norm + places, mask=real, other=0.0).to(tl.float32)
        q_right *= scale * tl.load(head_norm + places + half, mask=real, other=0.0).to(tl.float32)
        one = tl.rsqrt((tl.sum(k_left * k_left, 0) + tl.sum(k_right * k_right, 0)) / head + eps)
        k_left *= one * tl.load(head_norm + key_place + left).to(tl.float32)
        k_right *= one * tl.load(head_norm + key_place + half + left).to(tl.float32)
    query_left = (q_left * cos_left[None, :] + q_right * sin_left[None, :]).to(kind)
    query_right = (q_right * cos_right[None, :] + q_left * sin_right[None, :]).to(kind)
    key_left = (k_left * cos_left + k_right * sin_left).to(kind)
    key_right = (k_right * cos_right + k_left * sin_right).to(kind)
    written = tl.load(place)
    own = (row * kv_heads + kv_head).to(tl.int64) * room * head
    tl.store(keys + own + written * head + left, key_left)
    tl.store(keys + own + written * head + half + left, key_right)
    tl.store(values + own + written * head + whole, value)

    # The softmax so far: its largest score, the sum of weights, the weighted sum of values. It begins with the token.
    most = tl.sum(query_left.to(tl.float32) * key_left.to(tl.float32)[None, :], 1)
    most = (most + tl.sum(query_right.to(tl.float32) * key_right.to(tl.float32)[None, :], 1)) * scaling
    total = tl.full((tile,), 1.0, tl.float32)
    found = tl.zeros((tile, head), tl.float32) + value.to(tl.float32)[None, :]
    prompt = tl.load(prompt_of + row)
    read = (prompt * kv_heads + kv_head) * longest * head
    for first in range(0, longest, block):
        n = first + tl.arange(0, block)
        bias = tl.load(padding + prompt * longest + n, mask=n < longest, other=float("-inf"))
        most, total, found = _seen(
            prompt_keys + read,
            prompt_values + read,
            n,
            n < longest,
            bias,
            query_left,
            query_right,
            most,
            total,
            found,
            scaling,
            left,
            whole,
            half,
            head,
        )
    for first in range(0, written, block):
        n = first + tl.arange(0, block)
        bias = tl.where(n < written, 0.0, float("-inf"))
        most, total, found = _seen(
            keys + own,
            values + own,
            n,
            n < written,
            bias,
            query_left,
            query_right,
            most,
            total,
            found,
            scaling,
            left,
            whole,
            half,
            head,
        )
    places = row * heads * head + (kv_head * group + member)[:, None] * head + whole[None, :]
    tl.store(y + places, (found / total[:, None]).to(kind), mask=real)


@_kernel
def _seen(  # type: ignore[no-untyped-def]
    keys,
    values,
    n,
    real,
    bias,
    query_left,
    query_right,
    most,
    total,
    found,
    scaling,
    left,
    whole,
    half: tl.constexpr,
    head: tl.constexpr,
):
    """The softmax with a block of keys more."""
    columns = n[None, :] * head + left[:, None]
    key_left = tl.load(keys + columns, mask=real[None, :], other=0.0)
    key_right = tl.load(keys + columns + half, mask=real[None, :], other=0.0)
    scores = tl.dot(query_left, key_left, input_precision="ieee")
    scores = (scores + tl.dot(query_right, key_right, input_precision="ieee")) * scaling + bias[None, :]
    larger = tl.maximum(most, tl.max(scores, 1))
    weights, kept = tl.exp(scores - larger[:, None]), tl.exp(most - larger)
    value = tl.load(values + n[:, None] * head + whole[None, :], mask=real[:, None], other=0.0)
    found = found * kept[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
    return larger, total * kept + tl.sum(weights, 1), found
