"""What all modules of verbs share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Handler = Callable[[argparse.Namespace], int]
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs,
    name: str,
    handler: Handler,
    summary: str,
) -> argparse.ArgumentParser:
    """Add one verb, done by `handler`, which returns the exit code."""
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(handler=handler)
    return parser


def run_dir_of(path: Path) -> Path:
    """Return the run directory that a user named, or whose run.yaml."""
    return path.parent if path.name == "run.yaml" else path


def set_threads(threads: int | None) -> None:
    """Limit torch to `threads` CPU threads; None leaves its own choice."""
    import torch

    if threads:
        torch.set_num_threads(threads)
