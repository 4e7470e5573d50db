"""Errors that a user can act on: printed as a message without traceback, exit code 2."""

from collections.abc import Callable, Sequence

MAX_LISTED = 20
_LONGEST_LINE, _KEPT_AT_END = 2_000, 500  # paths may have 4,096 bytes, but hardly do


class AdemvlError(Exception):
    """Base of all errors caused by data, settings or environment, not by a bug.

    Long lines lose their middle: a message may hold what was found, which may have any length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class SettingsError(AdemvlError):
    """A setting is unknown, malformed or contradicts another one."""


class DataError(AdemvlError):
    """A data file is missing, damaged or breaks its format."""


class WeightsError(AdemvlError):
    """A weight or adapter file is missing, damaged or does not fit the model."""


class DiskFullError(AdemvlError):
    """There is no room for a file; what stood under its name still does."""


class CacheError(AdemvlError):
    """The feature cache cannot be read or written."""


class TrainingError(AdemvlError):
    """Training cannot go on, for example because the loss is not finite."""


class ProcessLostError(TrainingError):
    """Another process of a training is gone; what went wrong there is its own message."""


class ToolError(AdemvlError):
    """A program or package that is needed is missing or failed."""


def shortened(message: str) -> str:
    """Leave out the middle of long lines."""
    return "\n".join(map(_shortened_line, message.split("\n")))


def _shortened_line(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    head = _LONGEST_LINE - _KEPT_AT_END
    left_out = len(line) - _LONGEST_LINE
    return f"{line[:head]} [... {left_out:,} characters ...] {line[-_KEPT_AT_END:]}"


def list_findings(headline: str, findings: Sequence[str], remedy: str) -> str:
    """Format many findings of one kind: headline, the first 20, a count of the rest, what to do."""
    lines = [f"{headline} ({len(findings)} found):"]
    lines += [f"  - {finding}" for finding in findings[:MAX_LISTED]]
    if len(findings) > MAX_LISTED:
        lines.append(f"  ... and {len(findings) - MAX_LISTED} more")
    lines.append(remedy)
    return "\n".join(lines)


def collect(*checks: Callable[[], object]) -> list[str]:
    """Return what several checks refuse."""
    found = []
    for check in checks:
        try:
            check()
        except AdemvlError as error:
            found.append(str(error))
    return found
