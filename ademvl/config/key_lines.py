"""Where the keys of settings stand: file and line, for messages."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ademvl.config.nested import Path, holds, value_at
from ademvl.errors import SettingsError, list_findings


@dataclass(frozen=True)
class KeyLines:
    """File and line of keys.

    Attributes:
        lines: file and line by path of keys, such as `config.yaml:34`; what came from a command
            line, or from Snakemake, has none.
        bases: of a group of keys those groups from which it inherits, nearest first.
    """

    lines: Mapping[Path, str] = field(default_factory=dict)
    bases: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)

    def over(self, others: "KeyLines") -> "KeyLines":
        """Return these, and those of others where these have none."""
        return KeyLines({**others.lines, **self.lines}, self.bases)

    def where_unchanged(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> "KeyLines":
        """Return those of keys, and of whole groups, whose value is still the same.

        Args:
            before: what stands in the file.
            after: what was made of it and of other files or a command line.
        """
        lines = {
            path: line
            for path, line in self.lines.items()
            if holds(before, path)
            and holds(after, path)
            and value_at(before, path) == value_at(after, path)
        }
        return KeyLines(lines, self.bases)

    def find(self, path: Path) -> str:
        """Return the line of a key, else where it is inherited from, else of the group it is in.

        Empty where none is known.
        """
        for length in range(len(path), 0, -1):
            for candidate in (path[:length], *self._inherited(path[:length])):
                if candidate in self.lines:
                    return self.lines[candidate]
        return ""

    def mark(self, finding: str) -> str:
        """Put the line in front of a finding that begins with the path of a key."""
        line = self.find(tuple(finding.partition(":")[0].split(".")))
        return f"{line}: {finding}" if line else finding

    def refuse(self, findings: Iterable[str], *, headline: str, remedy: str) -> None:
        """Raise a SettingsError that lists findings with their lines, if there are any."""
        if marked := [self.mark(text) for text in findings]:
            raise SettingsError(list_findings(headline, marked, remedy))

    def _inherited(self, path: Path) -> list[Path]:
        return [
            (*base, *path[len(group) :])
            for group, bases in self.bases.items()
            if path[: len(group)] == group and len(path) > len(group)
            for base in bases
        ]


def lines_in_files(
    merged: Mapping[str, Any], files: Sequence[tuple[Mapping[str, Any], KeyLines]]
) -> KeyLines:
    """Return the lines of those keys of merged files that come from exactly one of them.

    Args:
        merged: what was made of the files and of a command line, which may have changed them.
        files: content of each, and the lines of its keys.
    """
    times = Counter(path for _, key_lines in files for path in key_lines.lines)
    found = KeyLines()
    for raw, key_lines in files:
        found = key_lines.where_unchanged(raw, merged).over(found)
    return KeyLines({path: line for path, line in found.lines.items() if times[path] == 1})
