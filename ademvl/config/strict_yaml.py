"""YAML that is read as it is meant, or refused: readers would silently do something else.

No key stands twice in one mapping, as all but the last would be dropped; keys are text; numbers are
neither octal nor of base 60 by the look of them; nothing holds itself, is nested without end, or
unfolds by its aliases to more than a study can hold.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ademvl.config.nested import Path
from ademvl.errors import list_findings

_OTHERS = ("bool", "int", "float", "null", "timestamp")
"""What plain scalars may be that are no text: last part of their tag."""
_ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""YAML 1.1 takes 010 for 8 and 1:30 for 90."""
_DEEPEST, _MOST_VALUES = 50, 200_000


class _StrictLoader(yaml.SafeLoader):
    """Looks at keys as they are written, before `<<` adds those of other mappings."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open: list[str | None] = []  # anchors of the nodes around the present one
        self._sizes: dict[int, int] = {}  # values in a node, by its id
        self._findings: list[tuple[str, Any]] = []

    def compose_whole(self) -> yaml.Node | None:
        """Return the one document's node, after all that is wrong with its keys and numbers."""
        node: yaml.Node | None = self.get_single_node()
        if len(self._findings) == 1:
            raise _error(*self._findings[0])
        if self._findings:
            found = [f"line {mark.line + 1}: {text}" for text, mark in self._findings]
            raise yaml.YAMLError(list_findings("not read as written", found, "Correct these."))
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise _error(f"*{event.anchor} is an alias of what it stands in", event.start_mark)
        if len(self._open) == _DEEPEST:
            raise _error(f"nested more than {_DEEPEST} levels deep", event.start_mark)
        if len(self._sizes) > _MOST_VALUES:
            raise _error(f"more than {_MOST_VALUES:,} values", event.start_mark)
        self._open.append(None if isinstance(event, yaml.AliasEvent) else event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        self._count(node, event.start_mark)
        return node

    def _count(self, node: Any, mark: Any) -> None:
        """Refuse what unfolds by its aliases to far more than is written."""
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inside = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inside = node.value
        self._sizes[id(node)] = size = 1 + sum(self._sizes[id(part)] for part in inside)
        if size > _MOST_VALUES:
            raise _error(f"more than {_MOST_VALUES:,} values, with what aliases stand for", mark)

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if _kind(node) in ("int", "float") and _ODD_NUMBER.fullmatch(node.value):
            value = self.construct_object(node)
            message = f"{node.value} is read as {value}; write {value}, or quotes for a text"
            self._findings.append((message, node.start_mark))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:  # a number of thousands of digits, the 45th of a month
            raise _error(f"cannot be read: {error}", node.start_mark) from error

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self._findings.append((f"key {key.value!r} occurs twice", key.start_mark))
                if _kind(key) in _OTHERS:
                    value = json.dumps(self.construct_object(key), default=str)
                    message = f"quote the key {key.value}: YAML reads it as {value}, not as a text"
                    self._findings.append((message, key.start_mark))
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
        node = loader.compose_whole()
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
