"""What every command does with wrong settings and damaged files: a message and exit code 2.

    python benchmarks/wrong_inputs.py                       # makes a smoke study first
    python benchmarks/wrong_inputs.py --finished FOLDER     # copies results/ of that folder
    python benchmarks/wrong_inputs.py --settings 300 --files 100

1. Settings: every key of every study in workflow/studies gets wrong values, and a wrong name.
2. Files: all that a finished study consists of is damaged, one file at a time, in a copy of the
   study, and given to each command that reads it.

Each try is the command's own `main`, in a forked process that is killed when it takes too long.
Right is exit code 2 (or, of commands that check or compare, 1) with a message that names the file
or the key; or exit code 0 where the value or file is still a good one, or is made anew: these are
counted apart. Wrong are a traceback, another exit code, a message without the name or of more than
100 kB, a command that does not end, and files half written. Exit code 1 where anything was wrong.
"""

import argparse
import copy
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "workflow" / "studies").glob("*.yaml"))
LONGEST_MESSAGE = 100_000
HANGS_AFTER_SECONDS = 60  # a plan of eleven methods takes 30, as each is measured
WORKING_SECONDS = 240
"""Of commands that train, draw or ask models, where damage makes them do their work anew. Both are
seconds of a processor; who waits instead is ended after `WAITING_TIMES` as long."""
WAITING_TIMES = 10
_WORK_COUNTS = 5  # so many fewer tries of these commands, as long as there are others

DATA = "results/shared/data/easy_vqa_smoke"
RUN, OTHER, CAPTIONS = (
    f"results/smoke/runs/{run}/seed0" for run in ("adem", "text_only", "captions")
)
STUDY = "results/smoke/study.yaml"
RATES = "results/smoke/rates/lora"
TUNED = "results/smoke/tune"


@dataclass(frozen=True)
class Command:
    """A command, and what it reads.

    Attributes:
        arguments: of `ademvl`, in a folder with a finished study.
        reads: patterns of the files that are damaged.
        works: whether it may take long, as models are asked or trained, or figures drawn.
        checks: whether exit code 1 is its answer to damage.
    """

    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    works: bool = False
    checks: bool = False


