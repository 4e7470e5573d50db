"""Recomputes golden case F: greedy generation, from the text of prompts to the decoded answers.

Each call is made three times: as a batch with a key-value cache, row by row, and as a batch without
cache and with the padding on the other side.

The reference writes the [cls] vector of a row that had to be cut too early, or not at all. Our rows
are built with the slot where it belongs; for this comparison alone it is moved to where the
reference put it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.data.collate import collate, pad_left
from ademvl.data.examples import Example
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import Tokenizer, load_tokenizer
from ademvl.evaluation.generation import cut_at
from ademvl.golden.checks import Check
from ademvl.golden.decoding import GreedyCall
from ademvl.golden.files import GoldenSet, largest_difference
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel

# Tolerance of the set's README: several times what an independent program differs by.
LOGITS_TOLERANCE = 1e-4

_CASE = "F_generate"
_LEFT_OUT = 1 << 20  # a place outside of every row: the vector is written nowhere
_REPEATED = re.compile(r"'(.*)' followed by (\d+) times '(.*)'", re.DOTALL)


def check_generation(golden_dir: Path) -> list[Check]:
    """Compare ids, logits of every step, next tokens and strings of each call in case F."""
    golden = GoldenSet(golden_dir)
    case = golden.tensors(_CASE)
    if case is None:
        return []
    details = golden.json(_CASE)
    tokenizer = load_tokenizer(golden.folder / "models" / "weights")
    models: dict[AdemSettings, VisionLanguageModel] = {}
    checks = []
    for name, call in details["calls"].items():
        settings = golden.settings(details, call.get("hyper_override"), with_cls=call["with_cls"])
        if settings not in models:
            models[settings] = golden.model(settings).eval()
        tensors = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in case.items()
            if key.startswith(f"{name}.")
        }
        pixels = golden.pixels(f"pixels_{call['pixel_set']}")
        checks += _check_call(name, call, tensors, models[settings], tokenizer, pixels)
    return checks


def _check_call(
    name: str,
    call: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    model: VisionLanguageModel,
    tokenizer: Tokenizer,
    pixels: Tensor,
) -> list[Check]:
    rows, width = _rows(call, tokenizer), call["start_pos"]
    batch = collate(rows, trim_after_labels=False)
    expected_ids = expected["tokens_padded"][:, :width]
    case = GreedyCall(model, rows, call["pixel_index"], pixels, _slots_of_the_reference(call))
    num_steps = len(call["steps"])
    with torch.inference_mode():
        logits, next_tokens = case.cached(range(len(rows)), num_steps)
        alone = case.alone(num_steps)
        uncached = case.uncached(expected["next_token"])
    decoded = [tokenizer.decode(cut_at(row, tokenizer.eos_id)) for row in next_tokens.T.tolist()]
    slot_places = pad_left(batch).slot_start.tolist()
    return [
        _exact(name, "prompt ids", pad_left(batch).input_ids, expected_ids),
        _count(name, "slots", slot_places, call["cls_slot_expected_at"]),
        *(
            Check(_CASE, f"{name}.{what}", largest_difference(t, expected["logits"]), tolerance)
            for what, t, tolerance in (
                ("logits", logits, LOGITS_TOLERANCE),
                ("logits of rows alone", alone, LOGITS_TOLERANCE),
                ("logits without cache", uncached, LOGITS_TOLERANCE),
            )
        ),
        _exact(name, "next tokens", next_tokens, expected["next_token"]),
        _count(name, "decoded", decoded, call["decoded"]),
    ]


def _rows(call: Mapping[str, Any], tokenizer: Tokenizer) -> list[TokenizedExample]:
    """Tokenize a call's prompts as an evaluation with the reference's prompts does."""
    examples = [
        Example(
            item_id=str(number),
            prompt=_expanded(prompt),
            answer=None,
            image=Path(str(index)) if index >= 0 else None,
        )
        for number, (prompt, index) in enumerate(
            zip(call["prompts"], call["pixel_index"], strict=True)
        )
    ]
    return tokenize_examples(
        tokenizer,
        examples,
        RowLayout.of(tokenizer, num_slots=int(call["with_cls"]), with_prefix=call["with_cls"]),
        max_seq_len=call["start_pos"],
        overflow="cut_end",
    )


def _expanded(prompt: str) -> str:
    """Write out a prompt that is given as "'cat' followed by 3 times ' cat'"."""
    repeated = _REPEATED.fullmatch(prompt)
    return repeated[1] + int(repeated[2]) * repeated[3] if repeated else prompt


def _slots_of_the_reference(call: Mapping[str, Any]) -> Tensor:
    """Return the first slot of each row, counted from its begin token."""
    places = zip(
        call["cls_vector_written_at"], call["cls_slot_expected_at"], call["left_pad"], strict=True
    )
    return torch.tensor(
        [
            -1 if expected < 0 else _LEFT_OUT if written < 0 else written - padding
            for written, expected, padding in places
        ]
    )


def _exact(name: str, what: str, mine: Tensor, expected: Tensor) -> Check:
    differences = float("inf")
    if mine.shape == expected.shape:
        differences = float((mine != expected).sum())
    return Check(_CASE, f"{name}.{what}", differences, 0.0)


def _count(name: str, what: str, mine: Sequence[object], expected: Sequence[object]) -> Check:
    differing = sum(one != other for one, other in zip(mine, expected, strict=True))
    return Check(_CASE, f"{name}.{what}", float(differing), 0.0)
