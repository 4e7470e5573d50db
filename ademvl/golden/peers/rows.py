"""Text of the golden cases on LLaMA: questions by id, rendered and tokenized by this package.

Which rows have an image is the case's own choice (`pixel_index`), whatever the questions say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.config.method import MethodSettings
from ademvl.data.choices import ANSWER_CUE
from ademvl.data.examples import Example
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import FILLER_ID, IGNORED_LABEL, encode_example
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.tasks.scienceqa.prompts import build_answer, build_prompt
from ademvl.tasks.scienceqa.reader import Problem

EVALUATION_FORMAT = "QCM-A"
MAX_SEQ_LEN = 512
"""Of evaluation, in all released programs."""


def training_rows(
    peers: PeerSet, case: Comparison, settings: MethodSettings, pixel_index: Sequence[int]
) -> list[TokenizedExample]:
    """Build the rows of a training case, and compare their text with the recorded ids and labels.

    The recorded ids are of prompt and answer alone, before vectors are inserted. Captions are left
    out, and indicators of rows with an image not compared, where the case does not name them.
    """
    details = case.details
    width = details["settings"]["max_seq_len"]
    examples = [
        _example(
            problem, place, details["prompt_format"], use_caption=details.get("use_caption", False)
        )
        for problem, place in zip(_problems(peers, details), pixel_index, strict=True)
    ]
    texts = [
        encode_example(peers.tokenizer, example.prompt, example.answer or "", max_tokens=width)
        for example in examples
    ]
    labels = [
        [FILLER_ID if label == IGNORED_LABEL else label for label in text.labels] for text in texts
    ]
    for name, ours in (("examples", [text.ids for text in texts]), ("labels", labels)):
        expected = case.input(name)
        case.same(name, _padded(ours, width).flatten().tolist(), expected.flatten().tolist())
    if "indicators" in case.recorded:
        shown = [int(example.image is not None) for example in examples]
        case.same("indicators", shown, case.input("indicators").tolist())
    room = width - settings.text_places.before_begin  # behind what is put in front
    return _tokenized(peers, examples, settings, max_seq_len=room)


def evaluation_rows(
    peers: PeerSet,
    case: Comparison,
    name: str,
    settings: MethodSettings,
    pixel_index: Sequence[int],
    *,
    prompt_format: str = EVALUATION_FORMAT,
    cue: str = ANSWER_CUE,
) -> list[TokenizedExample]:
    """Build the rows of a call, and compare prompts and their lengths with the recorded ones.

    Args:
        case: with `calls`.
        name: of the call.
        pixel_index: picture of each row of the call, -1 without one.
        prompt_format: of the questions.
        cue: that is glued to each prompt.
    """
    call = case.details["calls"][name]
    problems = _problems(peers, case.details)
    examples = [
        _example(
            problems[row],
            place,
            prompt_format,
            use_caption=call.get("use_caption", False),
            cue=cue,
        )
        for row, place in zip(call["rows"], pixel_index, strict=True)
    ]
    room = case.details.get("max_seq_len", MAX_SEQ_LEN) - settings.text_places.before_begin
    rows = _tokenized(peers, examples, settings, max_seq_len=room)
    if "prompts" in call:
        case.same(f"{name}.prompts", [example.prompt for example in examples], call["prompts"])
    lengths = [len(row.ids) for row in rows]
    case.same(f"{name}.prompt_lengths", lengths, call["prompt_lengths"])
    return rows


def prompt_rows(
    peers: PeerSet,
    case: Comparison,
    name: str,
    settings: MethodSettings,
    pixel_index: Sequence[int],
) -> list[TokenizedExample]:
    """Build the rows of a call whose prompts end where the answer would begin; compare lengths."""
    call, problems = case.details["calls"][name], _problems(peers, case.details)
    examples = [
        replace(
            _example(problems[row], place, case.details["prompt_format"], use_caption=False),
            answer=None,
        )
        for row, place in zip(call["rows"], pixel_index, strict=True)
    ]
    rows = _tokenized(peers, examples, settings, max_seq_len=MAX_SEQ_LEN)
    lengths = [len(row.ids) for row in rows]
    case.same(f"{name}.prompt_lengths", lengths, call["prompt_lengths"])
    return rows


def _problems(peers: PeerSet, details: Mapping[str, Any]) -> list[Problem]:
    return [peers.problems[question_id] for question_id in details["qids"]]


def _example(
    problem: Problem,
    pixel_place: int,
    prompt_format: str,
    *,
    use_caption: bool,
    cue: str | None = None,
) -> Example:
    """Build an example to learn, or with a cue one that is asked."""
    prompt = build_prompt(problem, prompt_format, use_caption=use_caption)
    return Example(
        item_id=problem.question_id,
        prompt=prompt + (cue or ""),
        answer=build_answer(problem, prompt_format) if cue is None else None,
        image=Path(str(pixel_place)) if pixel_place >= 0 else None,
    )


def _tokenized(
    peers: PeerSet, examples: Sequence[Example], settings: MethodSettings, *, max_seq_len: int
) -> list[TokenizedExample]:
    num_slots = settings.text_places.with_image
    return tokenize_examples(
        peers.tokenizer,
        examples,
        RowLayout.of(peers.tokenizer, num_slots=num_slots, with_prefix=num_slots > 0),
        max_seq_len=max_seq_len,
        overflow="cut_end",
    )


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor([[*row, *[FILLER_ID] * (width - len(row))] for row in rows])
