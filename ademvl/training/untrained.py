"""What stands in the directory of a run that trains nothing, beside its adapter."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ademvl.machine.usage import Usage
from ademvl.runs.identity import identity_sha256
from ademvl.runs.provenance import write_provenance
from ademvl.runs.run_files import RunFiles


def write_untrained(
    files: RunFiles, identity: Mapping[str, Any], *, started: datetime, details: Mapping[str, Any]
) -> None:
    """Write metrics of no step, and provenance of no usage.

    Args:
        files: of the run, marked incomplete before.
        started: when the job began, in UTC.
        details: what its provenance says of where the adapter comes from.
    """
    from ademvl.training.metrics import MetricsLog
    from ademvl.training.session import checksums_of

    MetricsLog(files.metrics, interval_steps=1).close()
    write_provenance(
        files.provenance,
        usage=Usage(),
        started=started,
        checksums=checksums_of(identity),
        details={"identity_sha256": identity_sha256(identity), **details},
    )
