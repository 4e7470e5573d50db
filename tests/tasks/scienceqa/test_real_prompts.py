"""Protects the prompts of the real problems: golden case G's, for all that it has."""

import json
from dataclasses import replace

import pytest

from ademvl.config.run import PROMPT_FORMATS
from ademvl.tasks.scienceqa.prompts import build_answer, build_prompt
from ademvl.tasks.scienceqa.reader import load_scienceqa

USE_CAPTION = {"caption": True, "no_caption": False}


@pytest.fixture(scope="module")
def problems(real_dir):
    return load_scienceqa(real_dir / "scienceqa_subset").problems


@pytest.fixture(scope="module")
def golden(golden_dir):
    return json.loads((golden_dir / "G_prompts.json").read_text(encoding="utf-8"))


def test_problems_of_case_g_give_its_prompts_and_answers(problems, golden):
    covered = [key for key in golden["expected"] if key in problems]
    assert len(covered) == 31
    for key in covered:
        expected, problem = golden["expected"][key], problems[key]
        hint = golden["problems"][key]["hint"]
        if hint != problem.hint:
            # In case G three Punnett squares are described, which the subset has without.
            assert hint.startswith(f"{problem.hint}This Punnett square is ")
            problem = replace(problem, hint=hint)
        for shown, variants in expected["prompt"].items():
            for variant, text in variants.items():
                use_caption = USE_CAPTION[variant]
                assert build_prompt(problem, f"{shown}-A", use_caption=use_caption) == text
        for held, text in expected["answer"].items():
            assert build_answer(problem, f"Q-{held}") == text


def test_all_real_problems_render_in_all_formats(problems):
    assert len(problems) == 861
    for problem in problems.values():
        for prompt_format in PROMPT_FORMATS:
            prompt = build_prompt(problem, prompt_format, use_caption=True)
            assert prompt.endswith("Response:")
            assert all(choice.replace("  ", " ") in prompt for choice in problem.choices) or (
                "M" not in prompt_format.partition("-")[0]
            )
        right = "ABCDEFGHIJ"[problem.answer_index]
        assert build_answer(problem, "CQM-A") == f"The answer is {right}."
