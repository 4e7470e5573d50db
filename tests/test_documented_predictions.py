"""Protects docs/predict.md and docs/python.md: trained adapters give the answers that stand there.

The former's examples are questions of the mini study's kinds, in forms that its adapters know.

The slow tests take the finished mini study of the folder that ADEMVL_MINI names, or else train the
two adapters that the page asks, which takes minutes.
"""

import doctest
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ademvl
from ademvl.cli import _parser, main
from ademvl.data.easy_vqa import COLORS, SHAPES, find_source, mentioned, true_answer
from ademvl.data.mini import CAPTION_TEMPLATES
from ademvl.data.mini_wordings import NEVER_RIGHT, OTHER_WORDINGS
from ademvl.demo.asking import ask
from ademvl.prediction.sample_images import FOLDER, SAMPLES
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import run_to_end

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")

PAGE = (PROJECT_ROOT / "docs/predict.md").read_text(encoding="utf-8")
RUNS = ("results/mini/runs/adem/seed0", "results/mini/runs/captions/seed0")


@dataclass(frozen=True)
class Example:
    """A command of the page, and what stands behind it: the choice, or words of the caption."""

    arguments: list[str]
    right: str


def blocks(language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def examples() -> list[Example]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    asked = [line.partition("    # ") for line in lines if "--jsonl" not in line]
    return [Example(shlex.split(command)[1:], right) for command, _, right in asked]


def requests() -> list[dict[str, object]]:
    (block,) = blocks("json")
    return [json.loads(line) for line in block.splitlines()]


def known_questions() -> set[str]:
    """Every wording of the mini study, in small letters, with each colour and shape."""
    path = find_source()[0] / "test" / "questions.json"
    known = {text for text, _, _ in json.loads(path.read_text(encoding="utf-8"))}
    wordings = [wording for several in OTHER_WORDINGS.values() for wording in several]
    known |= {w.format(color=color, shape=shape) for w in wordings for color in COLORS
              for shape in SHAPES}  # fmt: skip
    return known


@dataclass(frozen=True)
class Question:
    """What is asked in an example or a request."""

    image: str
    text: str
    choices: list[str]
    hint: str
    right: str


def questions() -> list[Question]:
    found = []
    for example in examples():
        options = _parser().parse_args(example.arguments)
        if options.question:
            found.append(
                Question(options.image or "", options.question, options.choices,
                         options.hint or "", example.right)
            )  # fmt: skip
    for request in requests():
        given = {key: request.get(key, "") for key in ("image", "question", "choices", "hint")}
        image, text, choices, hint = given.values()
        found.append(Question(image, text, choices, hint, right=""))
    return found


def shown(question: Question) -> tuple[str, str]:
    """Colour and shape that the sample image or the hint shows."""
    told = question.hint or question.image.removeprefix("sample:").replace("_", " ").removesuffix(
        ".png"
    )
    color, shape = mentioned(told, COLORS), mentioned(told, SHAPES)
    assert color
    assert shape
    return color, shape


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.text)
def test_question_is_of_the_mini_study_and_its_answer_right(question: Question) -> None:
    assert question.text.lower() in known_questions()
    color, shape = shown(question)
    right = true_answer(question.text.lower(), color, shape)
    assert right in question.choices
    assert question.right in ("", right)
    words = {
        *COLORS,
        *SHAPES,
        "yes",
        "no",
        *(word for kind in NEVER_RIGHT.values() for word in kind),
    }
    assert 2 <= len(question.choices) <= 4
    assert set(question.choices) <= words
    assert bool(question.image) != bool(question.hint)
    assert not question.hint or question.hint in {
        template.format(color=color, shape=shape) for template in CAPTION_TEMPLATES
    }


def test_examples_have_every_form() -> None:
    forms = {(len(q.choices), bool(q.image)) for q in questions()}
    assert forms >= {(2, True), (3, True), (4, True), (3, False)}
    asked = [q.text for q in questions()]
    assert {text[0].isupper() for text in asked} == {True, False}
    assert any("--caption" in example.arguments for example in examples())


def test_page_names_all_samples() -> None:
    assert {sample.file_name for sample in SAMPLES} <= set(re.findall(r"`(\w+\.png)`", PAGE))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two trained runs that the page names."""
    if "ADEMVL_MINI" in os.environ:
        return Path(os.environ["ADEMVL_MINI"])
    folder = tmp_path_factory.mktemp("mini")
    wanted = [f"{run}/adapter/adapter.json" for run in RUNS]
    run_to_end(folder, "--", *wanted, configfile=PROJECT_ROOT / "config.yaml")
    return folder


@pytest.fixture
def beside_results(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own in which the page's paths are those of the project."""
    (tmp_path / "results").symlink_to(project.resolve() / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("example", examples(), ids=lambda example: shlex.join(example.arguments))
def test_example_gets_its_answer_without_a_warning(
    example: Example,
    beside_results: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main(example.arguments) == 0
    answer = capsys.readouterr().out.splitlines()[0]
    if "--choices" in example.arguments:
        assert answer.partition(") ")[2] == example.right
    else:
        assert set(example.right.split()) <= set(answer.split())
    assert "unlike" not in caplog.text
    if "--explain" in example.arguments:
        assert (beside_results / "maps/item_1.png").stat().st_size > 10_000


@pytest.mark.slow
def test_file_of_requests_gets_its_answers(
    beside_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = blocks("json")
    (beside_results / "requests.jsonl").write_text(block, encoding="utf-8")
    (line,) = (line for block in blocks("bash") for line in block.splitlines() if "jsonl" in line)
    assert main(shlex.split(line.partition(" > ")[0])[1:]) == 0
    answers = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    asked = questions()[-len(answers) :]
    assert [a["answer"] for a in answers] == [true_answer(q.text.lower(), *shown(q)) for q in asked]
    assert [a["warnings"] for a in answers] == [[]] * len(asked)
    assert [max(a["probabilities"]) > 0.5 for a in answers] == [True] * len(asked)


@pytest.mark.slow
def test_python_page_and_readme_do_what_they_say(
    beside_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (PROJECT_ROOT / "docs/python.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, {}, "python.md", None, 0)
    result = doctest.DocTestRunner().run(test)
    assert (result.failed, result.attempted > 10) == (0, True), capsys.readouterr().out
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})
    answer, caption = capsys.readouterr().out.splitlines()
    assert (answer.split()[0], "gray triangle" in caption) == ("red", True)


@pytest.mark.slow
@pytest.mark.parametrize("example", examples(), ids=lambda example: shlex.join(example.arguments))
def test_python_and_demo_answer_as_predict_does(
    example: Example, beside_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(example.arguments) == 0
    predicted = capsys.readouterr().out.splitlines()[0]
    options = _parser().parse_args(example.arguments)
    model, image = ademvl.load(options.run), options.image
    choices, hint = tuple(options.choices or ()), options.hint or ""
    file = image and str(FOLDER / image.removeprefix("sample:"))  # as the page hands it on
    if options.caption:
        answers = [model.caption(image), ask(model, file, "caption", "", (), "").answer]
    else:
        answers = [
            model.answer(image, options.question, choices, hint=hint),
            ask(model, file, "question", options.question, choices, hint).answer,
        ]
    assert answers[0].text == answers[1].text
    for answer in answers:
        said = f"({answer.text}) {answer.answer}" if choices else answer.answer
        assert said == predicted


@pytest.mark.slow
def test_test_questions_are_answered_in_every_form(project: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(PROJECT_ROOT / "benchmarks/predict_questions.py"), *RUNS],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for form in ("two choices", "three choices", "four choices", "a hint", "captions"):
        assert form in finished.stdout
