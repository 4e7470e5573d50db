"""A program in place of nvidia-smi."""

import stat
from pathlib import Path


def fake_nvidia_smi(folder: Path, script: str) -> None:
    """Write a shell script as `nvidia-smi` into a folder."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
