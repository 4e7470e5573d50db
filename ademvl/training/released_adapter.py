"""Gives a run an adapter that its authors released, to be evaluated; nothing is trained."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.runs.adapter_training import AdapterTraining, is_complete
from ademvl.training.untrained import write_untrained

if TYPE_CHECKING:
    from ademvl.runs.run_files import RunFiles

_log = logging.getLogger(__name__)


def import_released(run: RunSettings, files: "RunFiles", identity: Mapping[str, Any]) -> None:
    """Import the checkpoint that a run names, adapter.json last; metrics.csv gets no rows.

    provenance.json gets the key `released`: where the adapter comes from. What its training took is
    not known.

    Raises:
        WeightsError, SettingsError: the checkpoint cannot be read, or does not fit the run.
    """
    from ademvl.model.adapter_file import write_adapter
    from ademvl.released.adapter import read_for_run
    from ademvl.training.session import count_by_part

    if is_complete(files, identity):
        _log.info("%s: imported already", files.run_dir)
        return
    files.mark_incomplete()
    started = datetime.now(UTC)
    state, origin = read_for_run(Path(run.released_from), run)
    counts = {name: tensor.numel() for name, tensor in state.items()}
    write_untrained(
        files,
        identity,
        started=started,
        details={
            "released": origin,
            "trainable_parameters": sum(counts.values()),
            "trainable_parameters_by_part": count_by_part(counts),
        },
    )
    training = AdapterTraining.of(run, identity)
    write_adapter(files.adapter, state, run, fingerprints={}, origin=origin, training=training)
    _log.info("%s: imported %s", files.run_dir, origin["file"])
