"""Penn Treebank tokenization of captions, by the jar that pycocoevalcap ships.

The jar runs once for all sentences; that no line got lost is checked.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ademvl.errors import ToolError
from ademvl.evaluation.captions.java import JavaLimits, package_file, run_java

LIMITS = JavaLimits(timeout_seconds=600.0, max_heap_mib=1024)
_TOOL = "PTB tokenizer"
# Everything that the jar takes for the end of a line, so that one sentence stays one line.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")


def tokenize_sentences(sentences: Sequence[str], *, limits: JavaLimits = LIMITS) -> list[str]:
    """Tokenize each sentence: lower case, tokens joined by one space, punctuation dropped.

    Line breaks within a sentence become spaces; lone surrogates, which no file can hold, become
    question marks and are dropped with the punctuation.

    Raises:
        ToolError: no Java runtime, or it failed, ran too long or lost lines.
    """
    if not sentences:
        return []
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    dropped = frozenset(PUNCTUATIONS)
    lines = [_LINE_BREAKS.sub(" ", sentence) for sentence in sentences]
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", errors="replace")
    output = _run_jar(text, limits).decode("utf-8")
    tokenized = output.removesuffix("\n").split("\n")
    if len(tokenized) != len(sentences):
        raise ToolError(
            f"{_TOOL}: {len(tokenized)} lines came back for {len(sentences)} sentences. "
            "The captions hold characters that it does not keep apart; please report them."
        )
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in dropped)
        for line in tokenized
    ]


def _run_jar(text: bytes, limits: JavaLimits) -> bytes:
    """Run the tokenizer on UTF-8 text, one sentence a line, and return what it printed."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    folder = Path(ptbtokenizer.__file__).parent
    jar = package_file(folder, ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, tool=_TOOL)
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    return run_java(arguments, tool=_TOOL, limits=limits, text=text)
