"""Reads a data set in the layout of ScienceQA, strictly.

Layout: `problems.json`, `pid_splits.json`, optional `captions.json`, and
`images/<split>/<question_id>/<image>`. Image files are looked at by `check_images` only, because
many uses need the text alone.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from ademvl.data.image_files import missing_image_findings
from ademvl.data.quarantine import QUARANTINE_FILE, check_quarantine, read_quarantine
from ademvl.data.surrogates import surrogate_findings
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.storage.files import read_json
from ademvl.storage.known_checksums import Stamp, file_stamp, is_settled

SPLITS = ("train", "val", "test")
SUBJECTS = ("natural science", "social science", "language science")
GRADES = tuple(f"grade{number}" for number in range(1, 13))
MAX_CHOICES = 26
OFFICIAL_PROBLEMS = {"train": 12_726, "val": 4_241, "test": 4_241}
OFFICIAL_IMAGES = {"images": 10_332, "test images": 2_017}
"""Problems of each split, and how many have an image, in all and in test (arXiv 2209.09513)."""
PROBLEMS_FILE, SPLITS_FILE = "problems.json", "pid_splits.json"
CAPTIONS_FILE = "captions.json"

_TEXT_FIELDS = (
    *("question", "hint", "lecture", "solution"),
    *("task", "grade", "subject", "topic", "category", "skill", "split"),
)
_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\0]+")
_REMEDY = "Correct the files, or make them again (`snakemake data`)."


@dataclass(frozen=True)
class Problem:
    """One multiple-choice question; what is unknown of one from elsewhere is empty.

    Attributes:
        question_id: key of the question in all files.
        question, choices, hint, lecture, solution: texts as published.
        answer_index: index of the right choice, from 0.
        image: file name of the picture, None without one.
        caption: machine-made caption of the picture, empty without one.
        task, grade, subject, topic, category, skill: labels as published.
        split: train, val or test.
    """

    question_id: str
    question: str
    choices: tuple[str, ...]
    answer_index: int
    hint: str = ""
    image: str | None = None
    caption: str = ""
    task: str = ""
    grade: str = ""
    subject: str = ""
    topic: str = ""
    category: str = ""
    skill: str = ""
    lecture: str = ""
    solution: str = ""
    split: str = ""

    @property
    def has_image(self) -> bool:
        """Whether the question comes with a picture."""
        return self.image is not None

    @property
    def has_text_context(self) -> bool:
        """Whether the hint is not empty; the data set's category TXT."""
        return self.hint != ""


@dataclass(frozen=True)
class ScienceQA:
    """All problems of a data set, with the official lists of ids.

    Attributes:
        root: folder of the data set.
        problems: by question id.
        splits: lists of question ids by name: train, val, test, and what else the file holds.
    """

    root: Path
    problems: Mapping[str, Problem]
    splits: Mapping[str, tuple[str, ...]]

    def split(self, name: str) -> list[Problem]:
        """Return the problems of a split in the order of `pid_splits.json`."""
        if name not in self.splits:
            raise ValueError(f"no split {name!r}; there are {', '.join(self.splits)}")
        return [self.problems[question_id] for question_id in self.splits[name]]

    def image_path(self, problem: Problem) -> Path | None:
        """Return where the problem's picture lies, None when it has none."""
        if problem.image is None:
            return None
        return self.root / "images" / problem.split / problem.question_id / problem.image


def load_scienceqa(root: Path) -> ScienceQA:
    """Read problems, splits and captions; training items in quarantine are not among them.

    What this process has read before is given again for as long as its files are the same ones.

    Raises:
        DataError: a file is missing or no JSON; or anything in them breaks the format: then all
            findings are listed (first 20 and a count), each with file, question id and what is
            wrong.
    """
    names = (PROBLEMS_FILE, SPLITS_FILE, CAPTIONS_FILE, QUARANTINE_FILE)
    stamps = tuple(file_stamp(path) for name in names if (path := root / name).is_file())
    return _known(root, stamps) if all(map(is_settled, stamps)) else _read(root)


@lru_cache(maxsize=4)
def _known(root: Path, _stamps: tuple[Stamp, ...]) -> ScienceQA:
    return _read(root)


def _read(root: Path) -> ScienceQA:
    problems_file, splits_file = root / PROBLEMS_FILE, root / SPLITS_FILE
    captions_file = root / CAPTIONS_FILE
    raw_problems = read_object(problems_file)
    raw_splits = read_object(splits_file)
    findings: list[str] = []
    captions: dict[str, str] = {}
    if os.path.lexists(captions_file):  # a link to nowhere is a fault, not a file left out
        captions = parse_captions(captions_file, raw_problems, findings)
    if left_out := read_quarantine(root):
        train = raw_splits.get("train")
        check_quarantine(root, left_out, train if _is_text_list(train) else ())
        raw_problems = {key: raw for key, raw in raw_problems.items() if key not in left_out}
        raw_splits = _without(raw_splits, left_out)
    return _build(root, problems_file, raw_problems, (splits_file, raw_splits), captions, findings)


