"""Tensors that several processes wrote, each its share, as torch.distributed.checkpoint does; read whole by one."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

# What the description of a checkpoint of tensors is made of. Unpickling anything else could run somebody's code.
NAMED = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module.partition(".")[0] in ("torch", "pathlib") else None
        described = module == "torch.distributed.checkpoint.metadata" and isinstance(found, type)
        if (module, name) in NAMED or described or isinstance(found, torch.dtype):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a checkpoint of tensors")


class _Reader(FileSystemReader):
    """torch's own, which would unpickle whatever it is given."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as stream:
            metadata: Metadata = _Unpickler(stream).load()
        return metadata


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors in a folder by name, whole.

    Raises:
        pickle.UnpicklingError, OSError, RuntimeError, ...: if it holds none that can be read, or more than tensors.
    """
    reader = _Reader(folder)
    tensors: dict[str, Any] = {}
    for name, entry in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            raise pickle.UnpicklingError(f"{name} is no tensor")
        tensors[name] = torch.empty(entry.size, dtype=entry.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*assuming the intent is to load in a single process.*")
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def merged(learner: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state of a learner, as one process would have it, of what is not sharded and of what is."""
    parameters, state = dict[str, Tensor](), dict[int, dict[str, Tensor]]()
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "parameters":
            parameters[rest] = tensor
        else:
            number, _, moment = rest.partition(".")
            state.setdefault(int(number), {})[moment] = tensor
    return {**learner, "parameters": parameters, "optimizer": {**learner["optimizer"], "state": state}}
