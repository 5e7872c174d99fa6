"""A whole team in one folder: what marks it, what it is made of, and whether it is as it was saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from madrigal.policies.hub import downloaded, is_hub_name
from madrigal.runs.files import read_object
from madrigal.runs.manifest import MANIFEST, checksums, files_in, flaw
from madrigal.types import ConfigError

KIND, FORMAT = "team of Madrigal", 1
CARD = "README.md"  # may be changed: the hub has an editor for it
READ = {".json", ".safetensors", ".jinja", ".model", ".txt", ".md", ".py"}  # .py of an own task, which needs trust
PARTS = ("team", "base", "files")


def write_manifest(folder: Path, versions: Mapping[str, str]) -> None:
    """Writes what a team's folder is, by what it was made, and the checksum of every file but the card."""
    record = {"kind": KIND, "format": FORMAT, "versions": dict(versions), "files": checksums(folder, [CARD])}
    (folder / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def found(place: str | Path) -> Path:
    """The folder of a run or of a whole team, of which all files were checked; one of the hub is downloaded first.

    Args:
        place: a folder, or owner/name of a repository on the Hugging Face hub.

    Raises:
        ConfigError: if a file of a whole team is missing, damaged or of a kind that is not read.
        EngineError: if it cannot be had from the hub.
    """
    folder = Path(place)
    if isinstance(place, str) and is_hub_name(place):
        folder = downloaded(place, MANIFEST)
        if not is_whole(folder):
            raise ConfigError(f"{place}: expected a team that madrigal export --whole has made, found no {KIND}")
    if is_whole(folder):
        check_whole(folder)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole team, and no run."""
    return (folder / MANIFEST).is_file()


def check_whole(folder: Path) -> None:
    """Refuses a whole team that is not as it was saved.

    Raises:
        ConfigError: naming the first file that is missing, damaged, strange, or of a kind that is not read.
    """
    record = read_object(folder / MANIFEST)
    sums = record.get("files")
    if record.get("kind") != KIND or record.get("format") != FORMAT or not isinstance(sums, Mapping):
        raise ConfigError(
            f"team {folder}: expected a {MANIFEST} of a {KIND}, format {FORMAT}, got {record.get('kind')!r:.40}, "
            f"{record.get('format')!r:.20}; save it with this version of madrigal"
        )
    why = flaw(folder, sums)
    inside = {name for name in files_in(folder) if name.partition("/")[0] in PARTS}
    if stranger := min(inside - sums.keys(), default=""):
        why = why or f"{stranger} is not in its {MANIFEST}"
    if odd := [name for name in sums if Path(name).suffix not in READ]:
        why = why or f"{odd[0]} is of no kind that is read here; weights are .safetensors"
    if why:
        raise ConfigError(f"team {folder}: {why}; copy or download it again")


def versions_of(folder: Path) -> dict[str, Any]:
    """By what a whole team was made."""
    return dict(read_object(folder / MANIFEST).get("versions") or {})
