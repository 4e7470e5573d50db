"""Whether the present code computes what an earlier commit computed, byte for byte.

    python benchmarks/same_bytes.py     # smoke and mini, on both sides
    python benchmarks/same_bytes.py --study workflow/studies/smoke.yaml
    python benchmarks/same_bytes.py --old HEAD~1 --new HEAD --folder FOLDER

Both commits are checked out into git worktrees of their own, so what is not committed has no part
in it, and run each study there through Snakemake, each in results folders of its own. In every
Python process that is started, the package `ademvl` may come from that worktree alone, whatever is
installed: any other ends the process, and none at all ends the benchmark.

Two questions are answered, and the exit code is 1 unless the answer to both is yes:

1. Are the results the same? SHA-256 of adapters, metrics, provenance, predictions, scores and
   cached features. Files count whole, but for what is measured: how fast predictions came
   (*.speed.json), of metrics.csv the columns items_per_second, tokens_per_second and memory_mib,
   of provenance.json the keys code, started, ended and usage; and of adapter.json the key training,
   which earlier commits did not write. Of
   the feature cache, each image's features count, not how they are divided among files, nor the
   order of a file's metadata, in which safetensors is free.
2. Do results of the old commit stay valid? A copy of what the old commit made of the first study is
   handed to the new one: nothing but settings, tables, figures and the page is planned, trainings
   and evaluations are found complete, no image is encoded anew, and adapters that are asked again
   give the same files.

With --folder everything is kept, and what is there already is not run again.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
OLD_COMMIT = "50c1bd0a9bdee63c599a7864e097eee5bec5a1ee"
"""The last one before the package's modules were put into other folders."""
STUDIES = ("workflow/studies/smoke.yaml", "config.yaml")

RESULTS = (
    "features/*.json",
    "runs/*/seed*/adapter/*",
    "runs/*/seed*/metrics.csv",
    "runs/*/seed*/provenance.json",
    "runs/*/seed*/predictions/*.jsonl",
    "runs/*/seed*/predictions/*.header.json",
    "runs/*/seed*/scores/*",
)
SHARDS = "features/*/shards/*.safetensors"
NECESSARY = ("adapter/adapter.safetensors", "predictions/*.jsonl", "scores/*.json")
MEASURED = {
    "metrics.csv": ("items_per_second", "tokens_per_second", "memory_mib"),
    "provenance.json": ("code", "started", "ended", "usage"),
    "adapter.json": ("training",),
}
"""Columns and keys by file name that no two runs share, or that the old commit did not write; all
else of these files is compared."""
WITHOUT_RESULTS = frozenset(
    {
        *("all", "study_settings", "run_settings", "relevant_settings"),
        *("write_tables", "write_figures", "fusion_maps", "write_page", "write_bundle"),
    }
)
"""Rules that may be planned on old results: they write settings, or show what there is."""

GUARD = '''\
"""Lets every Python process import `ademvl` from one folder alone, and notes from where it did."""

import os
import sys
from importlib.machinery import PathFinder

EXPECTED = {expected!r}
NOTES = {notes!r}


class OnePackage:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "ademvl":
            return None
        spec = PathFinder.find_spec(name, path)
        found = os.path.realpath(spec.origin) if spec and spec.origin else "nowhere"
        with open(NOTES, "a", encoding="utf-8") as stream:
            stream.write(found + "\\n")
        if found != EXPECTED:
            raise ImportError(f"ademvl comes from {{found}}, expected {{EXPECTED}}")
        return spec


sys.meta_path.insert(0, OnePackage)

# What else another copy of the project brings, as an installed one does, stays out of sight.
OWN = os.path.dirname(os.path.dirname(EXPECTED))
sys.path[:] = [
    entry
    for entry in sys.path
    if os.path.realpath(entry) == OWN or not os.path.exists(os.path.join(entry, "ademvl"))
]
'''
COMMAND = '#!/bin/sh\nexec {python} -m ademvl "$@"\n'


@dataclass(frozen=True)
class StudyFile:
    """A study and where its results lie, relative to the folder that it is run in."""

    path: str
    name: str
    results: Path
    shared: Path


@dataclass(frozen=True)
class Row:
    """One file on both sides; a sum is empty where the file is missing."""

    file: str
    old: str
    new: str

    @property
    def is_equal(self) -> bool:
        """Whether it is there on both sides, with the same content."""
        return bool(self.old) and self.old == self.new


