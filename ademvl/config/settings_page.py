"""The schema of a study file and the page of all settings, as they stand in the repository."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ademvl.config.schema import schema_of
from ademvl.config.study_settings import StudySettings

_INTRODUCTION = """\
# Settings

Every key of a study file (`config.yaml`, `workflow/studies/*.yaml`). This page and
`workflow/schemas/config.schema.yaml` are printed from the settings classes in `ademvl/config/`,
where each default has its source.

`snakemake --configfile FILE` runs another study in place of `config.yaml`. Single keys can be
changed on the command line, nested ones as one argument:
`snakemake --cores all --config 'datasets={"easy_vqa": {"train_questions": 2000}}'`; for more than
one or two, copy the file. An unknown key or a wrong value is refused with its path, what is
allowed, and the nearest right spelling.
"""


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated parts out in full instead of as YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def schema_yaml() -> str:
    """Render the JSON schema of a study file as YAML."""
    schema = schema_of(StudySettings)
    return yaml.dump(schema, Dumper=_PlainDumper, sort_keys=False, width=96)


def settings_page() -> str:
    """Render all keys as Markdown tables, one a group."""
    lines = [_INTRODUCTION]
    for title, schema in _groups("", schema_of(StudySettings)):
        lines.append(f"## {title or 'Study'}\n")
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{key}` | {_values(entry)} | {_default(entry)} | {entry.get('description', '')} |"
            for key, entry in schema["properties"].items()
            if not _is_group(entry)
        ]
        lines.append("")
    return "\n".join(lines)


def _groups(prefix: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield prefix, schema
    for key, entry in schema["properties"].items():
        if key == "runs":
            continue  # the same keys as `defaults`
        name = f"{prefix}.{key}" if prefix else key
        if _is_group(entry):
            nested = entry.get("additionalProperties") or {}
            is_map = isinstance(nested, Mapping) and "properties" in nested
            yield from _groups(f"{name}.<name>" if is_map else name, nested if is_map else entry)


def _is_group(entry: Mapping[str, Any]) -> bool:
    nested = entry.get("additionalProperties")
    return "properties" in entry or (isinstance(nested, Mapping) and "properties" in nested)


def _values(entry: Mapping[str, Any]) -> str:
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if entry.get("type") == "array":
        return f"list of {entry['items'].get('type', 'value')}"
    return str(entry.get("type", "any"))


def _default(entry: Mapping[str, Any]) -> str:
    if "default" not in entry or entry["default"] in ("", {}):
        return ""
    default = entry["default"]
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
