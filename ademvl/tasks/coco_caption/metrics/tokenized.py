"""Tokenized captions and references; references are tokenized once and kept.

They are kept in a hidden folder beside their file, one file for each checksum of their texts, which
may be deleted at any time. A file that is not what was written is written anew.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from ademvl.errors import AdemvlError
from ademvl.storage.files import atomic_path
from ademvl.tasks.coco_caption.metrics.ptb import Tokenizer

KEPT_FOLDER = ".tokenized_references"

Tokenized = dict[int, list[str]]
"""Tokenized texts by image id."""

_log = logging.getLogger(__name__)


def tokenize_captions(
    references: Mapping[int, Sequence[str]],
    captions: Sequence[Mapping[int, str]],
    *,
    tokenize: Tokenizer,
    beside: Path | None = None,
) -> tuple[Tokenized, list[Tokenized]]:
    """Tokenize references and sets of captions of the same images in one run of the tokenizer.

    Args:
        references: by image id.
        captions: each with one caption for each of these images.
        tokenize: tokenizes sentences.
        beside: folder of the references' file, where they are kept; None keeps nothing.

    Returns:
        References, and each set of captions, in ascending order of image ids.

    Raises:
        ToolError: the tokenizer cannot run.
    """
    image_ids = sorted(references)
    texts = [text for image_id in image_ids for text in references[image_id]]
    kept = beside and _Kept(beside, texts)
    known = kept.read() if kept else None
    wanted = [found[image_id] for found in captions for image_id in image_ids]
    tokenized = tokenize(wanted if known is not None else [*wanted, *texts])
    rest = iter(tokenized)
    tokenized_captions = [{image_id: [next(rest)] for image_id in image_ids} for _ in captions]
    if known is None:
        known = list(rest)
        if kept:
            kept.write(known)
    others = iter(known)
    tokenized_references = {
        image_id: [next(others) for _ in references[image_id]] for image_id in image_ids
    }
    return tokenized_references, tokenized_captions


class _Kept:
    """The file of some references: a line with a checksum, then a line for each.

    Args:
        folder: of the references' file.
        texts: references before they are tokenized.
    """

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._num_texts = len(texts)
        tokenizer = f"PTB tokenizer of pycocoevalcap {version('pycocoevalcap')}"
        named = hashlib.sha256(json.dumps([tokenizer, *texts]).encode()).hexdigest()
        self._path = folder / KEPT_FOLDER / f"{named}.txt"

    def read(self) -> list[str] | None:
        """Return the tokenized references; None where they are not there as they were written."""
        try:
            checksum, content = self._path.read_text(encoding="utf-8").split("\n", maxsplit=1)
        except (OSError, ValueError):
            return None
        lines = content.split("\n")
        if checksum != _checksum(content) or len(lines) != self._num_texts:
            _log.info("%s: damaged, the references are tokenized anew", self._path)
            return None
        return lines

    def write(self, lines: Sequence[str]) -> None:
        """Keep them, if the folder may be written to."""
        content = "\n".join(lines)
        with (
            contextlib.suppress(OSError, AdemvlError),
            atomic_path(self._path, durable=False) as temporary,
        ):
            temporary.write_text(f"{_checksum(content)}\n{content}", encoding="utf-8")


def _checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
