"""What a folder is to hold: the sha256 of every file, so that what is missing, cut off or changed is found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from madrigal.policies.catalog import sha256_of

MANIFEST = "manifest.json"


def files_in(folder: Path) -> set[str]:
    """The names of all files in a folder and in those below it, seen from the folder."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}


def checksums(folder: Path, besides: Collection[str] = ()) -> dict[str, str]:
    """The sha256 of every file in a folder by name, in order.

    Args:
        besides: names of files that may change.
    """
    return {name: sha256_of(folder / name) for name in sorted(files_in(folder) - {MANIFEST, *besides})}


def flaw(folder: Path, sums: Mapping[str, object]) -> str:
    """What is wrong with the first file of a folder that is not what the sums say; "" where all are whole."""
    files = files_in(folder)
    for name, expected in sums.items():
        try:
            same = name in files and sha256_of(folder / name) == expected
        except OSError:  # a folder, or nothing that may be read
            same = False
        if not same:
            return f"{name} is missing, truncated or changed (its sha256 is not the manifest's)"
    return ""
