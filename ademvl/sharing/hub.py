"""The way of an exported adapter to the Hugging Face hub and back, through huggingface_hub."""

import sys
from pathlib import Path

from ademvl.data.acquisition.hub import fetch_repository
from ademvl.data.acquisition.registry import HubRepository
from ademvl.errors import DataError
from ademvl.runs.adapter_folder import adapter_checksum
from ademvl.sharing.folder import PATTERNS, check_folder

_CONNECTIONS = 4
_COMMIT_MESSAGE = "Add an adapter exported by ademvl"
_REMEDY = (
    "Check the name, set HF_TOKEN (or log in with `hf auth login`) where access is restricted, or "
    "try again later."
)


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder as one commit; the repository is made where there is none.

    HF_ENDPOINT and HF_TOKEN are honoured. Only files of such a folder are sent.

    Args:
        folder: that `export_folder` wrote.
        repository: OWNER/NAME.
        private: whether a new repository is.

    Returns:
        The commit's address.

    Raises:
        WeightsError, SettingsError: the folder is not whole.
        DataError: the hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import disable_progress_bars

    check_folder(folder)
    if not sys.stderr.isatty():
        disable_progress_bars()
    files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    added = [CommitOperationAdd(str(path.relative_to(folder)), path) for path in files]
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(repository, added, commit_message=_COMMIT_MESSAGE)
    except (HTTPError, ValueError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"{repository}: the Hugging Face hub does not take it: {text}. {_REMEDY}"
        ) from error
    return str(done.commit_url)


def pull(repository: str, folder: Path, *, revision: str = "main") -> None:
    """Fetch an exported adapter; what arrived earlier is kept, and every checksum compared.

    Args:
        repository: OWNER/NAME.
        revision: branch, tag or commit.

    Raises:
        DataError: the hub does not give it, or files are not what the hub says of them.
        WeightsError, SettingsError: it holds no adapter that `export_folder` wrote.
    """
    hub = HubRepository(repository=repository, revision=revision, patterns=PATTERNS)
    fetch_repository(folder, hub, connections=_CONNECTIONS, remedy=_REMEDY)
    adapter_checksum(check_folder(folder).folder)
