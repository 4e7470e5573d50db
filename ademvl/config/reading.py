"""Reading of settings and records: everything that is wrong is found at once, with its place."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ademvl.config.findings import REMEDY, SettingsFinding, findings_of
from ademvl.config.key_lines import KeyLines
from ademvl.config.nested import Path, without
from ademvl.config.plain import all_plain
from ademvl.errors import SettingsError, list_findings

Settings = TypeVar("Settings")


def read(
    settings_class: type[Settings],
    raw: Mapping[str, Any],
    *,
    source: str,
    key_lines: KeyLines | None = None,
    remedy: str = REMEDY,
) -> Settings:
    """Check raw settings and build their object; absent keys get their defaults.

    Args:
        settings_class: made by `settings_class` or `record_class`.
        raw: keys and values as read; what arrives as text (`--config`, `9e-3`) is converted.
        source: file or place they come from, named in errors.
        key_lines: file and line of the keys, where they are known.
        remedy: last line of the error.

    Raises:
        SettingsError: lists every wrong key and value with its path, what was found, what is
            allowed, and the nearest right spelling; and combinations that cannot work.
    """
    settings, findings = try_reading(settings_class, raw)
    if settings is None:
        raise refusal(findings, source=source, key_lines=key_lines or KeyLines(), remedy=remedy)
    return settings


def refusal(
    findings: list[SettingsFinding], *, source: str, key_lines: KeyLines, remedy: str = REMEDY
) -> SettingsError:
    """Return the error that lists findings."""
    texts = dict.fromkeys(
        f"{line}: {finding}" if (line := key_lines.find(finding.path)) else str(finding)
        for finding in findings
    )
    return SettingsError(list_findings(f"{source}: wrong settings", list(texts), remedy))


def try_reading(
    settings_class: type[Settings], raw: Mapping[str, Any]
) -> tuple[Settings | None, list[SettingsFinding]]:
    """Build a settings object, or return all that is wrong with what was read.

    What is wrong by itself is taken away until the rest can be looked at as a whole.
    """
    remaining, findings, removed = all_plain(raw), list[SettingsFinding](), set[Path]()
    while True:
        try:
            settings = _validate(settings_class, remaining)
            return (None if findings else settings), findings
        except ValidationError as error:
            found = findings_of(error, settings_class, remaining, removed=removed)
        findings += [one for one in found if not removed.intersection(one.about)]
        wrong = {path for one in found if not one.is_relation for path in one.about}
        reduced = remaining
        for path in wrong:
            reduced = without(reduced, path)
        if reduced == remaining:
            return None, findings
        remaining, removed = reduced, removed | wrong


def _validate(settings_class: type[Settings], raw: Any) -> Settings:
    validator = settings_class.__pydantic_validator__  # type: ignore[attr-defined]
    settings: Settings = validator.validate_python(raw)
    return settings
