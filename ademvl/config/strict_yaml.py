"""YAML in which no key stands twice in one mapping: readers would silently drop the first."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ademvl.config.nested import Path


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
    return load_with_lines(text)[0]


def load_with_lines(text: str) -> tuple[Any, Mapping[Path, int]]:
    """Parse YAML; return also the line, from 1, of each key and each entry of a list, by path.

    Raises:
        yaml.YAMLError: malformed, or a key occurs twice; with line and column.
    """
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        value = loader.construct_document(node)  # puts what `<<` adds into the node, too
        return value, dict(_lines(node, (), ()))
    finally:
        loader.dispose()


def _lines(
    node: yaml.Node, prefix: Path, above: tuple[yaml.Node, ...]
) -> Iterator[tuple[Path, int]]:
    if node in above:  # an alias of a node that it is in
        return
    if isinstance(node, yaml.MappingNode):
        entries = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(index), value, value) for index, value in enumerate(node.value)]
    else:
        return
    for name, marked, value in entries:
        path = (*prefix, name)
        yield path, marked.start_mark.line + 1
        yield from _lines(value, path, (*above, node))
