"""Assumed lengths of texts, for data that is not there yet.

They stand in `text_lengths.yaml` of each task's folder, by what is trained on or evaluated, behind
the source of data that is made up:

- `with_image`, `text_only`: characters of prompt and answer, at the middles of 20 equal parts of
  the items
- `scored`: answer tokens, the end token included
- `most`: characters of the longest item, where something limits them
- `explanation`: characters of lecture and solution, which some formats add
- `per_token`: characters of a token of LLaMA's tokenizer: an assumption, right within about 15 %
- `origin`: how the numbers came about
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

import ademvl
from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.planning.rows import Row, num_inserted
from ademvl.tasks.registry import task_named

_TASKS = Path(ademvl.__file__).parent / "tasks"
_LENGTH_GROUPS = 20


@cache
def length_table() -> dict[str, Any]:
    """Read what is known of lengths of texts, by task."""
    table: dict[str, Any] = {}
    for file in sorted(_TASKS.glob("*/text_lengths.yaml")):
        table |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return table


def text_lengths(
    run: RunSettings, dataset: DatasetSettings, *, is_training: bool
) -> dict[str, Any]:
    """Return what is known about lengths of what a run trains on, or is evaluated on."""
    prefix = f"{dataset.source}_" if dataset.is_mini else ""
    name = run.task if is_training else run.evaluation_task
    lengths: dict[str, Any] = length_table()[prefix + name]
    return lengths


def assumed_rows(
    run: RunSettings, lengths: dict[str, Any], image_fraction: float, is_training: bool
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return rows of assumed lengths, with and without images in the right proportion.

    The second part is the longest row that can occur, if something limits it.
    """
    per_token, room = lengths["per_token"], run.prompts.max_seq_len
    extra = sum(lengths.get("explanation", {}).get(part, 0) for part in run.prompts.train_format)

    def count(text: str) -> int:
        return max(1, round(len(text) / per_token))

    def row(characters: int, *, has_image: bool) -> Row:
        inserted = num_inserted(run, count, has_image=has_image)
        scored = lengths["scored"] if is_training else 0
        spoken = characters + extra - (0 if is_training else per_token * lengths["scored"])
        return Row(min(1 + inserted + round(spoken / per_token), room), scored, has_image)

    every_prompt = task_named(run.task).every_prompt
    if every_prompt and not is_training:
        inserted = num_inserted(run, count, has_image=True)
        prompt = (Row(1 + inserted + count(every_prompt), 0, has_image=True),)
        return prompt, prompt
    shown = run.images == "shown"
    num_with = round(_LENGTH_GROUPS * image_fraction)
    groups = [("with_image", shown)] * num_with
    groups += [("text_only", False)] * (_LENGTH_GROUPS - num_with)
    rows = (
        row(characters, has_image=has_image)
        for name, has_image in groups
        for characters in lengths[name]
    )
    longest = (row(lengths["most"], has_image=shown),) if "most" in lengths else ()
    return tuple(rows), longest
