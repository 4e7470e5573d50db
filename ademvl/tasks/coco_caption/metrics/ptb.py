"""Penn Treebank tokenization of captions, by the jar that pycocoevalcap ships.

The jar runs once for all sentences; that no line got lost is checked.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ademvl.errors import ToolError
from ademvl.tasks.coco_caption.metrics.java import JavaLimits, package_file, started_java

LIMITS = JavaLimits(timeout_seconds=600.0, max_heap_mib=1024)
_TOOL = "PTB tokenizer"
# Everything that the jar takes for the end of a line, so that one sentence stays one line.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")


Tokenizer = Callable[[Sequence[str]], list[str]]
"""Tokenizes each sentence; see `tokenize_sentences`."""


def tokenize_sentences(sentences: Sequence[str], *, limits: JavaLimits = LIMITS) -> list[str]:
    """Tokenize each sentence: lower case, tokens joined by one space, punctuation dropped.

    Line breaks within a sentence become spaces; lone surrogates, which no file can hold, become
    question marks and are dropped with the punctuation.

    Raises:
        ToolError: no Java runtime, or it failed, ran too long or lost lines.
    """
    with started_tokenizer(limits) as tokenize:
        return tokenize(sentences)


@contextmanager
def started_tokenizer(limits: JavaLimits) -> Iterator[Tokenizer]:
    """Start the tokenizer, which gets ready while the caller goes on, and yield it.

    It can be used once. Where there is no working Java, it says so when it is used.

    Raises:
        ToolError: its jar is missing.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    folder = Path(ptbtokenizer.__file__).parent
    jar = package_file(folder, ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, tool=_TOOL)
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    dropped = frozenset(ptbtokenizer.PUNCTUATIONS)
    with started_java(arguments, tool=_TOOL, limits=limits) as finish:
        yield lambda sentences: _tokenize(sentences, finish, dropped)


def _tokenize(
    sentences: Sequence[str], finish: Callable[[bytes], bytes], dropped: frozenset[str]
) -> list[str]:
    if not sentences:
        return []
    lines = [_LINE_BREAKS.sub(" ", sentence) for sentence in sentences]
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", errors="replace")
    tokenized = finish(text).decode("utf-8").removesuffix("\n").split("\n")
    if len(tokenized) != len(sentences):
        raise ToolError(
            f"{_TOOL}: {len(tokenized)} lines came back for {len(sentences)} sentences. "
            "The captions hold characters that it does not keep apart; please report them."
        )
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in dropped)
        for line in tokenized
    ]
