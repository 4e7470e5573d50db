"""Notes a run of a whole system, or of answers from a file: nothing is trained or copied.

Its adapter folder holds one tensor, the checksum of what answers, so that evaluations of another
checkpoint or file are told apart, as those of another adapter are.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.runs.adapter_training import AdapterTraining, is_complete
from ademvl.runs.identity import identity_sha256
from ademvl.training.untrained import write_untrained

if TYPE_CHECKING:
    from ademvl.runs.run_files import RunFiles

_log = logging.getLogger(__name__)


def note_given(run: RunSettings, files: "RunFiles", identity: Mapping[str, Any]) -> None:
    """Write what training leaves, adapter.json last; metrics.csv gets no rows.

    provenance.json gets the key `given`: what answers, and for a file where it comes from. What its
    training took is not known.
    """
    import torch

    from ademvl.model.adapter_file import write_adapter
    from ademvl.systems.elsewhere.settings import ElsewhereSettings

    if is_complete(files, identity):
        _log.info("%s: noted already", files.run_dir)
        return
    files.mark_incomplete()
    started = datetime.now(UTC)
    origin = {"system": run.method.name, "from": run.released_from or run.backbones.llm}
    if isinstance(run.method, ElsewhereSettings):
        origin["source"] = run.method.source
    fingerprint = identity_sha256({"weights": identity["weights"]})
    write_untrained(files, identity, started=started, details={"given": origin})
    write_adapter(
        files.adapter,
        {"sha256": torch.tensor(list(bytes.fromhex(fingerprint)), dtype=torch.uint8)},
        run,
        fingerprints={},
        origin=origin,
        training=AdapterTraining.of(run, identity),
    )
    _log.info("%s: noted %s", files.run_dir, origin["from"])
