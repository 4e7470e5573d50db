"""Recomputes the golden cases about text and pixels: G (prompts, tokens, captions) and H (images).

All sizes and settings come from the case's own files, so that other sets of the same format can be
checked. A case whose files are absent gives no checks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.config.run import PROMPT_FORMATS
from ademvl.data.images import Preprocessing, load_pixels
from ademvl.data.tokenizer import (
    FILLER_ID,
    IGNORED_LABEL,
    SentencePieceTokenizer,
    TokenizedText,
    encode_example,
    load_tokenizer,
)
from ademvl.errors import DataError
from ademvl.golden.checks import Check
from ademvl.storage.files import read_json
from ademvl.tasks.coco_caption.reader import extract_caption, normalize_caption
from ademvl.tasks.scienceqa.prompts import build_answer, build_prompt
from ademvl.tasks.scienceqa.reader import Problem

_REMEDY = "Copy the golden set again."
_CAPTION_KEYS = {"no_caption": False, "caption": True}
_WORD_LIMIT = re.compile(r"pre_caption_\D*(\d+)")
GREY_LEVELS = 255
MEAN_TOLERANCE = 1e-3
"""On mean and std over a whole image: far below one grey level, about 0.015."""


def check_prompts(golden_dir: Path) -> list[Check]:
    """Compare all prompts and answers of case G with ours, as strings."""
    content = _read_case(golden_dir, "G_prompts")
    if content is None:
        return []
    problems = problems_of(content)
    prompts: list[tuple[str, str]] = []
    answers: list[tuple[str, str]] = []
    for question_id, expected in content["expected"].items():
        problem = problems[question_id]
        for shown, variants in expected["prompt"].items():
            prompts += [
                (build_prompt(problem, f"{shown}-A", use_caption=_CAPTION_KEYS[key]), text)
                for key, text in variants.items()
            ]
        answers += [
            (build_answer(problem, f"Q-{held}"), text) for held, text in expected["answer"].items()
        ]
    refused = set(content["prompt_formats_on_the_command_line"]) - set(PROMPT_FORMATS)
    return [
        _exact("G_prompts", f"{len(prompts)} prompts", _num_different(prompts)),
        _exact("G_prompts", f"{len(answers)} answers", _num_different(answers)),
        _exact("G_prompts", "formats refused", len(refused)),
    ]


def check_tokens(golden_dir: Path) -> list[Check]:
    """Compare the token ids and labels of case G's problems with ours, at each length."""
    content = _read_case(golden_dir, "G_tokens")
    if content is None:
        return []
    prompts = _read_case(golden_dir, "G_prompts")
    if prompts is None:
        raise DataError(f"{golden_dir}: G_tokens needs the problems of G_prompts.json. {_REMEDY}")
    tensors = _read_tensors(golden_dir, "G_tokens")
    tokenizer = _tokenizer(golden_dir)
    problems = problems_of(prompts)
    prompt_format = content["prompt_format"]
    checks = []
    for name, settings in content["arrays"].items():
        texts = [
            encode_example(
                tokenizer,
                build_prompt(problem, prompt_format, use_caption=settings["use_caption"]),
                build_answer(problem, prompt_format),
                max_tokens=settings["max_words"],
            )
            for problem in (problems[question_id] for question_id in content["order"])
        ]
        checks += _compare_rows("G_tokens", f"{name} ", f"{name}.", texts, tensors)
    return checks


def check_captions(golden_dir: Path) -> list[Check]:
    """Compare cleaned captions, their token ids, and captions found in generated text."""
    content = _read_case(golden_dir, "G_captions")
    if content is None:
        return []
    tokenizer = _tokenizer(golden_dir)
    prompt, max_words = content["prompt"], content["max_words"]
    cleaned = [
        (normalize_caption(item["raw"], max_words=int(found[1])), text)
        for item in content["items"]
        for key, text in item.items()
        if (found := _WORD_LIMIT.fullmatch(key))
    ]
    extracted = [
        (extract_caption(row["generated"]), row["caption"])
        for row in content["caption_extraction_after_generation"]
    ]
    texts = []
    for item in content["items"]:
        answer = prompt + normalize_caption(item["raw"], max_words=max_words)
        texts.append(encode_example(tokenizer, prompt, answer, max_tokens=max_words))
    tensors = _read_tensors(golden_dir, "G_captions")
    return [
        _exact("G_captions", f"{len(cleaned)} cleaned captions", _num_different(cleaned)),
        _exact("G_captions", f"{len(extracted)} extracted captions", _num_different(extracted)),
        *_compare_rows("G_captions", "", "", texts, tensors),
    ]


