"""What `backbones.llm` names: the shipped model, a folder, a GGUF file, or a repository."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.config.downloads import META_PARAMS_FILE
from ademvl.config.mini_backbones import MINI_LLMS
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.storage.stand_ins import refuse_stand_in

MINI_LLM_DIR = MINI_LLMS["mini"]
GGUF_SUFFIX = ".gguf"
_CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class LlmSource:
    """Where a language model lies.

    Attributes:
        name: folder, or repository id on the Hugging Face hub.
        gguf_file: file in it that holds the model; empty for the layout of transformers or Meta.
    """

    name: str
    gguf_file: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder, None for a repository."""
        return Path(self.name) if Path(self.name).is_dir() else None

    @property
    def is_meta(self) -> bool:
        """Whether it is a folder in the layout of Meta's releases."""
        return self.folder is not None and is_meta_folder(self.folder)

    @property
    def options(self) -> dict[str, str]:
        """What `from_pretrained` of transformers takes beside the name."""
        return {"gguf_file": self.gguf_file} if self.gguf_file else {}

    def find_file(self, name: str) -> Path | None:
        """Return a file of the model, from the hub where it is a repository; None without it."""
        if self.gguf_file:
            return None
        if self.folder is not None:
            # Meta's releases keep the tokenizer beside the folders of the models.
            places = (self.folder, self.folder.parent) if self.is_meta else (self.folder,)
            return next((place / name for place in places if (place / name).is_file()), None)
        from transformers.utils.hub import cached_file

        try:
            found = cached_file(self.name, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            raise WeightsError(_not_there(self.name, error)) from error
        return Path(found) if found else None

    def refuse_stand_ins(self) -> None:
        """Look at the files of a folder in the layout of transformers, before it is read.

        Raises:
            WeightsError: a web page or a Git LFS pointer stands under the name of one, or a file of
                weights is a text.
        """
        if self.folder is None:
            return
        names = [self.gguf_file] if self.gguf_file else ["*.safetensors", "*.bin", "*.json"]
        for path in sorted(path for name in names for path in self.folder.glob(name)):
            is_text = path.suffix == ".json"
            expected = "JSON" if is_text else "a file of weights"
            refuse_stand_in(path, expected=expected, error=WeightsError, is_text=is_text)


def find_llm(backbones: BackboneSettings) -> LlmSource:
    """Return where the language model of the settings lies; nothing is read."""
    if backbones.llm in MINI_LLMS:
        return LlmSource(str(MINI_LLMS[backbones.llm]))
    if backbones.llm.endswith(GGUF_SUFFIX):
        name, _, file = backbones.llm.rpartition("/")
        return LlmSource(name or ".", file)
    return LlmSource(backbones.llm)


def is_meta_folder(folder: Path) -> bool:
    """Whether a folder holds params.json and a consolidated shard, but no config.json."""
    has_config = (folder / _CONFIG_FILE).is_file()
    has_params = (folder / META_PARAMS_FILE).is_file()
    return has_params and not has_config and any(folder.glob("consolidated.*.pth"))


def llm_config(backbones: BackboneSettings) -> Any:
    """Return the configuration of the language model, as transformers has it, without weights.

    Raises:
        WeightsError: it is missing or damaged.
        SettingsError: transformers knows no such model.
    """
    from transformers import AutoConfig

    source = find_llm(backbones)
    if source.is_meta:
        from ademvl.llm.meta_format import MetaCheckpoint

        return MetaCheckpoint.open(Path(source.name)).config
    source.refuse_stand_ins()
    try:
        return AutoConfig.from_pretrained(source.name, **source.options)
    except (OSError, ImportError, struct.error) as error:
        raise WeightsError(_not_there(backbones.llm, error)) from error
    except (ValueError, KeyError) as error:
        raise SettingsError(f"backbones.llm: {backbones.llm} is not known: {error}") from error


def num_embeddings(backbones: BackboneSettings) -> int | None:
    """Return the rows that the language model has for tokens; None where it does not say so.

    A plain config.json is read without transformers, which takes seconds to import.

    Raises:
        WeightsError, SettingsError: see `llm_config`.
    """
    folder = find_llm(backbones).folder
    if folder is not None and (folder / _CONFIG_FILE).is_file():
        try:
            config = json.loads((folder / _CONFIG_FILE).read_text(encoding="utf-8"))
        except ValueError:
            config = None  # transformers says what is wrong
        is_plain = isinstance(config, dict) and not any("config" in key for key in config)
        if is_plain and type(config.get("vocab_size")) is int:
            return int(config["vocab_size"])
    return getattr(llm_config(backbones).get_text_config(), "vocab_size", None)


def _not_there(name: str, error: Exception) -> str:
    return (
        f"backbones.llm: {name} cannot be loaded: {error}. Check the name, that the download is "
        "complete, or the network."
    )
