"""The file of a trained adapter: what a user keeps, loadable without the workflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.config.schema import to_plain
from ademvl.errors import DataError, WeightsError
from ademvl.files import atomic_path, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from ademvl.model import VisionLanguageModel

WEIGHTS_FILE = "adapter.safetensors"
DESCRIPTION_FILE = "adapter.json"
_REMEDY = "Train the run again, or copy the adapter folder anew."


def save_adapter(folder: Path, model: "VisionLanguageModel", run: RunSettings) -> None:
    """Write the trained parameters, then `adapter.json`, which says that they are complete.

    `adapter.json` holds the SHA-256 of the weights, the number of parameters by tensor, and the
    settings that the adapter needs: task, method, backbones, features and prompts.
    """
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in model.adapter_state_dict().items()}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    settings = to_plain(run)
    description = {
        "sha256": sha256_file(folder / WEIGHTS_FILE),
        "parameters": {name: tensor.numel() for name, tensor in state.items()},
        "settings": {
            key: settings[key] for key in ("task", "method", "backbones", "features", "prompts")
        },
    }
    write_json(folder / DESCRIPTION_FILE, description)


def adapter_checksum(folder: Path) -> str:
    """Return the SHA-256 of an adapter's weights after comparing it with `adapter.json`.

    Raises:
        WeightsError: no adapter is there, or its weights are not those that were written.
    """
    try:
        recorded = read_json(folder / DESCRIPTION_FILE, remedy=_REMEDY)["sha256"]
        found = sha256_file(folder / WEIGHTS_FILE)
    except (DataError, OSError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder}: no complete adapter ({error}). {_REMEDY}") from error
    if found != recorded:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: damaged, its SHA-256 is {found}, but {DESCRIPTION_FILE} "
            f"says {recorded}. {_REMEDY}"
        )
    return found


def load_adapter(folder: Path, model: "VisionLanguageModel") -> None:
    """Set a model's trained parameters from an adapter folder.

    Raises:
        WeightsError: missing or damaged, or trained with other settings than the model's.
    """
    from safetensors.torch import load_file

    adapter_checksum(folder)
    path = folder / WEIGHTS_FILE
    model.load_adapter_state_dict(load_file(path), source=str(path))
