"""What a pretrained system reads as text: its prompts, its tokens, and the places of an image.

The prompts are the run's, without the frame that adapters are trained with ("Instruction:",
"Response:"); the system's own template stands around them. Tokens are those that its processor in
transformers gives for the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ademvl.config.run import RunSettings
from ademvl.config.tasks import facts_of
from ademvl.data.choices import ANSWER_CUE
from ademvl.data.examples import Example
from ademvl.data.rows import RowLayout, TokenizedExample, tokenize_examples
from ademvl.data.tokenizer import IGNORED_LABEL, check_text
from ademvl.errors import WeightsError
from ademvl.llm.source import find_llm
from ademvl.systems.settings import IMAGE, PROMPT, PretrainedSettings

_FRAME = ("Instruction: ", "Response:")


@dataclass(frozen=True)
class ImagePlaces:
    """Where an image stands among a row's tokens.

    Attributes:
        token_id: that its places hold.
        number: of places; 0 where the image reaches the text by attention alone.
        come_first: before the begin token; else where `<image>` stands in the text.
    """

    token_id: int = -1
    number: int = 0
    come_first: bool = False


class SystemTokenizer:
    """A system's own tokenizer of transformers; of its control tokens texts give `<image>` alone.

    Args:
        tokenizer: of transformers.
        bos_id: that begins every row.
        eos_id: that ends an answer.
    """

    unscored_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: Any, *, bos_id: int, eos_id: int) -> None:
        self._tokenizer = tokenizer
        self.bos_id, self.eos_id = bos_id, eos_id
        self.vocab_size = len(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` alone, without begin and end.

        Raises:
            DataError: the text holds half of a character.
        """
        check_text(text)
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; control tokens give none."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True))

    def harmless(self, text: str) -> str:
        """Return a text of the data with a blank in whatever spells a control token."""
        for token in {*self._tokenizer.all_special_tokens, IMAGE}:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text


def load_tokenizer(run: RunSettings) -> Any:
    """Load the tokenizer of transformers that lies beside a run's system.

    Raises:
        WeightsError: there is none.
    """
    from transformers import AutoTokenizer

    source = find_llm(run.backbones)
    source.refuse_stand_ins()
    try:
        return AutoTokenizer.from_pretrained(source.name)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise WeightsError(
            f"backbones.llm: transformers finds no tokenizer in {source.name}: {error}"
        ) from error


def tokenize_for_system(
    run: RunSettings,
    settings: PretrainedSettings,
    tokenizer: SystemTokenizer,
    places: ImagePlaces,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
) -> list[TokenizedExample]:
    """Return prompts as the rows that a system reads.

    Tokens of text are at most `prompts.max_seq_len`, or `prompts.evaluation_window`; those of the
    image come on top.
    """
    rows = tokenize_examples(
        tokenizer,
        [_framed(example, run, settings, tokenizer, places) for example in examples],
        RowLayout.of(tokenizer, num_slots=0, with_prefix=False),
        max_seq_len=run.prompts.window - max_new_tokens,
        overflow="cut_end" if run.prompts.cuts_end else "keep_end",
    )
    return [_with_places(row, places) for row in rows]


def _framed(
    example: Example,
    run: RunSettings,
    settings: PretrainedSettings,
    tokenizer: SystemTokenizer,
    places: ImagePlaces,
) -> Example:
    """Put an example's prompt into the system's template, the answer's cue behind it."""
    if "caption" in facts_of(run.task).learned:
        text = settings.caption_prompt
    else:
        asked = tokenizer.harmless(example.prompt)
        cue = f" {ANSWER_CUE}" if asked.endswith(ANSWER_CUE) else ""
        asked = asked.removesuffix(ANSWER_CUE).removesuffix(_FRAME[1]).removeprefix(_FRAME[0])
        text = settings.template.replace(PROMPT, asked.strip()) + cue
    if example.image is None or not places.number or places.come_first:
        text = text.replace(f"{IMAGE}\n", "").replace(IMAGE, "")
    return replace(example, prompt=text, context=tokenizer.harmless(example.context))


def _with_places(row: TokenizedExample, places: ImagePlaces) -> TokenizedExample:
    """Put the image's places into a row with an image, or with an empty one."""
    ids, image = row.ids, np.full(places.number, places.token_id, dtype=np.int32)
    if places.come_first:
        ids = np.concatenate((image, ids))
    elif places.number and (found := np.flatnonzero(ids == places.token_id)).size:
        ids = np.concatenate((ids[: found[0]], image, ids[found[0] + 1 :]))
    return replace(row, ids=ids, labels=np.full(len(ids), IGNORED_LABEL, dtype=np.int32))
