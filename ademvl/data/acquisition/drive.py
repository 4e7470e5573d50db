"""Files of Google Drive, through gdown, which knows its confirmation pages and folders."""

from functools import cache
from pathlib import Path

from ademvl.data.acquisition.registry import DRIVE_FILE, DRIVE_FOLDER
from ademvl.data.acquisition.transfer import Stopped, TransferError, Transfers

_FILE_URL = "https://drive.google.com/uc?id="


def is_drive_url(url: str) -> bool:
    """Say whether a URL of the registry means a file on Drive."""
    return url.startswith((DRIVE_FILE, DRIVE_FOLDER))


def fetch_from_drive(url: str, path: Path, transfers: Transfers) -> None:
    """Fetch a file into `path`; what arrived before an interruption is taken up again.

    Args:
        url: gdrive:<file id> or gdrive-folder:<folder id>/<path in the folder>.
        path: where the file goes; in a folder of its own, as gdown keeps its part beside it.
        transfers: retries, time limit, and when to stop.

    Raises:
        TransferError: Drive does not give the file (quota, permission, no such file); says why.
        Stopped: `transfers.stop` was set.
    """
    import gdown
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download(
            url=_FILE_URL + _file_id(url, transfers),
            output=str(path),
            quiet=True,
            resume=True,
            use_cookies=False,
            timeout=transfers.stall_seconds,
            retries=transfers.retries,
            cancel=transfers.stop,
        )
    except gdown.DownloadCancelled as error:
        raise Stopped from error
    except (gdown.DownloadError, requests.RequestException) as error:
        raise TransferError(f"Google Drive does not give it: {_one_line(error)}") from error


def _file_id(url: str, transfers: Transfers) -> str:
    if url.startswith(DRIVE_FILE):
        return url.removeprefix(DRIVE_FILE)
    folder_id, _, wanted = url.removeprefix(DRIVE_FOLDER).partition("/")
    ids = _folder_list(folder_id, transfers.stall_seconds)
    if wanted not in ids:
        raise TransferError(f"the Drive folder {folder_id} has no {wanted}")
    return ids[wanted]


@cache
def _folder_list(folder_id: str, timeout_seconds: float) -> dict[str, str]:
    """Return the ids of a folder's files by their path in it."""
    import gdown
    import requests

    try:
        files = gdown.download_folder(
            id=folder_id,
            quiet=True,
            skip_download=True,
            use_cookies=False,
            timeout=timeout_seconds,
        )
    except (gdown.DownloadError, requests.RequestException) as error:
        raise TransferError(
            f"Google Drive does not list folder {folder_id}: {_one_line(error)}"
        ) from error
    return {file.path: file.id for file in files if not isinstance(file, str)}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
