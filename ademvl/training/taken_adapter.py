"""Gives a run the adapter that another run of its study has trained, to evaluate it in another way.

Training is the costly part: a run with `adapter: <other run>` copies what that run has made.
"""

import logging
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ademvl.errors import SettingsError
from ademvl.runs.adapter_training import is_complete
from ademvl.storage.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from ademvl.runs.run_files import RunFiles

_log = logging.getLogger(__name__)


def take_adapter(owner: "RunFiles", files: "RunFiles", identity: Mapping[str, Any]) -> None:
    """Copy adapter, metrics and provenance of `owner`, adapter.json last.

    provenance.json gets the key `adapter_of`: what the training took was spent once.

    Raises:
        SettingsError: `owner` has not finished a training of this identity.
    """
    if not is_complete(owner, identity):
        raise SettingsError(
            f"{owner.run_dir}: has no finished adapter of the same settings, data and weights, "
            f"which {files.run_dir} evaluates; first run `ademvl train {owner.run_dir}`"
        )
    files.mark_incomplete()
    for source, target in (
        (owner.metrics, files.metrics),
        (owner.adapter_weights, files.adapter_weights),
    ):
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    provenance = read_json(owner.provenance, remedy="Train that run again.")
    write_json(files.provenance, {**provenance, "adapter_of": owner.run_dir.parent.name})
    write_json(files.adapter_json, read_json(owner.adapter_json, remedy="Train that run again."))
    _log.info("%s: took the adapter of %s", files.run_dir, owner.run_dir)
