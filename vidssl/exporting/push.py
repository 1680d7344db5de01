"""A checked folder to a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidssl.errors import VidsslError
from vidssl.models.sources import hub_reachable

PREFIX = "hub:"


def repo_of(target: str) -> str:
    """``ORG/NAME`` of ``hub:ORG/NAME``.

    Raises:
        VidsslError: for anything else.
    """
    found = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)", target, re.ASCII)
    if found is None:
        raise VidsslError(f"--push {target}: must be {PREFIX}ORG/NAME")
    return found[1]


def require_login(repo: str) -> None:
    """Find out whether someone is logged in, before anything is written.

    Raises:
        VidsslError: when the hub is out of reach, or there is no token or one that it does not take.
    """
    from huggingface_hub import HfApi

    if not hub_reachable():
        raise VidsslError(f"--push {PREFIX}{repo}: the Hugging Face hub cannot be reached")
    with _in_one_line(f"--push {PREFIX}{repo}: not logged in (hf auth login, or the variable HF_TOKEN)"):
        HfApi().whoami()


def push(folder: Path, repo: str, private: bool) -> str:
    """Upload a folder as one commit; the repository is made if there is none.

    Returns:
        The address of the commit.

    Raises:
        VidsslError: when the hub refuses.
    """
    from huggingface_hub import HfApi

    with _in_one_line(f"{folder} is written and checked, but could not be pushed to {repo}"):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        message = "Upload an encoder with vidssl"
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the hub's client and of what it sends requests with
        said = " ".join(str(error).split())
        raise VidsslError(f"{what}: {said[:200] or type(error).__name__}") from error
