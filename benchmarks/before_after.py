"""How much faster the present code is than an earlier commit's, case by case, within one run.

    python benchmarks/before_after.py                       # all cases
    python benchmarks/before_after.py tower_forward --before HEAD~1 --threads 1

The earlier commit is checked out into a git worktree in a temporary folder. Of each case two
processes are made ready, one with either package, and take turns: what other work does to the
machine meets both. Times are processor seconds, medians over the turns; a ratio above 1 says how
many times faster the present code is. Where a case does two things at once it is the time that
passes, on cores that should have little else to do. Both sides run
benchmarks/before_after_cases.py of the present tree and must give the same figures to six digits,
or the benchmark ends with exit code 1. Extra memory is what a case takes at most beyond what its
process holds when it is ready: models and rows (Linux).
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from before_after_cases import CASES

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "30cc88b"
"""The last commit before the first of these changes."""
SAME_DIGITS = 1e-6


def main() -> None:
    """Measure the cases that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "cases", nargs="*", choices=[*CASES, []], metavar="CASE", help="all if none"
    )
    parser.add_argument("--before", default=BEFORE, help="commit to compare with")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    print(f"command: {shlex.join(['python', *sys.argv])}")
    print(f"before: {git('log', '-1', '--format=%h %s', options.before)}; after: {present()}")
    print(f"{'case':30} {'before s':>9} {'after s':>9} {'ratio':>6} {'extra MiB':>16}  figures")
    are_same = True
    with worktree(options.before) as before:
        for case in options.cases or CASES:
            are_same &= _compare(case, before, options.threads, options.turns)
    sys.exit(not are_same)


def _compare(case: str, before: Path, threads: int, turns: int) -> bool:
    """Print the line of a case, and tell whether both sides gave the same figures."""
    with ExitStack() as stack:
        sides = [stack.enter_context(_worker(case, code, threads)) for code in (before, ROOT)]
        answers = [[_turn(side) for side in sides] for _ in range(turns)]
    old, new = zip(*answers, strict=True)
    seconds = [statistics.median(answer["seconds"] for answer in side) for side in (old, new)]
    extra = [side[-1]["extra_mib"] for side in (old, new)]
    figures = [side[0]["figures"] for side in (old, new)]
    same = len(figures[0]) == len(figures[1]) and all(
        math.isclose(one, other, rel_tol=SAME_DIGITS, abs_tol=SAME_DIGITS)
        for one, other in zip(*figures, strict=True)
    )
    print(
        f"{case:30} {seconds[0]:9.3f} {seconds[1]:9.3f} {seconds[0] / seconds[1]:6.2f} "
        f"{extra[0]:7.0f} {extra[1]:7.0f}   {'same' if same else f'DIFFER: {figures}'}",
        flush=True,
    )
    return same


@contextmanager
def _worker(case: str, code: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that has the case ready, with the package of `code`."""
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(ROOT / "benchmarks" / "before_after_cases.py")]
    with subprocess.Popen(
        [*command, case, str(threads), str(code)],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            sys.exit(f"{case}: could not be made ready with {code}")
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _turn(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out a commit into a temporary folder for the duration of a block."""
    with tempfile.TemporaryDirectory(prefix="ademvl-before-") as folder:
        code = Path(folder) / "code"
        git("worktree", "add", "--quiet", "--detach", str(code), commit)
        try:
            yield code
        finally:
            git("worktree", "remove", "--force", str(code))


def present() -> str:
    """Name the present commit, and say whether the package differs from it."""
    changed = " with changes" if git("status", "--porcelain", "--", "ademvl") else ""
    return git("log", "-1", "--format=%h %s") + changed


def git(*arguments: str) -> str:
    """Return what git prints."""
    command: Sequence[str] = ("git", "-C", str(ROOT), *arguments)
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


if __name__ == "__main__":
    main()
