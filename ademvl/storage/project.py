"""Where the workflow lies: Snakefile, config.yaml, workflow/, and the docs that are read."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "project"
"""What an installation from a wheel brings; setup.py puts it there."""

PROJECT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
SNAKEFILE = PROJECT / "Snakefile"
STUDIES = Path("workflow/studies")
"""Study files, in the project and in folders that people work in."""
