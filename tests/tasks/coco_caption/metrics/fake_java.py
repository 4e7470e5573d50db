"""Programs that stand in for a Java runtime that does not work."""

from pathlib import Path


def write_program(path: Path, script: str) -> Path:
    """Write an executable shell script and return its path."""
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
