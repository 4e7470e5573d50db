"""Puts the workflow into the wheel, as ademvl/project: `ademvl run` works without a clone.

Everything else about the package stands in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = ("Snakefile", "config.yaml", "docs/deviations.md")
FOLDERS = {"workflow": "workflow", "envs": "envs", "workflow/profiles": "profiles"}
"""Profiles stand beside the Snakefile, too: there Snakemake looks for the default one."""


class BuildWithWorkflow(build_py):
    """Copies what ademvl/storage/project.py names beside the modules."""

    def run(self) -> None:
        """Build, then copy; an editable installation reads these files where they are."""
        super().run()
        if self.editable_mode:
            return
        project = Path(self.build_lib) / "ademvl" / "project"
        shutil.rmtree(project, ignore_errors=True)
        for folder, place in FOLDERS.items():
            shutil.copytree(folder, project / place)
        for file in FILES:
            (project / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, project / file)


setup(cmdclass={"build_py": BuildWithWorkflow})