def load_problems(problems_file: Path, split: str) -> list[Problem]:
    """Read the problems of a split, whatever their file is called; without captions.

    The split is that of `pid_splits.json` beside the file, which need not hold any other. Where
    there is none, it is read off the problems' own field `split`, in file order.

    Raises:
        DataError: a missing or malformed file, an empty split; or lists what breaks the format.
        SettingsError: no such split.
    """
    raw_problems = read_object(problems_file)
    splits_file = problems_file.parent / SPLITS_FILE
    raw_splits: dict[str, Any]
    if os.path.lexists(splits_file):
        raw_splits = read_object(splits_file)
    else:
        splits_file = problems_file
        raw_splits = {name: [] for name in SPLITS}
        for question_id, raw in raw_problems.items():
            label = raw.get("split") if isinstance(raw, dict) else None
            if label in SPLITS:
                raw_splits[label].append(question_id)
    if split not in raw_splits:
        known = ", ".join(raw_splits) or "nothing"
        raise SettingsError(f"--split: {split!r} is none of {splits_file}, which holds {known}")
    asked = {split: raw_splits[split]}
    findings = [f"{splits_file}: {what}" for what in _list_findings(asked, raw_problems)]
    problems = {}
    for question_id, raw in raw_problems.items():
        wrong = problem_findings(question_id, raw)
        findings += [f"{problems_file}: question {question_id}: {what}" for what in wrong]
        if not wrong:
            problems[question_id] = _to_problem(question_id, raw, "")
    if findings:
        headline = f"{problems_file}: not valid ScienceQA data"
        raise DataError(list_findings(headline, findings, _REMEDY))
    if not asked[split]:
        raise DataError(f"{splits_file}: no question in split {split!r}. Name another split.")
    return [problems[question_id] for question_id in asked[split]]


def _build(
    root: Path,
    problems_file: Path,
    raw_problems: Mapping[str, Any],
    file_and_splits: tuple[Path, Mapping[str, Any]],
    captions: Mapping[str, str],
    findings: list[str],
) -> ScienceQA:
    """Check everything, refuse all findings at once, else return the data set."""
    splits_file, raw_splits = file_and_splits
    problems: dict[str, Problem] = {}
    for question_id, raw in raw_problems.items():
        wrong = problem_findings(question_id, raw)
        findings += [f"{problems_file}: question {question_id}: {what}" for what in wrong]
        if not wrong:
            problems[question_id] = _to_problem(question_id, raw, captions.get(question_id, ""))
    findings += [f"{splits_file}: {what}" for what in split_findings(raw_splits, raw_problems)]
    if findings:
        raise DataError(list_findings(f"{root}: not valid ScienceQA data", findings, _REMEDY))
    splits = {name: tuple(question_ids) for name, question_ids in raw_splits.items()}
    return ScienceQA(root, problems, splits)


def check_images(dataset: ScienceQA, splits: Iterable[str]) -> None:
    """Make sure that the picture of every problem of `splits` is there and not empty.

    Raises:
        DataError: lists the files that are not, with their question ids.
    """
    problems = [problem for name in splits for problem in dataset.split(name)]
    entries = [
        (f"question {problem.question_id}", path)
        for problem in problems
        if (path := dataset.image_path(problem)) is not None
    ]
    if findings := missing_image_findings(entries):
        remedy = (
            "Put the official image archives' content under "
            f"{dataset.root / 'images'}, or make the data again (`snakemake data`)."
        )
        raise DataError(list_findings(f"{dataset.root}: images are missing", findings, remedy))


