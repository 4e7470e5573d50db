"""Runs every golden case found in a folder and prints a verdict for each.

A folder holds the reference's own cases, or those of another method (`ademvl/golden/peers`), in
which the same letters stand for other cases.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

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

Runs = Sequence[Callable[[], Sequence[Check]]]


def verify_golden(folder: Path, *, models: Path | None = None) -> int:
    """Recompute the golden cases of a folder; print per case the largest error and the verdict.

    Args:
        folder: of the reference's own cases, or of another method's.
        models: of the reference's own, where another method's cases find the frozen models; by
            default `golden` beside the folder that holds the methods' folders.

    Returns:
        0 when every case that is known passes, else 1.

    Raises:
        DataError: no such folder, or no known case in it, or a file of it is damaged, or the frozen
            models are not found.
    """
    names = _case_names(folder)
    failed = False
    for name, runs in _runs(folder, names, models):
        if runs is None:
            print(f"{name}: not known to this version, not checked")
            continue
        for case, checks in _by_case(check for run in runs for check in run()):
            worst = max(checks, key=lambda check: (not check.passed, _relative_error(check)))
            verdict = "passed" if worst.passed else "FAILED"
            failed |= not worst.passed
            print(
                f"{case:15} {len(checks):4} compared  largest error {worst.error:.2g} "
                f"({worst.what}), tolerance {worst.tolerance:.2g}: {verdict}",
                flush=True,
            )
    return int(failed)


def _case_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder with the golden tensors")
    names = sorted(path.stem for path in folder.glob("[A-Z]_*.json"))
    if not names:
        raise DataError(
            f"{folder}: no golden cases here (files such as A_vision.json); name their folder"
        )
    return names


def _runs(
    folder: Path, names: Sequence[str], models: Path | None
) -> Iterator[tuple[str, Runs | None]]:
    """Yield each case, or the reference's letter, with what checks it; None for an unknown one."""
    from ademvl.golden.peers.table import PEERS, find_peer, open_peer_set

    peer = find_peer(folder)
    if peer is not None:
        peers, cases = open_peer_set(folder, models), peer.cases()
        for name in names:
            yield name, [partial(cases[name], peers)] if name in cases else None
    elif not REFERENCE_CASES.intersection(names):
        known = ", ".join(peer.name for peer in PEERS)
        raise DataError(
            f"{folder}: {', '.join(names)}: cases of no method that this version checks; known are "
            f"those of the reference and of {known}. Use a newer version, or name another folder."
        )
    elif models is not None:
        raise DataError(f"{folder}: the reference's own cases have their models; omit --models")
    else:
        for letter in sorted({name[0] for name in names}):
            if letter in KNOWN_LETTERS:
                yield letter, [partial(run, folder) for run in _checks_of(letter)]
            else:
                yield letter, None


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
