"""Write a study's settings, as the rule study_settings passes them (`snakemake` is the job)."""

from pathlib import Path

from ademvl.config.settings_files import write_settings

write_settings(Path(snakemake.output[0]), snakemake.params.settings)  # noqa: F821
