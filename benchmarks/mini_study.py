"""What the jobs of the mini study take now and at an earlier commit, in turn.

    python benchmarks/mini_study.py          # config.yaml of the earlier commit
    python benchmarks/mini_study.py --seeds 1    # one of each run, without tables and figures
    python benchmarks/mini_study.py --before HEAD~1 --study workflow/studies/smoke.yaml

Both commits are checked out and kept apart as in benchmarks/same_bytes.py, and run the study file
of the earlier one through Snakemake, one run and seed after the other, each first on the one side,
then on the other: what else the machine does meets both. Counted are the processor seconds of each
job of a rule that calls `ademvl`, its children included. The exit code is 1 where adapters,
predictions, scores or features differ.
"""

import argparse
import json
import os
import shlex
import sys
from collections import defaultdict
from pathlib import Path

import yaml
from same_bytes import (
    Side,
    StudyFile,
    checked_out,
    content_sums,
    git,
    has_results,
    kept_or_temporary,
    pair,
    print_rows,
    read_study,
)

BEFORE = "4899d7c"
"""The last commit whose every job loaded the models anew."""
COMMAND = """\
#!{python}
import json, resource, subprocess, sys, time

started = time.monotonic()
code = subprocess.call([sys.executable, "-m", "ademvl", *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = [used.ru_utime + used.ru_stime, time.monotonic() - started]
with open({jobs!r}, "a", encoding="utf-8") as stream:
    stream.write(json.dumps([sys.argv[1], *seconds]) + "\\n")
sys.exit(code)
"""


def main() -> None:
    """Run both commits, print what each kind of job took, and whether results are the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="commit to compare with")
    parser.add_argument("--after", default="HEAD", help="commit that is compared")
    parser.add_argument("--study", default="config.yaml", help="study file, of the earlier commit")
    parser.add_argument("--seeds", type=int, help="of each run, the first so many (default: all)")
    parser.add_argument("--folder", type=Path, help="keep everything there")
    options = parser.parse_args()
    print(f"command: {shlex.join(['python', *sys.argv])}")
    before, after = (
        git("rev-parse", "--verify", f"{name}^{{commit}}")
        for name in (options.before, options.after)
    )
    for name, commit in (("before", before), ("after", after)):
        print(f"{name}: {git('log', '-1', '--format=%h %s', commit)}", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with (
        kept_or_temporary(options.folder) as folder,
        checked_out(folder, before, after) as sides,
    ):
        study = read_study(sides[0].code, str(sides[0].code / options.study))
        for side in sides:
            _measure(side)
        targets = _score_targets(sides[0].code / options.study, study, options.seeds)
        for target in targets if options.seeds else [*targets, "all"]:
            for side in sides:
                side.snakemake(study, side.work_folder(study), "--cores", "1", target)
        _print_jobs(*sides)
        works = [side.work_folder(study) for side in sides]
        are_there = all(has_results(work, study) for work in works)
        rows = pair(*(content_sums(work, study) for work in works))
        are_same = print_rows(study.name, rows)
    sys.exit(not (are_there and are_same))


def _jobs_file(side: Side) -> Path:
    return side.folder / "jobs.jsonl"


def _measure(side: Side) -> None:
    """Put a command in the place of `ademvl` that writes down what each call takes."""
    command = COMMAND.format(python=sys.executable, jobs=str(_jobs_file(side)))
    (side.folder / "bin" / "ademvl").write_text(command, encoding="utf-8")


def _score_targets(path: Path, study: StudyFile, num_seeds: int | None) -> list[str]:
    """Return the score files of runs, in the order of the study file."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        f"{study.results}/runs/{name}/seed{seed}/scores/{run.get('task', 'scienceqa')}.json"
        for name, run in raw["runs"].items()
        for seed in run.get("seeds", raw["defaults"].get("seeds", [0]))[:num_seeds]
    ]


def _print_jobs(*sides: Side) -> None:
    """Print a line for each verb, and one for all jobs together."""
    found = []
    for side in sides:
        jobs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in _jobs_file(side).read_text(encoding="utf-8").splitlines():
            verb, cpu_seconds, wall_seconds = json.loads(line)
            for name in () if verb == "summary" else (verb, "all jobs"):  # no job of a rule
                jobs[name].append((cpu_seconds, wall_seconds))
        found.append(jobs)
    old, new = found
    print(
        f"\n{'verb':12} {'jobs':>4} {'before s':>9} {'after s':>9} {'after/before':>12}  (wall s)"
    )
    for verb in sorted(old.keys() | new.keys(), key=lambda name: (name == "all jobs", name)):
        (before, wall_before), (after, wall_after) = (
            [sum(column) for column in zip(*jobs[verb], strict=True)] or [0.0, 0.0]
            for jobs in (old, new)
        )
        ratio = after / before if before else float("nan")
        print(
            f"{verb:12} {len(new[verb]):4} {before:9.1f} {after:9.1f} {ratio:6.2f}"
            f"  {wall_before:.0f} {wall_after:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
