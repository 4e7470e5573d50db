"""Plain tables and file descriptions of scores, as the scoring verbs print and write them."""

from collections.abc import Mapping
from pathlib import Path

from ademvl.storage.files import sha256_file

MAX_UNREAD = 0.05
"""Share of answers without choice beyond which a score tells of their reading, not of the model."""


def unread_warning(path: Path, *, num_unread: int, n: int) -> str | None:
    """Return what to say where more than `MAX_UNREAD` of `n` answers name no choice, else None."""
    if num_unread <= MAX_UNREAD * n:
        return None
    return (
        f"{path}: {num_unread} of {n} answers ({100 * num_unread / n:.1f} %) name no choice, more "
        f"than {100 * MAX_UNREAD:.0f} %: it may tell how they are worded, not what is known. "
        "Look at them (docs/scoring.md says how answers are read), or accept them with "
        "--allow-unread."
    )


def interval_cell(score: Mapping[str, object], *, decimals: int) -> str:
    """Render the interval of `Estimate.as_percent`, such as "69.78-78.73"."""
    low, high = (float(str(score[end])) for end in ("ci_low", "ci_high"))
    return f"{low:.{decimals}f}-{high:.{decimals}f}"


def describe_file(path: Path) -> dict[str, str]:
    """Return a file's path and SHA-256, so that a score file says what it was made from.

    A pipe can be read but once, and was for its scores: it has no checksum.
    """
    found = {"path": str(path)}
    return found | {"sha256": sha256_file(path)} if path.is_file() else found
