"""JSON Schema of settings classes: keys, types, ranges, defaults, descriptions, what they change.

`x-changes` is ours, see `Changes`; a method's settings are one of those of the built-in methods.
"""

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema


class _Plain(GenerateJsonSchema):
    """Leaves out titles, which only repeat the keys, and of classes all but their summary."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        """Let null stand for an entry by name, which drops what an included study has there."""
        made = super().dict_schema(schema)
        entry = made.get("additionalProperties")
        if isinstance(entry, dict) and "$ref" in entry:
            made["additionalProperties"] = {"anyOf": [entry, {"type": "null"}]}
        return made

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        made = super().dataclass_schema(schema)
        made.pop("title", None)
        if "description" in made:
            made["description"] = made["description"].partition("\n\n")[0].replace("\n", " ")
        return made


def schema_of(settings_class: type) -> dict[str, Any]:
    """Return the JSON Schema of a settings class; its groups stand under `$defs`."""
    return TypeAdapter(settings_class).json_schema(schema_generator=_Plain)
