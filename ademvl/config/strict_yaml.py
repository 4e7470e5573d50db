"""YAML in which no key stands twice in one mapping: readers would silently drop the first."""

from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """Looks at keys as they are written, before `<<` adds those of other mappings."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return node


def load_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        yaml.YAMLError: malformed, or a key occurs twice; with line and column.
    """
    return yaml.load(text, Loader=_StrictLoader)
