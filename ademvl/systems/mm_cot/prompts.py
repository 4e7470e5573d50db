r"""Renders problems as MM-CoT's source and target texts (golden case C of mm_cot).

A format such as `QCM-E` names what the source shows, as elsewhere, and what the target holds: E
the solution, L the lecture, A the answer. `QCMG-A` shows a rationale too: that of training is the
lecture and the solution, that of evaluation what the first stage wrote.

Quirks of the reference that are kept: line breaks of lecture and solution are written as backslash
and n; `LE` ends in a period of its own; a target that ends in "BECAUSE:" loses all of them.
"""

import re
from string import ascii_uppercase

from ademvl.data.choices import ANSWER_CUE, NO_ANSWER
from ademvl.tasks.scienceqa.reader import Problem

RATIONALE_CUE, ANSWER_END = "Solution:", "Answer:"
_SHOWN = ("QCM", "QCMG")
_HELD = ("E", "LE", "A", "LEA", "ALE")
_BECAUSE = "BECAUSE:"
_STATED = re.compile(rf"{ANSWER_CUE} \(([A-Z])\)")


def build_source(
    problem: Problem, text_format: str, *, use_caption: bool, rationale: str = ""
) -> str:
    """Render what the encoder reads, all white space collapsed to single blanks.

    Args:
        text_format: SHOWN-HELD.
        use_caption: append the image's caption to the context.
        rationale: of `QCMG` in evaluation; that of training if empty.
    """
    shown, held = _checked(text_format)
    context = f"{problem.hint} {problem.caption}" if use_caption else problem.hint
    lettered = zip(ascii_uppercase, problem.choices, strict=False)
    options = " ".join(f"({letter}) {choice}" for letter, choice in lettered)
    end = ANSWER_END if held == "A" else RATIONALE_CUE
    if shown == "QCMG":
        end = f"{rationale or gold_rationale(problem)} {ANSWER_END}"
    return _collapsed(
        f"Question: {problem.question} Context: {context.strip() or 'N/A'} Options: {options} {end}"
    )


def build_target(problem: Problem, text_format: str) -> str:
    """Render what the decoder learns, all white space collapsed to single blanks."""
    _, held = _checked(text_format)
    lecture, solution = _written(problem.lecture), _written(problem.solution)
    answer = f"{ANSWER_CUE} ({ascii_uppercase[problem.answer_index]})."
    target = {
        "E": f"{RATIONALE_CUE} {solution}",
        "LE": f"{RATIONALE_CUE} {lecture} {solution}.",
        "A": answer,
        "LEA": f"{lecture} {solution} {answer}",
        "ALE": f"{answer} {_BECAUSE} {lecture} {solution}",
    }[held]
    if target.endswith(_BECAUSE):
        target = target.replace(_BECAUSE, "")
    return _collapsed(target)


def gold_rationale(problem: Problem) -> str:
    """Return the rationale that the second stage is trained with."""
    return f"{RATIONALE_CUE} {_written(problem.lecture)} {_written(problem.solution)}"


def stated_letter(text: str) -> str | None:
    """Return the letter that a text states as its answer, None unless it states exactly one."""
    found: list[str] = _STATED.findall(text)
    return found[0] if len(found) == 1 else None


def stated_choice(text: str, *, num_choices: int) -> int:
    """Return the 0-based choice that a text states, or NO_ANSWER."""
    letter = stated_letter(text)
    index = NO_ANSWER if letter is None else ascii_uppercase.index(letter)
    return index if index < num_choices else NO_ANSWER


def _written(text: str) -> str:
    return text.replace("\n", "\\n")


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _checked(text_format: str) -> tuple[str, str]:
    shown, _, held = text_format.partition("-")
    if shown not in _SHOWN or held not in _HELD:
        expected = f"{'|'.join(_SHOWN)}, a dash, one of {'|'.join(_HELD)}"
        raise ValueError(f"text format: {text_format!r}, expected one of {expected}")
    return shown, held
