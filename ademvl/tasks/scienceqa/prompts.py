"""Renders problems as prompt and answer, in the formats of the reference implementation.

A format such as `CQM-A` names what the prompt shows (Q question, C context, M choices, L lecture,
E solution), and what the answer holds (A the letter). Golden case G pins every combination.
"""

import re
from string import ascii_uppercase

from ademvl.config.run import ANSWER_PARTS, PROMPT_PARTS
from ademvl.data.choices import ANSWER_CUE
from ademvl.tasks.scienceqa.reader import Problem

REFERENCE_EVALUATION_FORMAT = "QCM-A"
"""Format that the reference evaluates with, whatever it trained with."""

_EMPTY_CONTEXT = "N/A"
_LINES = re.compile(r"[QCM]|[LE]+")


def build_prompt(problem: Problem, prompt_format: str, *, use_caption: bool) -> str:
    r"""Render what is asked, ending in "Response:".

    Quirks of the reference that are kept: pairs of spaces become one space in a single pass, so
    that three become two; newlines of lecture and solution are written as backslash and n.

    Args:
        prompt_format: PROMPT-ANSWER; only the part before the dash matters here.
        use_caption: append the image's caption to the context.
    """
    shown = _checked(prompt_format.partition("-")[0], PROMPT_PARTS)
    lines = [_line(part, problem, use_caption) for part in _LINES.findall(shown)]
    return _tidied("\n".join([*lines, "Response:"]))


def build_open_prompt(question: str, hint: str) -> str:
    """Render a question without choices, ending in "Response:", in the order of `CQM`.

    No such question is trained on; the reference has none.
    """
    return _tidied(f"Context: {hint.strip() or _EMPTY_CONTEXT}\nQuestion: {question}\nResponse:")


def build_answer(problem: Problem, prompt_format: str) -> str:
    """Render the answer that follows "Response:" without a space.

    Quirks of the reference that are kept: `AL` explains with the solution and `AE` with the
    lecture, the reverse of their letters; an empty explanation leaves a bare "BECAUSE:".

    Args:
        prompt_format: PROMPT-ANSWER; only the part after the dash matters here.
    """
    held = _checked(prompt_format.partition("-")[2], ANSWER_PARTS)
    answer = f"{ANSWER_CUE} {ascii_uppercase[problem.answer_index]}."
    explained = {"AL": "E", "AE": "L"}.get(held, held.replace("A", ""))
    if not explained:
        return answer
    explanation = _explanation(explained, problem)
    is_answer_first = held.startswith("A")
    return _tidied(
        f"{answer} BECAUSE: {explanation}" if is_answer_first else f"{explanation} {answer}"
    )


def build_context(problem: Problem, *, use_caption: bool) -> str:
    """Return the context exactly as it stands in a prompt that shows one."""
    return _tidied(_context(problem, use_caption))


def _context(problem: Problem, use_caption: bool) -> str:
    context = f"{problem.hint} {problem.caption}" if use_caption else problem.hint
    return context.strip() or _EMPTY_CONTEXT


def _line(part: str, problem: Problem, use_caption: bool) -> str:
    if part == "Q":
        return f"Question: {problem.question}"
    if part == "C":
        return f"Context: {_context(problem, use_caption)}"
    if part == "M":
        lettered = zip(ascii_uppercase, problem.choices, strict=False)
        return "Options: " + " ".join(f"({letter}) {choice}" for letter, choice in lettered)
    return f"BECAUSE: {_explanation(part, problem)}"


def _explanation(letters: str, problem: Problem) -> str:
    texts = {"L": problem.lecture, "E": problem.solution}
    return " ".join(texts[letter].replace("\n", "\\n") for letter in letters)


def _tidied(text: str) -> str:
    return text.replace("  ", " ").strip()


def _checked(part: str, allowed: tuple[str, ...]) -> str:
    if part not in allowed:
        raise ValueError(f"prompt format: {part!r} is none of {', '.join(allowed)}")
    return part
