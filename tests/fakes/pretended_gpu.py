"""A GPU that is none: tensors on the processor that say "cuda:0" and refuse what a GPU would refuse.

Whole runs through it find, without a GPU, tensors left behind on the processor, random numbers of its generator, and
how often the processor would wait for the GPU. What it cannot show: kernels, memory, speed, determinism.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_map

from madrigal.training import teams as assemble

GPU = torch.device("cuda", 0)
MAKERS = ("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")
INDEXED = ("aten.index.", "aten.index_put", "aten._unsafe_index")  # take indices on the processor, as in torch
ACROSS = ("aten.copy_.",)  # copies from one device to the other
WAITS = (
    "aten._local_scalar_dense.",  # item(), and so bool(), float() and int()
    "aten.bincount.",
    "aten.equal.",
    "aten.is_nonzero.",
    "aten.masked_select.",
    "aten.nonzero.",
    "aten.repeat_interleave.Tensor",
    "aten._unique2.",
    "aten.unique_dim.",
)
waits: Counter[str] = Counter()


class MixedDevicesError(RuntimeError):
    """A tensor on the processor met one on the GPU."""


class OnGpu(Tensor):
    """Numbers that lie on the processor and pretend that they do not."""

    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(op) + ("" if "." in str(op).removeprefix("aten.") else ".")
        _refuse_mixed(name, args, kwargs)
        waits.update([name] if _waits(name, args) else [])
        with torch._C._DisableTorchDispatch():
            found = op(*args, **kwargs)
        if name.startswith(ACROSS) and not isinstance(args[0], OnGpu):
            return found
        return on_gpu(found) if isinstance(found, Tensor) else tree_map(on_gpu, found)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Any:
        return on_gpu(torch.tensor(data, dtype=dtype or self.dtype))

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        waits["cpu"] += 1
        return on_cpu(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy = on_gpu(on_cpu(self.detach()).clone()).requires_grad_(self.requires_grad)
            memo[id(self)] = _as_parameter(copy) if isinstance(self, nn.Parameter) else copy
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return on_cpu(self.detach()).__reduce_ex__(protocol)


def on_gpu(value: Any) -> Any:
    """The same numbers as a tensor of the GPU; what is no tensor stays as it is."""
    if not isinstance(value, Tensor) or isinstance(value, OnGpu):
        return value
    return Tensor._make_subclass(OnGpu, value, value.requires_grad)


def on_cpu(value: Tensor) -> Tensor:
    with torch._C._DisableTorchDispatch():
        return value.detach().as_subclass(Tensor).clone()


def _refuse_mixed(name: str, args: Any, kwargs: Any) -> None:
    if name.startswith(ACROSS):
        return
    # As in torch a single number may come from the processor, and so may an index into something on the GPU.
    given = [*(args[:1] + args[2:] if name.startswith(INDEXED) else args), *kwargs.values()]
    leaves = [one for part in given for one in (part if isinstance(part, list | tuple) else (part,))]
    strangers = [one for one in leaves if isinstance(one, Tensor) and type(one) is not OnGpu and one.dim()]
    if strangers or any(isinstance(one, torch.Generator) for one in leaves):
        shapes = [tuple(one.shape) for one in strangers]
        raise MixedDevicesError(f"{name}: expected all tensors on {GPU}, got {shapes} on the processor")


def _waits(name: str, args: Any) -> bool:
    """Whether the processor waits for the GPU: it wants a number, or a shape that hangs on numbers."""
    if name.startswith(INDEXED):
        return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in args[1])
    return name.startswith(WAITS) or (name.startswith(ACROSS) and not all(isinstance(one, OnGpu) for one in args[:2]))


def _target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The kind of device that arguments name, "" for none, and the arguments without it."""
    named = [one for one in (*args, kwargs.get("device")) if isinstance(one, torch.device | str)]
    others = tuple(one for one in args if not isinstance(one, torch.device | str))
    rest = {key: value for key, value in kwargs.items() if key != "device"}
    return (torch.device(named[0]).type if named else ""), others, rest


def _to(plain: Callable[..., Tensor], self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    kind, others, rest = _target(args, kwargs)
    if kind != "cuda" and not isinstance(self, OnGpu):
        return plain(self, *args, **kwargs)
    moved = on_gpu(self) if kind == "cuda" else self.cpu() if kind and isinstance(self, OnGpu) else self
    return plain(moved, *others, **rest) if others or rest else moved


def _made(plain: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not kwargs.get("device") or torch.device(kwargs["device"]).type != "cuda":
        return plain(*args, **kwargs)
    if kwargs.get("generator"):
        raise MixedDevicesError("a generator of the processor for numbers on the GPU")
    return on_gpu(plain(*args, **{**kwargs, "device": "cpu"}))  # type: ignore[no-any-return]


def _as_parameter(value: Tensor) -> Tensor:
    value._is_param = True  # type: ignore[attr-defined]
    return value


def _module_to(plain: Callable[..., nn.Module], self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Moves and casts parameters (tied ones once) and buffers."""
    kind, others, rest = _target(args, kwargs)
    if kind != "cuda" and not any(isinstance(one, OnGpu) for one in self.parameters()):
        return plain(self, *args, **kwargs)
    dtypes = [one for one in (*others, rest.get("dtype")) if isinstance(one, torch.dtype)]
    moved: dict[Tensor, Tensor] = {}
    for module in self.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is not None and value not in moved:
                    new = value.detach().to(*dtypes) if dtypes and value.is_floating_point() else value.detach()
                    new = (on_gpu(new) if kind == "cuda" else new).requires_grad_(value.requires_grad)
                    moved[value] = _as_parameter(new) if isinstance(value, nn.Parameter) else new
                held[name] = None if value is None else moved[value]
    return self


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Makes "auto" mean the pretended GPU; returns how often, and for what, the processor waited for it."""
    if torch.cuda.is_available():
        pytest.skip("pretends to be a GPU where there is none")
    _device_constructors()  # torch keeps the list that it makes at the first call: of the plain ones, then
    for owner, name, wrapper in (
        *((torch, maker, _made) for maker in MAKERS),
        (Tensor, "to", _to),
        (nn.Module, "to", _module_to),
    ):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, _bound(wrapper, plain))
    monkeypatch.setattr(assemble, "pick_device", lambda name: GPU)
    waits.clear()
    return waits


def _bound(wrapper: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapper(plain, *args, **kwargs)

    return call
