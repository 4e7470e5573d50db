"""What all modules of verbs share."""

import argparse
import logging
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO, TypeAlias

from ademvl.errors import DataError, SettingsError
from ademvl.storage.outputs import is_standard_output, place_of_file

UNREAD_CODE = 3
"""Exit code where too many answers of a file name no choice."""

_log = logging.getLogger(__name__)

Handler = Callable[[argparse.Namespace], int]
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs,
    name: str,
    handler: Handler,
    summary: str,
) -> argparse.ArgumentParser:
    """Add one verb, done by `handler`, which returns the exit code."""
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(handler=handler)
    return parser


def add_parent(verbs: Verbs, name: str, summary: str) -> argparse.ArgumentParser:
    """Add a verb that has actions of its own."""
    return verbs.add_parser(name, help=summary, description=summary)


def run_dir_of(path: Path) -> Path:
    """Return the run directory that a user named, or whose run.yaml.

    Raises:
        SettingsError: it is another file.
    """
    from ademvl.config.settings_files import RUN_FILE

    if path.name == RUN_FILE:
        return path.parent
    if path.is_file():
        raise SettingsError(f"{path}: expected a run directory, or the run.yaml in it")
    return path


MAX_COUNT = 1_000_000
MAX_THREADS = 4096
MAX_GPUS = 1024
MAX_SEED = 2**63 - 1
_SHOWN_CHARACTERS = 40


def whole(minimum: int, maximum: int = MAX_COUNT) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        try:
            found = int(text)
        except ValueError:  # also of thousands of digits
            found = None
        if found is None or not minimum <= found <= maximum:
            raise _refused(text, f"at least {minimum:,} and at most {maximum:,}, a whole number")
        return found

    return parse


def number(maximum: float, *, positive: bool = False) -> Callable[[str], float]:
    """Return the type of an argument that is a number from 0 to `maximum`, above 0 if positive."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not 0 <= found <= maximum or (positive and found == 0):
            lower = "more than 0" if positive else "at least 0"
            raise _refused(text, f"{lower} and at most {maximum:,}")
        return found

    return parse


def _refused(text: str, expected: str) -> argparse.ArgumentTypeError:
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return argparse.ArgumentTypeError(f"{shown}, expected {expected}")


def add_seed(verb: argparse.ArgumentParser, *, of: str) -> None:
    """Let a verb take a seed of what it draws."""
    verb.add_argument("--seed", type=whole(0, MAX_SEED), default=0, help=f"of {of} (%(default)s)")


def add_output(verb: argparse._ActionsContainer, what: str, *, required: bool = False) -> None:
    """Let a verb take `--output`, a file; what cannot be written is refused before any work."""
    verb.add_argument("--output", type=_output_file, required=required, help=what)


def _output_file(text: str) -> Path:
    path = Path(text)
    try:
        place_of_file(path)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def refuse_to_replace(output: Path | None, *read: Path | None) -> None:
    """Refuse to write over what is read.

    Raises:
        SettingsError: `output` is one of the files, by whatever path.
    """
    for path in read:
        if output and path and path.is_file() and output.exists() and output.samefile(path):
            raise SettingsError(f"--output: {output} is the file that is read; name another one")


def beside(output: Path | None) -> TextIO:
    """Return where to print for people: stdout, unless that is the file that is written."""
    return sys.stderr if output and is_standard_output(output) else sys.stdout


def add_threads(verb: argparse.ArgumentParser) -> None:
    """Let a verb take CPU threads, see `ademvl.machine.devices.set_threads`."""
    verb.add_argument("--threads", type=whole(1, MAX_THREADS), help="CPU threads (default: all)")


def add_gpu_options(verb: argparse.ArgumentParser) -> None:
    """Let a verb take GPUs, see `gpus_of`."""
    verb.add_argument(
        "--gpus",
        type=whole(0, MAX_GPUS),
        help="GPUs to take; 0: CPU (default: one if there is any)",
    )
    verb.add_argument(
        "--gpu-limit",
        default="all",
        help="which may be taken, as `gpus` of a study file: all, how many at once, or [0, 3]",
    )


def gpus_of(
    options: argparse.Namespace, *, job: Path | None = None
) -> AbstractContextManager[tuple[str, ...]]:
    """Return a context in which this process has the GPUs that its options ask for.

    Args:
        options: with `gpus` and `gpu_limit`.
        job: folder that says who has them; the directory of the options' run if not given.
    """
    from ademvl.config.gpu_limit import parse_gpu_limit
    from ademvl.machine.gpus import reserved_gpus

    limit = parse_gpu_limit(options.gpu_limit)
    return reserved_gpus(options.gpus, limit=limit, job=job or run_dir_of(options.run))


def add_allow_unread(verb: argparse.ArgumentParser) -> None:
    """Let a verb accept files of which many answers name no choice, see `unread_code`."""
    verb.add_argument(
        "--allow-unread",
        action="store_true",
        help=f"exit with 0, not {UNREAD_CODE}, where more than 5 %% of a file name no choice",
    )


def unread_code(options: argparse.Namespace, files: Sequence[tuple[Path, int, int]]) -> int:
    """Say of which files too many answers name no choice, and return the exit code for it.

    Args:
        options: with `allow_unread`.
        files: each with how many of its answers name no choice, and how many it has.
    """
    from ademvl.tasks.score_table import unread_warning

    found = [unread_warning(path, num_unread=unread, n=n) for path, unread, n in files]
    for warning in filter(None, found):
        _log.warning("%s", warning)
    return UNREAD_CODE if any(found) and not options.allow_unread else 0