def check_images(golden_dir: Path) -> list[Check]:
    """Compare the preprocessed pixels of case H's images with ours.

    Another version of Pillow may differ by one grey level in single pixels, hence the tolerance;
    mean and std over the whole image may not move.
    """
    content = _read_case(golden_dir, "H_images")
    if content is None:
        return []
    tensors = _read_tensors(golden_dir, "H_images")
    stride = content["stride"]
    checks = []
    for task, (mean, std) in content["mean_std"].items():
        strided_error = statistics_error = 0.0
        for name, facts in content["images"].items():
            expected = tensors[f"{name}.{task}_strided"]
            size = _image_size(golden_dir, num_kept=expected.shape[-1], stride=stride)
            preprocessing = Preprocessing(size, tuple(mean), tuple(std))
            pixels = load_pixels(bytes(tensors[f"{name}.png"].tolist()), preprocessing)
            difference = (pixels[:, ::stride, ::stride] - expected).abs().max()
            strided_error = max(strided_error, difference.item())
            statistics_error = max(
                statistics_error,
                abs(pixels.mean().item() - facts[f"{task}_mean"]),
                abs(pixels.std().item() - facts[f"{task}_std"]),
            )
        one_level = 1 / GREY_LEVELS / min(std) + 1e-5
        checks += [
            Check("H_images", f"{task} pixels", strided_error, one_level),
            Check("H_images", f"{task} mean and std", statistics_error, MEAN_TOLERANCE),
        ]
    return checks


def problems_of(content: Mapping[str, Any]) -> dict[str, Problem]:
    """Return the questions that case G holds, by id, as far as prompts read them."""
    texts = ("question", "hint", "image", "caption", "lecture", "solution")
    return {
        question_id: Problem(
            question_id=question_id,
            choices=tuple(raw["choices"]),
            answer_index=raw["answer"],
            **{name: raw[name] for name in texts},
        )
        for question_id, raw in content.get("problems", {}).items()
    }


def _read_case(golden_dir: Path, name: str) -> dict[str, Any] | None:
    path = golden_dir / f"{name}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = read_json(path, remedy=_REMEDY)
    return content


def _read_tensors(golden_dir: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = golden_dir / f"{name}.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {_REMEDY}") from error
    return tensors


def _tokenizer(golden_dir: Path) -> SentencePieceTokenizer:
    return load_tokenizer(golden_dir / "models" / "weights")


def _compare_rows(
    case: str,
    what: str,
    key: str,
    texts: Sequence[TokenizedText],
    tensors: Mapping[str, Tensor],
) -> list[Check]:
    """Compare ids and labels, padded with 0, and both masks."""
    width = tensors[f"{key}example"].shape[1]
    ids = _padded([text.ids for text in texts], width)
    labels = _padded([text.labels for text in texts], width)
    labels[labels == IGNORED_LABEL] = FILLER_ID
    lengths = torch.tensor([len(text.ids) for text in texts])
    ours = {
        "example": ids,
        "labels": labels,
        "example_mask": torch.arange(width) < lengths[:, None],
        "label_mask": labels != FILLER_ID,
    }
    return [
        _exact(case, f"{what}{name}", _num_unequal(mine, tensors[f"{key}{name}"]))
        for name, mine in ours.items()
    ]


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    width = max(width, *map(len, rows))
    return torch.tensor([[*row, *[FILLER_ID] * (width - len(row))] for row in rows])


def _num_unequal(mine: Tensor, expected: Tensor) -> int:
    if mine.shape != expected.shape:
        return max(mine.numel(), expected.numel())
    return int((mine.to(torch.int64) != expected.to(torch.int64)).sum())


def _num_different(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(mine != expected for mine, expected in pairs)


def _exact(case: str, what: str, num_differences: int) -> Check:
    return Check(case, what, float(num_differences), 0.0)


def _image_size(golden_dir: Path, *, num_kept: int, stride: int) -> int:
    """Return the side of the square of which every `stride`-th of `num_kept` pixels was stored."""
    model = golden_dir / "models" / "model.json"
    if model.exists():
        size = int(read_json(model, remedy=_REMEDY)["clip"]["image"])
        if -(-size // stride) == num_kept:
            return size
    return num_kept * stride
