"""The tokenizer of a language model, wherever it lies.

A SentencePiece model beside the weights decides the ids, because the LLaMA family was trained with
it. Models without one have the tokenizer that transformers knows, behind the same interface.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ademvl.config.run import BackboneSettings
from ademvl.data.tokenizer import TOKENIZER_FILE, SentencePieceTokenizer, Tokenizer
from ademvl.errors import WeightsError
from ademvl.llm.source import LlmSource, find_llm

_TIKTOKEN_START = b"IQ== 0"  # Llama 3 has a file of another kind under the same name


class TransformersTokenizer:
    """A tokenizer of transformers, such as the byte-level ones of GPT-2, SmolLM2 or Llama 3.

    Text never gives control tokens, even where it spells one. A model without begin token begins
    with its end token, as GPT-2 does. Padding plays no part: it lives in masks alone.

    Args:
        tokenizer: of transformers.
        name: where it comes from, for errors.

    Raises:
        WeightsError: it has no end token.
    """

    unscored_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: Any, *, name: str) -> None:
        self._tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise WeightsError(f"{name}: its tokenizer has no end token, which answers need")
        self.eos_id = int(tokenizer.eos_token_id)
        has_bos = tokenizer.bos_token_id is not None
        self.bos_id = int(tokenizer.bos_token_id) if has_bos else self.eos_id
        self.vocab_size = len(tokenizer)

    @classmethod
    def load(cls, source: LlmSource) -> "TransformersTokenizer":
        """Load the tokenizer of a language model.

        Raises:
            WeightsError: it has none that transformers can read, or one without end token, or
                without any other, as the first releases of transformers 5 make of no file.
        """
        from transformers import AutoTokenizer

        name = f"{source.name}/{source.gguf_file}" if source.gguf_file else source.name
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.name, **source.options)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise WeightsError(
                f"backbones.llm: {name} has no {TOKENIZER_FILE}, and transformers finds no other "
                f"tokenizer: {error}"
            ) from error
        if set(tokenizer.get_vocab().values()) <= set(tokenizer.added_tokens_decoder):
            raise WeightsError(
                f"backbones.llm: {name} has no {TOKENIZER_FILE}, and transformers finds no other "
                "tokenizer: the one it gives has control tokens alone"
            )
        return cls(tokenizer, name=name)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` alone, without begin and end."""
        ids = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return [int(i) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; control tokens such as begin and end give none."""
        return str(
            self._tokenizer.decode(
                [int(i) for i in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def load_llm_tokenizer(backbones: BackboneSettings) -> Tokenizer:
    """Load the tokenizer of the language model that the settings name.

    Raises:
        WeightsError: it is missing or damaged.
    """
    source = find_llm(backbones)
    piece_model = source.find_file(TOKENIZER_FILE)
    if piece_model is not None and not _is_tiktoken(piece_model):
        return SentencePieceTokenizer.from_file(piece_model)
    if source.is_meta:
        raise WeightsError(
            f"{source.name}: no {TOKENIZER_FILE} of SentencePiece there or beside it; put it "
            "there, or use the model in the layout of transformers"
        )
    return TransformersTokenizer.load(source)


def _is_tiktoken(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_TIKTOKEN_START)) == _TIKTOKEN_START
