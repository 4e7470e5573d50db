"""YAML that is read as it is meant, or refused: readers would silently do something else.

No key stands twice in one mapping, as all but the last would be dropped; keys are text; numbers are
neither octal nor of base 60 by the look of them; nothing holds itself.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ademvl.config.nested import Path

_OTHERS = ("bool", "int", "float", "null", "timestamp")
"""What plain scalars may be that are no text: last part of their tag."""
_ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""YAML 1.1 takes 010 for 8 and 1:30 for 90."""


class _StrictLoader(yaml.SafeLoader):
    """Looks at keys as they are written, before `<<` adds those of other mappings."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str | None] = []  # anchors of the nodes around the present one

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise _error(f"*{event.anchor} is an alias of what it stands in", event.start_mark)
        self._open.append(None if isinstance(event, yaml.AliasEvent) else event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if _kind(node) in ("int", "float") and _ODD_NUMBER.fullmatch(node.value):
            value = self.construct_object(node)
            message = f"{node.value} is read as {value}; write {value}, or quotes for a text"
            raise _error(message, node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _error(f"key {key.value!r} occurs twice", key.start_mark)
                if _kind(key) in _OTHERS:
                    value = json.dumps(self.construct_object(key), default=str)
                    message = f"quote the key {key.value}: YAML reads it as {value}, not as a text"
                    raise _error(message, key.start_mark)
                seen.add(key.value)
        return node


def _kind(node: yaml.ScalarNode) -> str:
    return str(node.tag).rpartition(":")[2]


def _error(message: str, mark: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, message, mark)


def load_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        yaml.YAMLError: malformed, or not read as it is meant; with line and column.
    """
    return load_with_lines(text)[0]


def load_with_lines(text: str) -> tuple[Any, Mapping[Path, int]]:
    """Parse YAML; return also the line, from 1, of each key and each entry of a list, by path.

    Raises:
        yaml.YAMLError: malformed, or not read as it is meant; with line and column.
    """
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        value = loader.construct_document(node)  # puts what `<<` adds into the node, too
        return value, dict(_lines(node, ()))
    finally:
        loader.dispose()


def _lines(node: yaml.Node, prefix: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node, yaml.MappingNode):
        entries = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(index), value, value) for index, value in enumerate(node.value)]
    else:
        return
    for name, marked, value in entries:
        path = (*prefix, name)
        yield path, marked.start_mark.line + 1
        yield from _lines(value, path)
