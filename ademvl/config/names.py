"""Names and folders of a study, which stand in paths, wildcards and shell lines of rules."""

import re
from collections.abc import Iterator

from ademvl.config.places import Places
from ademvl.config.study_settings import StudySettings
from ademvl.errors import SettingsError, list_findings

NAME = "[A-Za-z0-9_]+"
"""Of runs and data sets: what the Snakefile lets its wildcards match."""
_STUDY = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_FOLDER = r"[\w./][\w./@%+=:,-]*"


def check_names(settings: StudySettings, places: Places, *, source: str) -> None:
    """Refuse names and folders that the workflow's rules cannot take.

    Raises:
        SettingsError: lists all of them with what is allowed.
    """
    if findings := list(map(places.mark, _findings(settings))):
        remedy = "Give other names or folders; a link may stand for a folder of another name."
        raise SettingsError(list_findings(f"{source}: wrong settings", findings, remedy))


def _findings(settings: StudySettings) -> Iterator[str]:
    if not re.fullmatch(_STUDY, settings.study):
        allowed = "letters A-Z a-z, digits, _ . and -, with none of the last two in front"
        yield f"study: {settings.study!r}, expected {allowed}"
    for key in ("results_dir", "shared_dir"):
        if not re.fullmatch(_FOLDER, folder := getattr(settings, key)):
            allowed = "a folder of letters, digits and _ . / @ % + = : , - (no space, no ~)"
            yield f"{key}: {folder!r}, expected {allowed}"
    for group, names in (("datasets", settings.datasets), ("runs", settings.runs)):
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(NAME, name):  # YAML: 1, no, on
                yield f"{group}: name {name!r}, expected text of letters A-Z a-z, digits and _"
