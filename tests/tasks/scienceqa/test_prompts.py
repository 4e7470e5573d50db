"""Protects what prompts and answers look like; golden case G is in tests/golden."""

import pytest

from ademvl.config.run import PROMPT_FORMATS, PromptSettings
from ademvl.errors import SettingsError
from ademvl.tasks.scienceqa.prompts import build_answer, build_context, build_prompt
from ademvl.tasks.scienceqa.reader import Problem


def problem(**changes) -> Problem:
    values = {
        "question_id": "1",
        "question": "Which one?",
        "choices": ("red", "blue"),
        "answer_index": 1,
        "hint": "Look.",
        "image": None,
        "caption": "a cat",
        "lecture": "L\nl",
        "solution": "S",
    }
    labels = ("task", "grade", "subject", "topic", "category", "skill", "split")
    return Problem(**{**values, **dict.fromkeys(labels, ""), **changes})


def test_published_training_format():
    assert build_prompt(problem(), "CQM-A", use_caption=False) == (
        "Context: Look.\nQuestion: Which one?\nOptions: (A) red (B) blue\nResponse:"
    )
    assert build_answer(problem(), "CQM-A") == "The answer is B."


def test_published_evaluation_format_has_the_caption_in_its_context():
    assert build_prompt(problem(), "QCM-A", use_caption=True) == (
        "Question: Which one?\nContext: Look. a cat\nOptions: (A) red (B) blue\nResponse:"
    )


def test_lecture_and_solution_change_places_in_short_answers():
    assert build_answer(problem(), "CQM-AL") == "The answer is B. BECAUSE: S"
    assert build_answer(problem(), "CQM-AE") == "The answer is B. BECAUSE: L\\nl"


def test_context_stands_in_the_prompt_as_given():
    for hint in ("", "a   b", " x  y\nz "):
        for use_caption in (False, True):
            shown = problem(hint=hint, caption="  c   d ")
            context = build_context(shown, use_caption=use_caption)
            prompt = build_prompt(shown, "CQM-A", use_caption=use_caption)
            assert prompt.startswith(f"Context: {context}\nQuestion:")


def test_every_allowed_format_renders():
    for name in PROMPT_FORMATS:
        assert build_prompt(problem(), name, use_caption=True).endswith("\nResponse:")
        assert "The answer is B." in build_answer(problem(), name)


@pytest.mark.parametrize("name", ["CQM", "MQC-A", "cqm-a", "", "CQM-X"])
def test_unknown_format_is_refused(name):
    with pytest.raises(ValueError, match="prompt format"):
        build_prompt(problem(), name, use_caption=False) + build_answer(problem(), name)
    with pytest.raises(SettingsError, match=r"train_format: .*expected one of.*nearest"):
        PromptSettings(train_format=name)


def test_nearest_format_is_offered():
    with pytest.raises(SettingsError, match=r"nearest: CQM-A\n"):
        PromptSettings(train_format="CQMA")