_PROBLEMS = (f"{DATA}/scienceqa/problems.json", f"{DATA}/scienceqa/pid_splits.json")
_OF_RUN = ("run.yaml", "adapter/adapter.json", "adapter/adapter.safetensors")
_RESULTS = (
    *("run.yaml", "provenance.json", "metrics.csv", "adapter/adapter.json", "scores/*.json"),
    *("predictions/*.jsonl", "predictions/*.json", "settings/evaluate.json"),
)
_REPORTED = (STUDY, *(f"{RUN}/{name}" for name in _RESULTS), *_PROBLEMS)
_ANNOTATIONS = (f"{DATA}/coco_caption/karpathy/*test*.json", f"{DATA}/coco_caption/annotations/*")
_IMAGES = (f"{DATA}/scienceqa/images/test/*/image.png",)
_SCORED = ("--problems", _PROBLEMS[0], "--predictions")
_GRID = {
    **{"lr_grid": [0.01], "epochs": 0.1, "warmup_epochs": 0.0},
    **{"effective_batch_size": 8, "per_device_batch_size": 8},
}
_LORA = {
    **{"study": "smoke", "name": "lora", "seed": 0, "task": "scienceqa"},
    **{"data_dir": f"{DATA}/scienceqa", "method": {"name": "lora"}, "optimization": _GRID},
    "features": {"mode": "cached"},
}
_CHOOSE_RATE = ("choose-rate", "--folder", RATES, json.dumps(_LORA), "--threads", "1", "--output")
_QUESTION = {
    **{"split": "val", "image_id": 1, "question_id": "q1", "question": "What colour?"},
    **{"choices": ["red", "green", "blue", "white"], "correct_choice_idx": 0},
}
_AOKVQA = ("--predictions", "choices.json")
COMMANDS = (
    Command(("plan", STUDY), (STUDY, *_PROBLEMS, f"{DATA}/manifest.json")),
    Command(("params", "--study", STUDY), (STUDY,)),
    Command(("data", "plan", "--study", STUDY), (STUDY,)),
    Command(("data", "convert", "--study", STUDY), (STUDY, f"{DATA}/manifest.json"), works=True),
    Command(
        ("data", "verify", DATA, "--threads", "1"),
        (f"{DATA}/manifest.json", *_PROBLEMS, *_ANNOTATIONS, *_IMAGES),
        checks=True,
    ),
    Command(
        ("features", RUN, "--output", "out/features.json"),
        (f"{RUN}/run.yaml", *_PROBLEMS, *_IMAGES, "results/shared/features/*/namespace.json"),
        works=True,
    ),
    Command(("train", RUN), (f"{RUN}/run.yaml", *_PROBLEMS, f"{RUN}/provenance.json"), works=True),
    Command(
        ("evaluate", RUN),
        (*(f"{RUN}/{name}" for name in (*_OF_RUN, *_RESULTS)), *_PROBLEMS),
        works=True,
    ),
    Command(
        ("fusion-maps", RUN, "--items", "1"),
        (*(f"{RUN}/{n}" for n in _OF_RUN), *_IMAGES),
        works=True,
    ),
    Command(
        ("predict", RUN, "--jsonl", "requests.jsonl"),
        ("requests.jsonl", "image.png", *(f"{RUN}/{name}" for name in _OF_RUN)),
        works=True,
    ),
    Command(
        (
            "score",
            "scienceqa",
            *_SCORED,
            f"{RUN}/predictions/scienceqa.jsonl",
            "--output",
            "out/s.json",
        ),
        (*_PROBLEMS, f"{RUN}/predictions/scienceqa.jsonl"),
        checks=True,
    ),
    Command(
        ("score", "aokvqa", "--questions", "aokvqa.json", *_AOKVQA, "--output", "out/a.json"),
        ("aokvqa.json", "choices.json"),
        checks=True,
    ),
    Command(
        ("tune", "tune.yaml", "--minutes", "0"), ("tune.yaml", f"{TUNED}/adem_*/trials.journal")
    ),
    Command(
        ("tune", "tune_again.yaml", "--threads", "1"),
        (
            "tune_again.yaml",
            *(f"{TUNED}/text_only_*/*/*/*/{name}" for name in (*_OF_RUN, *_RESULTS)),
            *_PROBLEMS,
        ),
        works=True,
    ),
    Command(
        ("score", "lmms-eval", "--results", "lmms.json", "--run", RUN),
        ("lmms.json", f"{RUN}/run.yaml", f"{RUN}/adapter/adapter.json"),
    ),
    Command(
        ("compare", RUN, OTHER, "--output", "out/compared.json"),
        (*(f"{RUN}/{name}" for name in _RESULTS), *_PROBLEMS),
    ),
    Command(("tables", STUDY), _REPORTED),
    Command(("figures", STUDY), (STUDY, f"{RUN}/metrics.csv", f"{RUN}/scores/*.json"), works=True),
    Command(
        ("report", STUDY),
        (*_REPORTED, f"{RUN}/fusion_maps/fusion_maps.json", *_IMAGES),
        works=True,
    ),
    Command(("summary", STUDY), _REPORTED),
    Command(("status", STUDY), _REPORTED),
    Command(("ranking", "ranking.yaml"), ("ranking.yaml", f"{RATES}.json", *_REPORTED[1:])),
    Command(
        (*_CHOOSE_RATE, "out/rate.json"),
        (*(f"{RATES}/*/*/{name}" for name in (*_OF_RUN, *_RESULTS)), *_PROBLEMS),
        works=True,
    ),
    Command(("effects", "effects.yaml"), ("effects.yaml", *_REPORTED[1:])),
    Command(("bundle", "results/smoke", "--output", "out/b.zip"), _REPORTED),
    Command(
        ("samples", RUN, "--output", "out/samples.jsonl"),
        (f"{RUN}/run.yaml", f"{RUN}/predictions/scienceqa.jsonl", *_PROBLEMS),
    ),
    Command(("diff", "bundle.zip", "results/smoke"), ("bundle.zip", *_REPORTED), checks=True),
    Command(
        ("adapter", "export", RUN, "--output", "out/adapter.pth"),
        tuple(f"{RUN}/{n}" for n in _OF_RUN),
    ),
    Command(
        (
            *("adapter", "import", "adapter.pth", "--output", "out/adapter"),
            *("--llm", "mini", "--tower", "mini", "--precision", "fp32"),
        ),
        ("adapter.pth",),
    ),
    Command(("cache", "ls"), ("results/shared/features/*/namespace.json",), checks=True),
    Command(("cache", "verify"), ("results/shared/features/*/shards/*",), checks=True),
    Command(("preflight", "--profile", "profile"), ("profile/config.yaml",), checks=True),
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code (None when it was killed), what it said, how long it took."""

    code: int | None
    said: str
    seconds: float


def call(arguments: Sequence[str], folder: Path, *, limit_seconds: float) -> Outcome:
    """Run a command of `ademvl` in a forked process and a folder."""
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            _be_command(arguments, folder, said.fileno())
        code = _wait(process, limit_seconds)
        said.seek(0)
        text = said.read().decode("utf-8", errors="replace")
        return Outcome(code, text, time.monotonic() - started)


def _be_command(arguments: Sequence[str], folder: Path, output: int) -> None:
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)  # as Python's own
        from ademvl.cli import main

        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int, limit_seconds: float) -> int | None:
    """Return the exit code; None of a process that was ended, as it worked or waited too long."""
    deadline, watched = time.monotonic() + WAITING_TIMES * limit_seconds, psutil.Process(process)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        used = watched.cpu_times()
        if used.user + used.system > limit_seconds or time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(0.01)


def fault_of(outcome: Outcome, names: Sequence[str], *, checks: bool = False) -> str:
    """Say what is wrong with an outcome; empty where nothing is.

    Args:
        outcome: of a command with a wrong input.
        names: one of which a refusal has to hold.
        checks: whether exit code 1 is a refusal, too.
    """
    if outcome.code is None:
        return f"did not end in {outcome.seconds:.0f} s"
    if "Traceback (most recent call last)" in outcome.said:
        return "traceback"
    if outcome.code not in ((0, 1, 2) if checks else (0, 2)):
        return f"exit code {outcome.code}"
    if len(outcome.said) > LONGEST_MESSAGE:
        return f"{len(outcome.said):,} characters"
    if outcome.code and not any(name in outcome.said for name in names):
        return f"names none of {', '.join(names)}"
    return ""


WRONG_VALUES: tuple[object, ...] = (
    *(None, "", "nonsense", True, -1, 0, 0.5, 10**30, 1e308, float("nan"), float("inf"), [], {}),
    *(["x"], {"x": 1}, "a\0b", "\ud800", "../../x", "$(x)", "x" * 100_000, [0] * 5000, 10**12),
)


def wrong_settings() -> Iterator[tuple[str, object, str]]:
    """Yield a study with one wrong value or name at a time: where, the study, and the key."""
    for path in STUDIES:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        for place in _places(raw):
            where = f"{path.name}: {'.'.join(map(str, place))}"
            *_, named = (str(key) for key in place if isinstance(key, str))
            if isinstance(place[-1], str):
                yield f"{where}: another name", _renamed(raw, place), f"{place[-1]}x"
            for value in WRONG_VALUES:
                yield f"{where}: {str(value)[:20]!a}", _with(raw, place, value), named


def _places(raw: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    entries = (
        raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    )
    for key, value in entries:
        yield (*above, key)
        yield from _places(value, (*above, key))


def _with(raw: object, place: Sequence[str | int], value: object) -> object:
    changed = inner = copy.deepcopy(raw)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def _renamed(raw: object, place: Sequence[str | int]) -> object:
    changed = inner = copy.deepcopy(raw)
    for key in place[:-1]:
        inner = inner[key]
    inner[f"{place[-1]}x"] = inner.pop(place[-1])
    return changed


def try_settings(number: int, report: "Report") -> None:
    """Plan studies with wrong settings, and what they would fetch."""
    tries = list(wrong_settings())
    random.Random(0).shuffle(tries)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count, (where, study, key) in enumerate(tries[:number]):
            (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
            command = ("data", "plan", "--study") if count % 4 == 3 else ("plan",)
            outcome = call([*command, "study.yaml"], folder, limit_seconds=HANGS_AFTER_SECONDS)
            fault = fault_of(outcome, [key, *(["study.yaml"] if key.startswith("include") else [])])
            if [path.name for path in folder.iterdir()] != ["study.yaml"]:
                fault = fault or "files were written"
            report.add("settings", f"{' '.join(command)}: {where}", outcome, fault)


Damage = Callable[[bytes, random.Random], bytes]


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(8, len(changed))):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _swap_halves(content: bytes, generator: random.Random) -> bytes:
    return content[len(content) // 2 :] + content[: len(content) // 2]


DAMAGES: dict[str, Damage] = {
    "first half": lambda content, _: content[: len(content) // 2],
    "last byte missing": lambda content, _: content[:-1],
    "cut anywhere": lambda content, generator: content[: generator.randrange(len(content) or 1)],
    "empty": lambda content, _: b"",
    "bits flipped": _flip,
    "halves swapped": _swap_halves,
    "web page": lambda content, _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "pointer of git LFS": lambda content, _: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    ),
    "zeros": lambda content, _: bytes(len(content)),
    "a list": lambda content, _: b"[]\n",
    "an object": lambda content, _: b"{}\n",
    "a number": lambda content, _: b"7\n",
    "nested": lambda content, _: b"[" * 3000,
    "Latin-1": lambda content, _: b"caf\xe9: " + content,
    "a picture": lambda content, _: b"\x89PNG\r\n\x1a\n" + bytes(40),
}
PLACED: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "link in a circle": lambda path: path.symlink_to(path.name),
    "link to nowhere": lambda path: path.symlink_to("gone"),
}
"""What stands in the place of a file."""


def prepare(finished: Path) -> None:
    """Add to a finished study what commands read beside it."""
    shutil.copy(
        next((finished / DATA / "scienceqa/images").glob("*/*/*.png")), finished / "image.png"
    )
    requests = '{"image": "image.png", "question": "What shape?", "choices": ["a", "b"]}\n'
    (finished / "requests.jsonl").write_text(requests)
    lmms = {
        "results": {"gqa": {"exact_match,none": 0.5}},
        "n-samples": {"gqa": {"original": 24, "effective": 24}},
        "config": {"model": "ademvl", "model_args": f"adapter={RUN}"},
    }
    (finished / "lmms.json").write_text(json.dumps(lmms))
    study = yaml.safe_load((finished / STUDY).read_text("utf-8"))
    (finished / "effects.yaml").write_text(yaml.safe_dump(study | {"base_runs": ["adem"]}))
    lora = study["runs"]["adem"] | {"method": {"name": "lora"}, "optimization": _GRID}
    ranked = study | {"runs": study["runs"] | {"lora": lora}}
    (finished / "ranking.yaml").write_text(yaml.safe_dump(ranked))
    for name, run, space in (
        ("tune", "adem", {"method.gamma": {"low": 0.0, "high": 0.5}}),
        ("tune_again", "text_only", {"optimization.weight_decay": {"low": 0.0, "high": 0.5}}),
    ):
        tune = {"run": run, "trials": 1, "rungs": 1, "space": space}
        short = study["runs"][run] | {"optimization": _GRID | {"lr_grid": []}}
        tuned = study | {"runs": study["runs"] | {run: short}, "tune": tune}
        (finished / f"{name}.yaml").write_text(yaml.safe_dump(tuned))
    (finished / "aokvqa.json").write_text(json.dumps([_QUESTION]))
    (finished / "choices.json").write_text(json.dumps({_QUESTION["question_id"]: "red"}))
    shutil.copytree(ROOT / "workflow/profiles/slurm", finished / "profile")
    for arguments in (
        ("bundle", "results/smoke", "--output", "bundle.zip"),
        ("adapter", "export", RUN, "--output", "adapter.pth"),
        (*_CHOOSE_RATE, f"{RATES}.json"),
        ("tune", "tune.yaml", "--threads", "1"),
        ("tune", "tune_again.yaml", "--threads", "1"),
    ):
        outcome = call(arguments, finished, limit_seconds=WORKING_SECONDS)
        if outcome.code:
            sys.exit(f"{' '.join(arguments)} failed:\n{outcome.said}")
    for journal in finished.glob(f"{TUNED}/text_only_*/trials.journal"):
        journal.unlink()  # so that the same command reads what the trial left


def damaged_files(finished: Path) -> Iterator[tuple[Command, str, str]]:
    """Yield a command, a file that it reads, and a damage: all there are."""
    for command in COMMANDS:
        files = dict.fromkeys(
            str(path.relative_to(finished))
            for pattern in command.reads
            for path in sorted(finished.glob(pattern))[:2]
        )
        for file in files:
            yield from ((command, file, damage) for damage in (*DAMAGES, *PLACED))


def try_files(number: int, finished: Path, report: "Report") -> None:
    """Give commands damaged files: as many of each command, as far as there are."""
    generator = random.Random(0)
    tries = list(damaged_files(finished))
    generator.shuffle(tries)
    seen: Counter[Command] = Counter()
    order = []
    for one in tries:
        order.append((seen[one[0]] * (_WORK_COUNTS if one[0].works else 1), len(order), one))
        seen[one[0]] += 1
    with tempfile.TemporaryDirectory() as name:
        for _, count, (command, file, damage) in sorted(order, key=lambda entry: entry[:2])[
            :number
        ]:
            folder = Path(name, str(count))
            outcome, fault = try_file(command, file, damage, finished, folder, generator)
            report.add(
                "files", f"{' '.join(command.arguments[:2])}: {file}: {damage}", outcome, fault
            )
            shutil.rmtree(folder)


def try_file(
    command: Command,
    file: str,
    damage: str,
    finished: Path,
    folder: Path,
    generator: random.Random,
) -> tuple[Outcome, str]:
    """Run a command in a copy of a finished study with one damaged file; say what is wrong then."""
    _copy(finished, folder)
    _damage(folder / file, damage, generator)
    limit = WORKING_SECONDS if command.works else HANGS_AFTER_SECONDS
    outcome = call(command.arguments, folder, limit_seconds=limit)
    fault = fault_of(outcome, _names(file), checks=command.checks) or _left(folder, outcome)
    return outcome, fault


def _names(file: str) -> list[str]:
    """Names by which a message may call a file: its own, that of its folder, or of its training."""
    path = Path(file)
    names = [path.name, path.parent.name] if path.parent.name else [path.name]
    run, seed = next(zip(path.parts[3:], path.parts[4:], strict=False), ("", ""))
    return [*names, f"{run}/{seed}"] if seed.startswith("seed") else names


def _copy(finished: Path, folder: Path) -> None:
    """Copy a study; images, which nothing writes to, as links."""
    shutil.copytree(
        finished,
        folder,
        symlinks=True,
        copy_function=lambda source, target: (
            os.link(source, target) if source.endswith(".png") else shutil.copy2(source, target)
        ),
    )


def _damage(path: Path, damage: str, generator: random.Random) -> None:
    content = path.read_bytes()
    path.unlink()
    if damage in PLACED:
        PLACED[damage](path)
    else:
        path.write_bytes(DAMAGES[damage](content, generator))


def _left(folder: Path, outcome: Outcome) -> str:
    """Say what was left half written."""
    left = [*folder.rglob("*.tmp"), *folder.rglob("*.unfinished")]
    if outcome.code == 2 and (folder / "out").is_dir():
        left += [path for path in (folder / "out").rglob("*") if path.is_file()]
    return f"left {left[0].relative_to(folder)}" if left else ""


class Report:
    """Counts outcomes, and prints the wrong ones as they come."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.is_verbose = is_verbose
        self.counts: Counter[tuple[str, str]] = Counter()
        self.slowest = 0.0

    def add(self, part: str, what: str, outcome: Outcome, fault: str) -> None:
        """Count one try."""
        kind = "wrong" if fault else "refused" if outcome.code else "taken"
        self.counts[part, kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        if fault:
            said = outcome.said.strip().splitlines()[-1:] or [""]
            print(f"WRONG {what}: {fault}: {said[0][:200]}", flush=True)
        elif self.is_verbose:
            print(f"{kind} {what}", flush=True)

    def print(self) -> None:
        """Print the counts."""
        for part in ("settings", "files"):
            kinds = {kind: self.counts[part, kind] for kind in ("refused", "taken", "wrong")}
            counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
            print(f"{part}: {sum(kinds.values()):,} tries: {counted}")
        print(f"the slowest took {self.slowest:.0f} s")

    @property
    def is_right(self) -> bool:
        """Whether nothing was wrong."""
        return not any(count for (_, kind), count in self.counts.items() if kind == "wrong")


def make_study(folder: Path) -> None:
    """Run the smoke study."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += [
        "--directory",
        str(folder),
        "--configfile",
        str(ROOT / "workflow/studies/smoke.yaml"),
    ]
    subprocess.run([*command, "--cores", "all", "--quiet"], check=True)


def _import(*modules: str) -> None:
    """Import what commands need before forking, so that not each of them has to."""
    for module in modules:
        importlib.import_module(module)


def main() -> int:
    """Try everything; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="Try wrong settings and damaged files.")
    parser.add_argument("--settings", type=int, default=2_500, help="tries (%(default)s)")
    parser.add_argument("--files", type=int, default=1_000, help="tries (%(default)s)")
    parser.add_argument("--finished", type=Path, help="folder with results/ of the smoke study")
    parser.add_argument("--verbose", action="store_true", help="print each try")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    _import("ademvl.planning.study_plan", "ademvl.planning.render", "ademvl.data.acquisition.plan")
    report = Report(is_verbose=options.verbose)
    try_settings(options.settings, report)
    _import("ademvl.evaluation.run", "ademvl.training.run", "ademvl.prediction.answering")
    _import("open_clip", "transformers.models.llama.modeling_llama", "matplotlib.pyplot", "pandas")
    with tempfile.TemporaryDirectory() as name:
        finished = Path(name)
        if options.finished:
            shutil.copytree(options.finished / "results", finished / "results", symlinks=True)
        elif options.files:
            make_study(finished)
        if options.files:
            prepare(finished)
            try_files(options.files, finished, report)
    report.print()
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
