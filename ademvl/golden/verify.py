"""Runs every golden case found in a folder and prints a verdict for each.

A folder holds the reference's own cases, or those of another method (`ademvl/golden/peers`), in
which the same letters stand for other cases, or such folders. Some cases of each kind ship with the
package (RECORDED_CASES.md beside this).
"""

import lzma
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ademvl.errors import DataError
from ademvl.golden.checks import Check

KNOWN_LETTERS = "ABCDEFGHIJ"
REFERENCE_CASES = frozenset(
    {
        *("A_vision", "B_sampler", "C_fusion", "D_forward", "E_trajectory", "E_lr_table"),
        *("F_generate", "G_prompts", "G_tokens", "G_captions", "H_images", "I_checkpoint"),
        "J_scoring",
    }
)

RECORDED_CASES = Path(__file__).with_name("recorded_cases.tar.xz")
"""Folders `golden` and `golden_peers`, written by `benchmarks/recorded_cases.py`."""

Runs = Sequence[Callable[[], Sequence[Check]]]


class Case(NamedTuple):
    """A case of a folder, or a letter of the reference's.

    Attributes:
        name: of it.
        runs: what checks it; None where this version does not know it.
        not_covered: in words, what of it is not compared.
    """

    name: str
    runs: Runs | None
    not_covered: Sequence[str] = ()


@contextmanager
def unpacked_cases(archive: Path = RECORDED_CASES) -> Iterator[tuple[Path, Path]]:
    """Unpack the cases that ship with the package, for as long as the block is open.

    Yields:
        Folder of the reference's own cases, and the one that holds other methods' folders.

    Raises:
        DataError: the archive is missing or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="ademvl-golden-") as name:
        folder = Path(name)
        try:
            with tarfile.open(archive) as members:
                # Without it before Python 3.11.4; the archive is this package's own.
                members.extraction_filter = getattr(tarfile, "data_filter", None)
                members.extractall(folder)
        except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
            raise DataError(
                f"{archive}: cannot be unpacked ({error}); install ademvl again, or name a folder "
                "with golden tensors"
            ) from error
        yield folder / "golden", folder / "golden_peers"


def verify_recorded() -> int:
    """Recompute the cases that ship with the package, as `verify_golden` does those of a folder."""
    with unpacked_cases() as folders:
        return max([verify_golden(folder) for folder in folders])


def verify_golden(folder: Path, *, models: Path | None = None) -> int:
    """Recompute the golden cases of a folder; print per case the largest error and the verdict.

    Args:
        folder: of the reference's own cases, or of another method's, or one that holds such
            folders: then all of them are checked, and those of unknown methods named.
        models: of the reference's own, where another method's cases find the frozen models; by
            default `golden` beside the folder that holds the methods' folders.

    Returns:
        0 when every case that is known passes, else 1.

    Raises:
        DataError: no such folder, or no known case in it, or a file of it is damaged, or the frozen
            models are not found.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder with the golden tensors")
    if _case_names(folder):
        return int(_verify_folder(folder, models, prefix=""))
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir() and _case_names(each)]
    if not inside:
        raise DataError(
            f"{folder}: no golden cases here (files such as A_vision.json); name their folder"
        )
    if not any(_is_known(each) for each in inside):
        raise DataError(f"{folder}: {_unknown(', '.join(each.name for each in inside))}")
    failed = False
    for each in inside:
        if _is_known(each):
            failed |= _verify_folder(each, models, prefix=f"{each.name}/")
        else:
            cases = ", ".join(_case_names(each))
            print(f"{each.name}/: not known to this version, not checked: {cases}")
    return int(failed)


def _verify_folder(folder: Path, models: Path | None, *, prefix: str) -> bool:
    """Check the cases of one folder; return whether one failed."""
    failed = False
    for case in _cases(folder, models):
        if case.runs is None and not case.not_covered:
            print(f"{prefix}{case.name}: not known to this version, not checked")
        for name, checks in _by_case(check for run in case.runs or () for check in run()):
            worst = max(checks, key=lambda check: (not check.passed, _relative_error(check)))
            verdict = "passed" if worst.passed else "FAILED"
            failed |= not worst.passed
            print(
                f"{prefix + name:15} {len(checks):4} compared  largest error {worst.error:.2g} "
                f"({worst.what}), tolerance {worst.tolerance:.2g}: {verdict}",
                flush=True,
            )
        for part in case.not_covered:
            print(f"{prefix}{case.name}: not covered: {part}")
    return failed


def _case_names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[A-Z]_*.json"))


def _is_known(folder: Path) -> bool:
    """Whether a folder's cases are the reference's own, or those of a method that is checked."""
    from ademvl.golden.peers.table import find_peer

    return find_peer(folder) is not None or bool(REFERENCE_CASES.intersection(_case_names(folder)))


def _unknown(what: str) -> str:
    from ademvl.golden.peers.table import PEERS

    known = ", ".join(peer.name for peer in PEERS)
    return (
        f"{what}: cases of no method that this version checks; known are those of the reference "
        f"and of {known}. Use a newer version, or name another folder."
    )


def _cases(folder: Path, models: Path | None) -> Iterator[Case]:
    """Yield the cases of a folder in order."""
    from ademvl.golden.peers.table import find_peer, open_peer_set

    names = _case_names(folder)
    peer = find_peer(folder)
    if peer is not None:
        peers, cases = open_peer_set(folder, models), peer.cases()
        for name in names:
            runs: Runs | None = [partial(cases[name], peers)] if name in cases else None
            yield Case(name, runs, peer.not_covered(name))
    elif not _is_known(folder):
        raise DataError(f"{folder}: {_unknown(', '.join(names))}")
    elif models is not None:
        raise DataError(f"{folder}: the reference's own cases have their models; omit --models")
    else:
        for letter in sorted({name[0] for name in names}):
            known = letter in KNOWN_LETTERS
            runs = [partial(run, folder) for run in _checks_of(letter)] if known else None
            yield Case(letter, runs)


def _checks_of(letter: str) -> Sequence[Callable[[Path], list[Check]]]:
    from ademvl.golden import checkpoints, generation, scoring, tensors, text, training_cases

    return {
        "A": (tensors.check_vision,),
        "B": (tensors.check_pooling,),
        "C": (tensors.check_fusion,),
        "D": (training_cases.check_weights, training_cases.check_forward),
        "E": (training_cases.check_trajectory, training_cases.check_lr_table),
        "F": (generation.check_generation,),
        "G": (text.check_prompts, text.check_tokens, text.check_captions),
        "H": (text.check_images,),
        "I": (checkpoints.check_checkpoints,),
        "J": (scoring.check_scoring,),
    }[letter]


def _by_case(checks: Iterable[Check]) -> list[tuple[str, list[Check]]]:
    cases: dict[str, list[Check]] = {}
    for check in checks:
        cases.setdefault(check.case, []).append(check)
    return list(cases.items())


def _relative_error(check: Check) -> float:
    return check.error / check.tolerance if check.tolerance else check.error
