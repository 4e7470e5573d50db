"""The tokenizer of a language model, wherever it lies.

A SentencePiece model beside the weights decides the ids, because the LLaMA family was trained with
it. Models without one have the tokenizer that transformers knows, behind the same interface.
"""

from collections.abc import Sequence
from typing import Any

from ademvl.config.run import BackboneSettings
from ademvl.data.tokenizer import (
    TOKENIZER_FILE,
    SentencePieceTokenizer,
    Tokenizer,
    check_text,
    is_tiktoken,
)
from ademvl.errors import WeightsError
from ademvl.llm.source import LlmSource, find_llm, num_embeddings
from ademvl.storage.files import read_json


class TransformersTokenizer:
    """A tokenizer of transformers, such as the byte-level ones of GPT-2, SmolLM2 or Llama 3.

    Text never gives control tokens, even where it spells one. Rows begin with the tokenizer's begin
    token, whether or not it would put it there itself: most models that add none, such as SmolLM2
    and Phi 2, were trained on texts with that token between them. Where the tokenizer has none, it
    is that of the model's configuration (Qwen), and else the end token (GPT-2, OLMo). Padding plays
    no part: it lives in masks alone.

    Args:
        tokenizer: of transformers.
        name: where it comes from, for errors.
        model_bos_id: begin token of the model's configuration; None without any.

    Raises:
        WeightsError: it has no end token.
    """

    unscored_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: Any, *, name: str, model_bos_id: int | None = None) -> None:
        self._tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise WeightsError(f"{name}: its tokenizer has no end token, which answers need")
        self.eos_id = int(tokenizer.eos_token_id)
        candidates = (tokenizer.bos_token_id, model_bos_id, self.eos_id)
        self.bos_id = int(next(number for number in candidates if number is not None))
        self.vocab_size = 1 + max(self._ids_of_text())

    @classmethod
    def load(cls, source: LlmSource) -> "TransformersTokenizer":
        """Load the tokenizer of a language model.

        Raises:
            WeightsError: it has none that transformers can read, or one without end token, or
                without any other, as the first releases of transformers 5 make of no file.
        """
        from transformers import AutoTokenizer

        name = f"{source.name}/{source.gguf_file}" if source.gguf_file else source.name
        source.refuse_stand_ins()
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.name, **source.options)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise WeightsError(
                f"backbones.llm: {name} has no {TOKENIZER_FILE} of SentencePiece, and transformers "
                f"finds no other tokenizer: {error}"
            ) from error
        if set(tokenizer.get_vocab().values()) <= set(tokenizer.added_tokens_decoder):
            raise WeightsError(
                f"backbones.llm: {name} has no {TOKENIZER_FILE} of SentencePiece, and transformers "
                "finds no other tokenizer: the one it gives has control tokens alone"
            )
        known = {*tokenizer.get_vocab().values(), *tokenizer.added_tokens_decoder}
        bos_id = _bos_of_model(source)
        return cls(tokenizer, name=name, model_bos_id=bos_id if bos_id in known else None)

    def _ids_of_text(self) -> set[int]:
        """Return all ids but those of control tokens that no text gives and no row needs."""
        added = self._tokenizer.added_tokens_decoder
        control = {number for number, token in added.items() if token.special}
        return {*self._tokenizer.get_vocab().values()} - control | {self.bos_id, self.eos_id}

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` alone, without begin and end.

        Raises:
            DataError: the text holds half of a character.
        """
        check_text(text)
        ids = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return [int(i) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; control tokens such as begin and end give none."""
        return str(
            self._tokenizer.decode(
                [int(i) for i in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def _bos_of_model(source: LlmSource) -> int | None:
    """Return the begin token that config.json of a model names; None without any."""
    path = source.find_file("config.json")
    if path is None:
        return None
    config = read_json(path, remedy="Get the model again.")
    config = config.get("text_config", config) if isinstance(config, dict) else {}
    number = config.get("bos_token_id") if isinstance(config, dict) else None
    return number if type(number) is int else None


def load_llm_tokenizer(backbones: BackboneSettings) -> Tokenizer:
    """Load the tokenizer of the language model that the settings name.

    Raises:
        WeightsError: it is missing or damaged, or has tokens that the model has no row for.
    """
    source = find_llm(backbones)
    piece_model = source.find_file(TOKENIZER_FILE)
    tokenizer: Tokenizer
    if piece_model is not None and (source.is_meta or not is_tiktoken(piece_model)):
        tokenizer = SentencePieceTokenizer.from_file(piece_model)
    elif source.is_meta:
        raise WeightsError(
            f"{source.name}: no {TOKENIZER_FILE} of SentencePiece there or beside it; put it "
            "there, or use the model in the layout of transformers"
        )
    else:
        tokenizer = TransformersTokenizer.load(source)
    if not source.gguf_file:  # which holds both
        _check_rows(tokenizer, backbones)
    return tokenizer


def _check_rows(tokenizer: Tokenizer, backbones: BackboneSettings) -> None:
    """Refuse a tokenizer of another model: ids without a row end in an error deep inside."""
    rows = num_embeddings(backbones)
    if rows is not None and tokenizer.vocab_size > rows:
        raise WeightsError(
            f"backbones.llm: the tokenizer of {backbones.llm} has {tokenizer.vocab_size} pieces, "
            f"but its model has {rows} rows: they do not belong together. Get both from where the "
            "model was released."
        )