def _without(raw_splits: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    return {
        name: [item for item in ids if item not in left_out] if _is_text_list(ids) else ids
        for name, ids in raw_splits.items()
    }


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: missing or malformed file.
    """
    value = read_json(path, remedy=_REMEDY, half_characters=True)
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected an object. {_REMEDY}")
    return value


def parse_captions(
    path: Path, raw_problems: Mapping[str, Any], findings: list[str]
) -> dict[str, str]:
    """Read captions by question id; what is wrong is added to `findings`."""
    captions = read_object(path).get("captions")
    if not isinstance(captions, dict):
        findings.append(f"{path}: no object 'captions' in it")
        return {}
    for question_id, caption in captions.items():
        if question_id not in raw_problems:
            findings.append(f"{path}: question {question_id}: not in problems.json")
        if not isinstance(caption, str):
            findings.append(f"{path}: question {question_id}: caption is {caption!r}, no text")
        halves = surrogate_findings([("caption", caption)])
        findings += [f"{path}: question {question_id}: {what}" for what in halves]
    return captions


def problem_findings(question_id: str, raw: object) -> list[str]:
    """Say what is wrong with one entry of `problems.json`; empty when nothing is."""
    if not isinstance(raw, dict):
        return [f"is a {type(raw).__name__}, expected an object"]
    findings = [] if _PLAIN_NAME.fullmatch(question_id) else ["id cannot be a folder name"]
    fields = (*_TEXT_FIELDS, "choices", "answer", "image")
    findings += [f"field {name!r} is missing" for name in fields if name not in raw]
    for name in _TEXT_FIELDS:
        if not isinstance(raw.get(name, ""), str):
            findings.append(f"field {name!r} is {raw[name]!r}, expected text")
    for name, allowed in (("subject", SUBJECTS), ("grade", GRADES), ("split", SPLITS)):
        if isinstance(raw.get(name), str) and raw[name] not in allowed:
            findings.append(f"{name} is {raw[name]!r}, expected one of {', '.join(allowed)}")
    image = raw.get("image")
    if image is not None and not (isinstance(image, str) and _PLAIN_NAME.fullmatch(image)):
        findings.append(f"image is {image!r}, expected a file name or null")
    findings += surrogate_findings(
        [("id", question_id), *((name, raw.get(name)) for name in (*_TEXT_FIELDS, "image"))]
    )
    return findings + _choice_findings(raw)


def _choice_findings(raw: Mapping[str, Any]) -> list[str]:
    findings = []
    choices, answer = raw.get("choices", [""]), raw.get("answer", 0)
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return [f"choices are {choices!r}, expected a list of texts"]
    findings += surrogate_findings(("a choice", choice) for choice in choices)
    if not 1 <= len(choices) <= MAX_CHOICES:
        findings.append(f"{len(choices)} choices, expected 1 to {MAX_CHOICES}")
    if not isinstance(answer, int) or isinstance(answer, bool):
        findings.append(f"answer is {answer!r}, expected the index of a choice")
    elif raw.get("choices") and not 0 <= answer < len(choices):
        findings.append(f"answer {answer} is outside its {len(choices)} choices (index from 0)")
    return findings


def _to_problem(question_id: str, raw: Mapping[str, Any], caption: str) -> Problem:
    return Problem(
        question_id=question_id,
        choices=tuple(raw["choices"]),
        answer_index=raw["answer"],
        image=raw["image"],
        caption=caption,
        **{name: raw[name] for name in _TEXT_FIELDS},
    )


def split_findings(raw_splits: Mapping[str, Any], raw_problems: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the lists of `pid_splits.json`; empty when nothing is."""
    findings = [f"split {name!r} is missing" for name in SPLITS if name not in raw_splits]
    findings += _list_findings(raw_splits, raw_problems)
    if all(name in raw_splits for name in SPLITS):
        lists = [raw_splits[name] for name in SPLITS if _is_text_list(raw_splits[name])]
        home = {question_id for question_ids in lists for question_id in question_ids}
        findings += [
            f"question {question_id}: of problems.json, in none of {', '.join(SPLITS)}"
            for question_id in raw_problems
            if question_id not in home
        ]
    return findings


def _list_findings(raw_splits: Mapping[str, Any], raw_problems: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the lists that there are."""
    findings = []
    home: dict[str, str] = {}
    for name, question_ids in raw_splits.items():
        if not _is_text_list(question_ids):
            findings.append(f"split {name!r}: expected a list of question ids as texts")
            continue
        seen: set[str] = set()
        for question_id in question_ids:
            what = f"question {question_id}:"
            if question_id in seen:
                findings.append(f"{what} twice in split {name!r}")
            elif question_id not in raw_problems:
                findings.append(f"{what} in split {name!r} but not in problems.json")
            elif name in SPLITS:
                if question_id in home:
                    findings.append(f"{what} in split {home[question_id]!r} and in {name!r}")
                home[question_id] = name
                raw = raw_problems[question_id]
                labelled = raw.get("split") if isinstance(raw, dict) else None
                if labelled in SPLITS and labelled != name:
                    findings.append(f"{what} in split {name!r}, problems.json says {labelled!r}")
            seen.add(question_id)
    return findings


def _is_text_list(value: object) -> TypeGuard[Sequence[str]]:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, str) for item in value)
    )
