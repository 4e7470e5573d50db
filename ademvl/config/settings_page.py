"""The schema of a study file and the page of all settings, as they stand in the repository."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ademvl.config.json_schema import schema_of
from ademvl.config.study_settings import StudySettings

_INTRODUCTION = """\
# Settings

Every key of a study file (`config.yaml`, `workflow/studies/*.yaml`). This page and
`workflow/schemas/config.schema.yaml` are printed from the settings classes in `ademvl/config/`,
and `ademvl/methods/*/settings.py`, where each default has its source.

`snakemake --configfile FILE` runs another study in place of `config.yaml`. Single keys can be
changed on the command line, nested ones as one argument:
`snakemake --cores all --config 'datasets={"easy_vqa": {"train_questions": 2000}}'`; for more than
one or two, copy the file. An unknown key or a wrong value is refused with its path, what is
allowed, and the nearest right spelling, all that are wrong at once; with file and line where one
file has it and the command line does not change it.

`changes` says what depends on a key:

- results: the trained adapter and what is computed with it. Runs are trained and evaluated anew.
- training: the adapter only. Runs are trained anew, so their evaluation is computed anew too.
- evaluation: only what is computed with the adapter. Runs that evaluate another run's adapter may
  change it; nothing is trained anew.
- speed: time and memory.
- nothing: names, labels, places.
"""
_CHANGES = "x-changes"
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated parts out in full instead of as YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def schema_yaml() -> str:
    """Render the JSON schema of a study file as YAML."""
    schema = schema_of(StudySettings)
    return yaml.dump(schema, Dumper=_PlainDumper, sort_keys=False, width=96)


def settings_page() -> str:
    """Render all keys as Markdown tables, one a group and method."""
    lines = [_INTRODUCTION]
    for title, group in _Groups(schema_of(StudySettings)):
        lines.append(f"## {title or 'Study'}\n")
        lines += ["| key | values | default | changes | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{key}` | {_values(entry)} | {_default(entry)} | {entry[_CHANGES]} "
            f"| {entry.get('description', '')} |"
            for key, entry in group["properties"].items()
            if _CHANGES in entry
        ]
        lines.append("")
    return "\n".join(lines)


class _Groups:
    """Title and schema of each group of keys, from the outermost in.

    Args:
        schema: of a study.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield from self._of("", self._schema)

    def _of(
        self, path: str, group: Mapping[str, Any], method: str = ""
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield f"{path} of method {method}" if method else path, group
        for key, entry in group["properties"].items():
            if _CHANGES in entry or key == "runs":  # a setting; or the same keys as `defaults`
                continue
            name = f"{path}.{key}" if path else key
            if "additionalProperties" in entry:
                entry = entry["additionalProperties"]
                name, entry = f"{name}.<name>", entry.get("anyOf", [entry])[0]  # the rest is null
            for one in entry.get("anyOf", ()):
                found = self._found(one)
                yield from self._of(name, found, method=found["properties"]["name"]["const"])
            if "anyOf" not in entry:
                yield from self._of(name, self._found(entry), method)

    def _found(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what an entry refers to, or the entry."""
        reference = entry.get("$ref", "").rpartition("/")[2]
        found: Mapping[str, Any] = self._schema["$defs"][reference] if reference else entry
        return found


def _values(entry: Mapping[str, Any]) -> str:
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if "anyOf" in entry:
        return " or ".join(_values(option) for option in entry["anyOf"])
    if entry["type"] == "array":
        return f"list of {_item(entry['items'])}"
    bounds = [f"{sign} {entry[key]:g}" for key, sign in _BOUNDS.items() if key in entry]
    return f"{entry['type']}{' ' * bool(bounds)}{' and '.join(bounds)}"


def _item(entry: Mapping[str, Any]) -> str:
    return "object" if "$ref" in entry else _values(entry)


def _default(entry: Mapping[str, Any]) -> str:
    if "default" not in entry or entry["default"] in ("", {}):
        return ""
    default = entry["default"]
    shown = str(default).replace("\n", "\\n")  # a row of a table is one line
    return f"`{shown.lower() if isinstance(default, bool) else shown}`"
