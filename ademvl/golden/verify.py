"""Runs every golden case found in a folder and prints a verdict for each."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ademvl.errors import DataError
from ademvl.golden.checks import Check

KNOWN_LETTERS = "ABCDEFGHIJ"


def verify_golden(folder: Path) -> int:
    """Recompute the golden cases of a folder; print per case the largest error and the verdict.

    Returns:
        0 when every case that is known passes, else 1.

    Raises:
        DataError: no such folder, or no case in it, or a file of it is damaged.
    """
    letters = _letters(folder)
    if not letters:
        raise DataError(
            f"{folder}: no golden cases here (files such as A_vision.json); name their folder"
        )
    failed = False
    for letter in letters:
        if letter not in KNOWN_LETTERS:
            print(f"{letter}: not known to this version, not checked")
            continue
        for case, checks in _by_case(check for run in _checks_of(letter) for check in run(folder)):
            worst = max(checks, key=lambda check: (not check.passed, _relative_error(check)))
            verdict = "passed" if worst.passed else "FAILED"
            failed |= not worst.passed
            print(
                f"{case:14} {len(checks):4} compared  largest error {worst.error:.2g} "
                f"({worst.what}), tolerance {worst.tolerance:.2g}: {verdict}",
                flush=True,
            )
    return int(failed)


def _letters(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder with the golden tensors")
    found = {path.name[0] for path in folder.glob("[A-Z]_*.json")}
    return sorted(found)


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
