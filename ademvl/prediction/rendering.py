"""Renders requests as evaluations render items of a data set."""

from dataclasses import replace

from ademvl.config.run import RunSettings
from ademvl.config.tasks import facts_of
from ademvl.data.choices import ANSWER_CUE
from ademvl.data.examples import Example
from ademvl.prediction.requests import Request
from ademvl.tasks.coco_caption.prompts import CAPTION_PROMPT, caption_cue
from ademvl.tasks.instruction.prompts import build_instruction_prompt
from ademvl.tasks.scienceqa.prompts import (
    REFERENCE_EVALUATION_FORMAT,
    build_context,
    build_open_prompt,
    build_prompt,
)
from ademvl.tasks.scienceqa.reader import Problem


def render(request: Request, run: RunSettings) -> Example:
    """Render a request as evaluations do; there are no captions of images to put into a context."""
    context = ""
    if request.wants_caption:
        prompt = caption_cue(run.prompts)
    elif request.choices:
        problem = _problem(request)
        is_reference = run.prompts.evaluation == "reference"
        prompt_format = REFERENCE_EVALUATION_FORMAT if is_reference else run.prompts.train_format
        prompt = build_prompt(problem, prompt_format, use_caption=False) + ANSWER_CUE
        context = build_context(problem, use_caption=False)
    elif has_hint_in_text(run):
        instruction = "\n".join(filter(None, (request.question, request.hint)))
        prompt = build_instruction_prompt(instruction)
    else:
        prompt = build_open_prompt(request.question, request.hint)
    return Example(
        item_id=request.request_id,
        prompt=prompt,
        answer=None,
        image=request.image,
        context=context,
        num_choices=len(request.choices),
        has_hint=bool(request.hint) and not has_hint_in_text(run),
    )


def has_hint_in_text(run: RunSettings) -> bool:
    """Whether a hint is a part of what is asked, as in trainings on open questions."""
    return facts_of(run.task).learned[0] == "open"


def render_as_trained(request: Request, run: RunSettings) -> Example:
    """Render only what a training would show in front of its answer."""
    example = render(request, run)
    if request.wants_caption:
        return replace(example, prompt=CAPTION_PROMPT)
    if request.choices:
        prompt = build_prompt(_problem(request), run.prompts.train_format, use_caption=False)
        return replace(example, prompt=prompt)
    return example


def _problem(request: Request) -> Problem:
    """Return a question in the data set's form."""
    return Problem(
        question_id=request.request_id,
        question=request.question,
        choices=request.choices,
        answer_index=0,
        hint=request.hint,
        image=None if request.image is None else request.image.name,
    )
