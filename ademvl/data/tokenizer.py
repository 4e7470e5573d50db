"""Text to token ids and back, through SentencePiece's own library.

In the LLaMA family the SentencePiece model decides what the right ids are; begin and end tokens
are put in by hand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from ademvl.config.run import LabelMask
from ademvl.data.surrogates import escape_surrogates, surrogate_findings
from ademvl.errors import DataError, WeightsError
from ademvl.storage.stand_ins import refuse_stand_in

IGNORED_LABEL = -100
FILLER_ID = 0
"""Id in padding and in slots, where nothing is scored; the reference's choice."""
TOKENIZER_FILE = "tokenizer.model"
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\s")  # a token in base64 and its rank
_MAX_SHOWN = 100


class Tokenizer(Protocol):
    """What the data layer needs of a tokenizer."""

    @property
    def bos_id(self) -> int:
        """Id that begins every sequence."""

    @property
    def eos_id(self) -> int:
        """Id that ends an answer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, up to the highest that a text can give."""

    @property
    def unscored_ids(self) -> frozenset[int]:
        """Ids that are never scored, even within an answer."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` alone, without begin and end."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""


class SentencePieceTokenizer:
    """A tokenizer in a `tokenizer.model` file.

    Its id 0, `unk`, is never scored, as in the reference implementation.
    """

    unscored_ids = frozenset({0})

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    @classmethod
    def from_file(cls, path: Path) -> "SentencePieceTokenizer":
        """Load a SentencePiece model.

        Raises:
            WeightsError: missing or damaged file, or a model without begin or end token.
        """
        from sentencepiece import SentencePieceProcessor

        if not path.is_file():
            raise WeightsError(f"{path}: no such file, expected a SentencePiece model.")
        if is_tiktoken(path):
            raise WeightsError(
                f"{path}: is a tokenizer of tiktoken, as Llama 3 has it under this name, and no "
                "SentencePiece model. Such a model is used in the layout of transformers "
                "(config.json, *.safetensors, tokenizer.json): get it in that one."
            )
        refuse_stand_in(path, expected="a SentencePiece model", error=WeightsError)
        try:
            processor = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise WeightsError(f"{path}: not a SentencePiece model, copy it again.") from error
        if processor.bos_id() < 0 or processor.eos_id() < 0:
            raise WeightsError(f"{path}: has no begin or no end token, expected both.")
        return cls(processor)

    @property
    def bos_id(self) -> int:
        """Id that begins every sequence."""
        return int(self._processor.bos_id())

    @property
    def eos_id(self) -> int:
        """Id that ends an answer."""
        return int(self._processor.eos_id())

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return int(self._processor.vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` alone, without begin and end.

        Raises:
            DataError: the text holds half of a character.
        """
        check_text(text)
        return list(self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; control tokens such as begin and end give none."""
        return str(self._processor.decode([int(i) for i in ids]))


def is_tiktoken(path: Path) -> bool:
    """Whether a file is a tokenizer of tiktoken: Llama 3 has one under SentencePiece's name."""
    with path.open("rb") as stream:
        return _TIKTOKEN_LINE.match(stream.read(_MAX_SHOWN)) is not None


def check_text(text: str) -> None:
    """Refuse what no tokenizer reads.

    Raises:
        DataError: the text holds half of a character.
    """
    if findings := surrogate_findings([("a text", text)]):
        shown = escape_surrogates(text)[:_MAX_SHOWN]
        raise DataError(f"{findings[0]}; correct it in the data: {shown!r}")


@dataclass(frozen=True)
class TokenizedText:
    """Token ids with one label each; labels that are not scored are -100."""

    ids: list[int]
    labels: list[int]


def load_tokenizer(llm_dir: Path) -> SentencePieceTokenizer:
    """Load the tokenizer that lies beside a language model's weights.

    Raises:
        WeightsError: the folder holds no readable `tokenizer.model`.
    """
    return SentencePieceTokenizer.from_file(llm_dir / TOKENIZER_FILE)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> TokenizedText:
    """Tokenize a prompt to be continued: begin, prompt; nothing is scored."""
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
    return TokenizedText(ids, [IGNORED_LABEL] * len(ids))


def encode_example(
    tokenizer: Tokenizer,
    prompt: str,
    answer: str,
    *,
    max_tokens: int,
    label_mask: LabelMask = "reference",
) -> TokenizedText:
    """Tokenize prompt and answer as one text, to be trained on: begin, text, end, cut right.

    The tokenizer's `unscored_ids` are never scored.

    Args:
        prompt: what is given.
        answer: what is learned.
        max_tokens: of the result.
        label_mask: `reference` leaves as many labels out as the prompt alone has tokens (golden
            case G). Where the prompt alone ends in other pieces than within the whole text, that
            is one too many or too few. `exact` leaves out those that both begin with.
    """
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt + answer), tokenizer.eos_id]
    alone = [tokenizer.bos_id, *tokenizer.encode(prompt)]
    num_prompt, unscored = len(alone), tokenizer.unscored_ids
    if label_mask == "exact":
        same = (ours == theirs for ours, theirs in zip(ids, alone, strict=False))
        num_prompt = sum(1 for _ in takewhile(bool, same))
    labels = [
        IGNORED_LABEL if place < num_prompt or token in unscored else token
        for place, token in enumerate(ids)
    ]
    return TokenizedText(ids[:max_tokens], labels[:max_tokens])
