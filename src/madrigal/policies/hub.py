"""The Hugging Face hub: a team's folder is downloaded from it or uploaded to it.

The token is what huggingface_hub finds: HF_TOKEN or that of `hf auth login`. It is handed to that library alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from madrigal.types import ConfigError, EngineError

NAME = re.compile(r"(?!.*(?:--|\.\.))([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md", "*.py", "*.gguf")  # nothing that unpickles
RUNS = "runs"  # the folder that runs are written to, unless another is named
SECONDS = 5.0  # to answer at all


def is_hub_name(place: str) -> bool:
    """Whether a text may name a repository, with a revision or without, and no file or folder here.

    >>> is_hub_name("owner/team"), is_hub_name("owner/team@v2"), is_hub_name("runs/tldr"), is_hub_name("owner/task.py")
    (True, True, False, False)
    """
    path = Path(place.partition("@")[0])
    own = path.exists() or path.parent.is_dir() or path.parent.name == RUNS or path.suffix in (".py", ".json", ".gguf")
    return NAME.fullmatch(place) is not None and not own


def downloaded(name: str, marker: str) -> Path:
    """The folder of a repository on this machine, downloaded or from an earlier time where the hub is not reached.

    Args:
        name: owner/name, or owner/name@revision.
        marker: a file that every repository of the wanted kind has; without it nothing else is downloaded.

    Raises:
        EngineError: if there is no such repository, it is not reached, or it lacks that file.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    repository, _, revision = name.partition("@")
    # Where the hub is not reached, huggingface_hub would try for minutes.
    where: dict[str, Any] = {
        "revision": revision or None,
        "endpoint": _endpoint(),
        "local_files_only": not hub_answers(),
    }
    try:
        with _one_line(f"{name} could not be had from the hub", "check the name and, for a private one, HF_TOKEN"):
            hf_hub_download(repository, marker, **where)
            return Path(snapshot_download(repository, allow_patterns=list(FILES), **where))
    except EngineError as error:
        if where["local_files_only"]:
            raise EngineError(
                f"{name}: there is no such folder, it was never downloaded from the hub, and the hub is not reached "
                "from here; download it elsewhere, and name its folder"
            ) from error
        raise


def upload(folder: Path, name: str, *, public: bool = False) -> str:
    """Uploads a folder to a repository, which is made where there is none, and returns its address.

    Args:
        public: whether a new repository is for everybody to see.

    Raises:
        ConfigError: if it is no name of a repository, or there is no token.
        EngineError: if the hub refuses it or is not reached.
    """
    from huggingface_hub import HfApi

    check_may_push(name)
    api = HfApi(endpoint=_endpoint())
    with _one_line(f"{folder} could not be pushed to {name}", "check that the token may write there"):
        address = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Team of Madrigal")
        return str(address)


def check_may_push(name: str) -> None:
    """Refuses what the hub would refuse, before anything is made for it.

    Raises:
        ConfigError: if it is no name of a repository, or there is no token.
        EngineError: if the hub is not reached.
    """
    from huggingface_hub import get_token

    if NAME.fullmatch(name) is None or "@" in name:
        raise ConfigError(f"--push: expected a name like owner/name, got {name!r}")
    if get_token() is None:
        raise ConfigError("--push: the hub wants to know who you are; set HF_TOKEN or run: hf auth login")
    if not hub_answers():
        raise EngineError("--push: the hub is not reached from here; save the team with --whole, and push it elsewhere")


def hub_answers() -> bool:
    """Whether the Hugging Face hub is reached from here."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(_endpoint() or constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except HTTPError:  # an answer
        return True
    except OSError:
        return False
    return True


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _one_line(what: str, advice: str) -> Iterator[None]:
    """Whatever huggingface_hub raises as one line; it names addresses, and no token."""
    from huggingface_hub import get_token

    try:
        yield
    except Exception as error:  # of the hub, of files, of several libraries of the network
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        token = get_token()
        raise EngineError(f"{what}: {first.replace(token, '***') if token else first}; {advice}") from error
