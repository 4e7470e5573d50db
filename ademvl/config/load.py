"""Reading settings: the functions that the rest of the package uses."""

from ademvl.config.study import Study, load_study, read_run, run_to_json, study_to_json

__all__ = ["Study", "load_study", "read_run", "run_to_json", "study_to_json"]
