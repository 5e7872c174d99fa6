"""Weights as files: how they are handed to an engine that cannot be given tensors.

The name under which an engine holds weights says the policy, the version and the process that handed them over, as in
concise@17-9f2c4e: no run can take older weights, or those of another run, for its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy

SESSION = secrets.token_hex(3)


def hosted_name(policy: LocalPolicy, session: str = SESSION) -> str:
    """What an engine calls the present weights of a policy."""
    return f"{policy.name}@{policy.version}-{session}"


def version_of(name: str, session: str = SESSION) -> int:
    """The version in a name; -1 where it is none of ours.

    >>> version_of("concise@17-9f2c4e", "9f2c4e"), version_of("default")
    (17, -1)
    """
    _, _, rest = name.rpartition("@")
    version, _, who = rest.partition("-")
    return int(version) if version.isdecimal() and who == session else -1


def weight_files(policy: LocalPolicy, folder: Path) -> Path:
    """Writes the present weights of a policy to a folder below this one; it is there as a whole, or not at all.

    The one before it is removed: an engine has read it by then.
    """
    place = folder / hosted_name(policy)
    draft = place.with_name(f".{place.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    policy.save_weights(draft)
    for file in draft.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    for other in folder.glob(f"{policy.name}@*-{SESSION}"):
        shutil.rmtree(other, ignore_errors=True)
    draft.rename(place)
    return place
