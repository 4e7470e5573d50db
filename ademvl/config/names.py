"""Names and folders of a study, which stand in paths, wildcards and shell lines of rules."""

import re
from collections.abc import Iterator

from ademvl.config.key_lines import KeyLines
from ademvl.config.study_settings import StudySettings
from ademvl.errors import SettingsError, list_findings

NAME = "[A-Za-z0-9_]+"
"""Of runs and data sets: what the Snakefile lets its wildcards match."""
_LONGEST_NAME = 100
_STUDY = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_FOLDER = r"[\w./][\w./@%+=:,-]{0,999}"


def check_names(settings: StudySettings, key_lines: KeyLines, *, source: str) -> None:
    """Refuse names and folders that the workflow's rules cannot take.

    Raises:
        SettingsError: lists all of them with what is allowed.
    """
    if findings := list(map(key_lines.mark, _findings(settings))):
        remedy = "Give other names or folders; a link may stand for a folder of another name."
        raise SettingsError(list_findings(f"{source}: wrong settings", findings, remedy))


def _findings(settings: StudySettings) -> Iterator[str]:
    if not re.fullmatch(_STUDY, settings.study):
        allowed = (
            "letters A-Z a-z, digits, _ . and -, with none of the last two in front, at most 100"
        )
        yield f"study: {settings.study!r}, expected {allowed}"
    for key in ("results_dir", "shared_dir"):
        if not re.fullmatch(_FOLDER, folder := getattr(settings, key)):
            allowed = "a folder of letters, digits and _ . / @ % + = : , - (no space, no ~), "
            allowed += "at most 1,000"
            yield f"{key}: {folder!r}, expected {allowed}"
    for group, names in (("datasets", settings.datasets), ("runs", settings.runs)):
        for name in names:
            is_text = isinstance(name, str)  # YAML reads others in 1, no and on
            if not is_text or len(name) > _LONGEST_NAME or not re.fullmatch(NAME, name):
                allowed = "text of letters A-Z a-z, digits and _, at most 100"
                yield f"{group}: name {name!r}, expected {allowed}"