class Side:
    """A commit in a worktree of its own, and what is run with its code.

    Args:
        commit: full name.
        folder: gets the worktree `code`, logs, and one folder of results for each study.
    """

    def __init__(self, commit: str, folder: Path) -> None:
        self.commit = commit
        self.folder = folder.resolve()
        self.code = self.folder / "code"
        self._notes = self.folder / "imports.txt"
        self._log = self.folder / "log.txt"

    def check_out(self) -> None:
        """Make the worktree, the guard over imports, and the command `ademvl`."""
        for name in ("guard", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.code.is_dir():
            found = git("-C", str(self.code), "rev-parse", "HEAD")
            if found != self.commit:
                sys.exit(f"{self.code}: holds commit {found}, expected {self.commit}")
        else:
            git("worktree", "add", "--quiet", "--detach", str(self.code), self.commit)
        expected = str((self.code / "ademvl" / "__init__.py").resolve())
        guard = GUARD.format(expected=expected, notes=str(self._notes))
        (self.folder / "guard" / "sitecustomize.py").write_text(guard, encoding="utf-8")
        command = self.folder / "bin" / "ademvl"
        command.write_text(COMMAND.format(python=shlex.quote(sys.executable)), encoding="utf-8")
        command.chmod(0o755)
        self._notes.unlink(missing_ok=True)

    def work_folder(self, study: StudyFile) -> Path:
        """Folder that a study is run in."""
        return self.folder / study.name

    def run_study(self, study: StudyFile, *, cores: str) -> None:
        """Run a study to its end."""
        started = time.monotonic()
        work = self.work_folder(study)
        self.snakemake(study, work, "--cores", cores)
        self._note(f"{study.path}: {time.monotonic() - started:.0f} s")

    def snakemake(self, study: StudyFile, work: Path, *options: str) -> str:
        """Run Snakemake on a study in a folder; return what it printed."""
        work.mkdir(exist_ok=True)
        files = ("--snakefile", str(self.code / "Snakefile"), "--directory", str(work))
        files += ("--configfile", str(self.code / study.path))
        return self._python("-m", "snakemake", *files, *options, cwd=self.code)

    def ademvl(self, *arguments: str, cwd: Path) -> str:
        """Run one verb on the CPU, on one thread as the workflow does; return what it printed."""
        return self._python("-m", "ademvl", *arguments, "--threads", "1", "--gpus", "0", cwd=cwd)

    def _python(self, *arguments: str, cwd: Path) -> str:
        """Run Python with this side's package, and make sure that it was this side's."""
        paths = (self.folder / "bin", Path(sys.executable).parent, os.environ.get("PATH", ""))
        package = os.pathsep.join((str(self.folder / "guard"), str(self.code)))
        environment = os.environ | {
            "PATH": os.pathsep.join(map(str, paths)),
            "PYTHONPATH": package,
        }
        finished = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(arguments)}\n{finished.stdout}\n")
        self._check_imports()
        if finished.returncode:
            print(finished.stdout, file=sys.stderr)
            sys.exit(f"{self.folder.name}: {shlex.join(arguments)} failed, see above")
        return finished.stdout

    def num_imports(self) -> int:
        """Number of processes that have imported the package."""
        return len(self._notes.read_text(encoding="utf-8").splitlines())

    def _check_imports(self) -> None:
        """End with an error where a process got the package from elsewhere, or none got any."""
        expected = str((self.code / "ademvl" / "__init__.py").resolve())
        notes = self._notes.read_text(encoding="utf-8") if self._notes.exists() else ""
        found = set(notes.splitlines())
        if found != {expected}:
            sys.exit(f"ademvl was imported from {sorted(found) or 'nowhere'}, expected {expected}")

    def _note(self, text: str) -> None:
        print(f"{self.folder.name} {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run both commits, print what differs, exit with 1 if anything does."""
    options = parse_options()
    old, new = (
        git("rev-parse", "--verify", f"{name}^{{commit}}") for name in (options.old, options.new)
    )
    if git("status", "--porcelain"):
        print("note: uncommitted changes have no part in this", file=sys.stderr)
    with kept_or_temporary(options.folder) as folder, checked_out(folder, old, new) as sides:
        studies = [read_study(sides[0].code, path) for path in options.study or STUDIES]
        print("command:", shlex.join(["python", *sys.argv]))
        print(f"old: {old}\nnew: {new}")
        for name, parts in MEASURED.items():
            print(f"left out of {name}: {', '.join(parts)}")
        same = [compare_study(sides, study, cores=options.cores) for study in studies]
        valid = compare_old_results(*sides, studies[0])
        counts = " and ".join(str(side.num_imports()) for side in sides)
        print(f"\n{counts} processes imported ademvl, each from its own commit")
    sys.exit(0 if all(same) and valid else 1)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", default=OLD_COMMIT, help="commit to compare with (%(default)s)")
    parser.add_argument("--new", default="HEAD", help="commit that is compared (%(default)s)")
    parser.add_argument(
        "--study",
        action="append",
        help=f"study file of both commits; may be repeated ({', '.join(STUDIES)})",
    )
    parser.add_argument("--cores", default="all", help="of Snakemake (%(default)s)")
    parser.add_argument("--folder", type=Path, help="keeps worktrees, results and logs")
    return parser.parse_args()


def git(*arguments: str) -> str:
    """Run git in the project; return what it prints."""
    command = ["git", *arguments]
    finished = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    if finished.returncode:
        sys.exit(f"{shlex.join(command)} failed")
    return finished.stdout.strip()


@contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    """Give a folder, which goes in the end unless the user has named it."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    try:
        with tempfile.TemporaryDirectory(prefix="ademvl-same-bytes-") as name:
            yield Path(name)
    finally:
        git("worktree", "prune")


@contextmanager
def checked_out(folder: Path, old: str, new: str) -> Iterator[tuple[Side, Side]]:
    """Give both commits as sides."""
    names = ((f"old-{old[:12]}", old), (f"new-{new[:12]}", new))
    first, second = (Side(commit, folder / name) for name, commit in names)
    for side in (first, second):
        side.check_out()
    yield first, second


def read_study(code: Path, path: str) -> StudyFile:
    """Read where a study's results lie."""
    raw = yaml.safe_load((code / path).read_text(encoding="utf-8"))
    results = Path(raw.get("results_dir", "results")) / raw["study"]
    return StudyFile(path, raw["study"], results, Path(raw.get("shared_dir", "results/shared")))


def compare_study(sides: Sequence[Side], study: StudyFile, *, cores: str) -> bool:
    """Run a study on both sides and print a line a file; return whether all are equal."""
    for side in sides:
        side.run_study(study, cores=cores)
    found = [content_sums(side.work_folder(study), study) for side in sides]
    return print_rows(study.name, pair(*found)) and has_results(sides[0].work_folder(study), study)


def content_sums(work: Path, study: StudyFile) -> dict[str, str]:
    """Return the SHA-256 of each file of results, and of each folder of cached features."""
    results = work / study.results
    sums = {
        path.relative_to(results).as_posix(): hashlib.sha256(comparable_bytes(path)).hexdigest()
        for path in result_files(work, study)
    }
    folders = {path.parents[1] for path in (work / study.shared).glob(SHARDS)}
    return sums | {f"cache/{folder.name}": features_sum(folder) for folder in folders}


def result_files(work: Path, study: StudyFile) -> list[Path]:
    """Return all files of results without hidden ones, such as locks."""
    found = {path for pattern in RESULTS for path in (work / study.results).glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def features_sum(folder: Path) -> str:
    """Return the SHA-256 of all features of a folder of the cache, in the order of their images."""
    of_image: dict[str, bytes] = {}
    for path in folder.glob("shards/*.safetensors"):
        with safe_open(path, framework="numpy") as shard:
            features = shard.get_tensor("features")  # (n, 1+G, C)
            images = shard.metadata()["images"].split()
        kind = f"{features.dtype} {features.shape[1:]}".encode()
        pairs = zip(images, features, strict=True)
        of_image |= {image: kind + each.tobytes() for image, each in pairs}
    total = hashlib.sha256()
    for image in sorted(of_image):
        total.update(image.encode() + of_image[image])
    return total.hexdigest()


def comparable_bytes(path: Path) -> bytes:
    """Return a file's content without what is measured."""
    measured = MEASURED.get(path.name)
    if measured is None:
        return path.read_bytes()
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in measured}
        return json.dumps(kept, sort_keys=True).encode()
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [
            [(column, value) for column, value in row.items() if column not in measured]
            for row in csv.DictReader(stream)
        ]
    return json.dumps(rows).encode()


def has_results(work: Path, study: StudyFile) -> bool:
    """Return whether every run has an adapter, predictions and scores; say which has not."""
    run_dirs = sorted((work / study.results).glob("runs/*/seed*"))
    lacking = [
        f"{folder.relative_to(work)}/{pattern}"
        for folder in run_dirs
        for pattern in NECESSARY
        if not any(folder.glob(pattern))
    ]
    for path in lacking:
        print(f"{study.name}: no {path}")
    return bool(run_dirs) and not lacking


def pair(old: dict[str, str], new: dict[str, str]) -> list[Row]:
    """Put sums of both sides beside each other, by file."""
    return [Row(file, old.get(file, ""), new.get(file, "")) for file in sorted(old | new)]


def print_rows(label: str, rows: Sequence[Row]) -> bool:
    """Print a line a file and how many are equal; return whether all are."""
    width = max((len(row.file) for row in rows), default=0)
    print(f"\n{'study':6} {'file':{width}}  {'':9}  {'old':12}  {'new':12}")
    for row in rows:
        verdict = "equal" if row.is_equal else "DIFFERENT" if row.old and row.new else "MISSING"
        sums = (f"{text[:12] or '-':12}" for text in (row.old, row.new))
        print(f"{label:6} {row.file:{width}}  {verdict:9}  {'  '.join(sums)}".rstrip())
    num_equal = sum(row.is_equal for row in rows)
    print(f"{label}: {num_equal} of {len(rows)} files equal", flush=True)
    return bool(rows) and num_equal == len(rows)


def compare_old_results(old: Side, new: Side, study: StudyFile) -> bool:
    """Hand results of the old commit to the new one; print and return whether they stay valid."""
    work = new.folder / f"{study.name}-of-old"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(old.work_folder(study), work, symlinks=True)
    print(f"\nresults of the old commit, study {study.name}, in the hands of the new one")
    answers = [check_plan(new, study, work), *check_completeness(new, study, work)]
    answers.append(evaluate_again(old, new, study, work))
    return all(answers)


def check_plan(new: Side, study: StudyFile, work: Path) -> bool:
    """Ask Snakemake what it would do; print and return whether none of it makes results."""
    printed = new.snakemake(study, work, "--dry-run")
    planned = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", printed, flags=re.MULTILINE))
    if not planned and "Nothing to be done" not in printed:
        sys.exit(f"what Snakemake plans cannot be read from what it prints:\n{printed}")
    wrong = planned - WITHOUT_RESULTS
    told = f"planned: {', '.join(sorted(planned)) or 'nothing'}"
    return print_answer("snakemake --dry-run plans no job that makes results", not wrong, told)


def check_completeness(new: Side, study: StudyFile, work: Path) -> list[bool]:
    """Call the verbs on complete runs; print and return whether they leave all as it is."""
    run_dirs = sorted(path.parent for path in (work / study.results).glob("runs/*/seed*/run.yaml"))
    reports = {path.read_bytes() for path in (work / study.results).glob("features/*.json")}
    answers = []
    for verb in ("train", "evaluate"):
        before = file_states(work, study)
        for run_dir in run_dirs:
            new.ademvl(verb, str(run_dir.relative_to(work)), cwd=work)
        is_same = file_states(work, study) == before
        answers.append(print_answer(f"ademvl {verb} finds all runs complete", is_same))
    cached = [run_dir for run_dir in run_dirs if reads_features(run_dir)]
    before, is_told = file_states(work, study), bool(cached)
    for run_dir in cached:
        output = run_dir / "features_again.json"
        new.ademvl("features", str(run_dir.relative_to(work)), f"--output={output}", cwd=work)
        is_told &= output.read_bytes() in reports
        output.unlink()
    is_same = is_told and file_states(work, study) == before
    answers.append(print_answer("ademvl features finds all images encoded", is_same))
    return answers


def evaluate_again(old: Side, new: Side, study: StudyFile, work: Path) -> bool:
    """Remove predictions and scores and make them from the old adapters; compare all files."""
    run_dirs = sorted(path.parent for path in (work / study.results).glob("runs/*/seed*/run.yaml"))
    for run_dir in run_dirs:
        shutil.rmtree(run_dir / "predictions")
        shutil.rmtree(run_dir / "scores")
        new.ademvl("evaluate", str(run_dir.relative_to(work)), cwd=work)
    sums = [content_sums(folder, study) for folder in (old.work_folder(study), work)]
    return print_rows("again", pair(*sums))


def file_states(work: Path, study: StudyFile) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file, shards too: they change where one is written anew."""
    files = [*result_files(work, study), *(work / study.shared).glob(SHARDS)]
    states = {path: path.stat() for path in files}
    return {str(path): (state.st_ino, state.st_mtime_ns) for path, state in states.items()}


def reads_features(run_dir: Path) -> bool:
    """Return whether a run's images are encoded into the cache."""
    run = yaml.safe_load((run_dir / "run.yaml").read_text(encoding="utf-8"))
    return bool(run["features"]["mode"] == "cached" and run["images"] == "shown")


def print_answer(question: str, answer: bool, told: str = "") -> bool:
    """Print one line of the second part; return the answer."""
    print(f"{'yes' if answer else 'NO':3} {question}" + (f" ({told})" if told else ""), flush=True)
    return answer


if __name__ == "__main__":
    main()
