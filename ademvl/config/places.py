"""Where the keys of settings stand: file and line, for messages."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ademvl.config.nested import Path, holds, value_at
from ademvl.errors import SettingsError, list_findings


@dataclass(frozen=True)
class Places:
    """File and line of keys.

    Attributes:
        lines: place by path of keys, such as `config.yaml:34`; what came from a command line, or
            from Snakemake, has none.
        bases: of a group of keys those groups from which it inherits, nearest first.
    """

    lines: Mapping[Path, str] = field(default_factory=dict)
    bases: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)

    def over(self, others: "Places") -> "Places":
        """Return these, and those of others where these have none."""
        return Places({**others.lines, **self.lines}, self.bases)

    def where_unchanged(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> "Places":
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
        return Places(lines, self.bases)

    def find(self, path: Path) -> str:
        """Return the place of a key, else where it is inherited from, else of the group it is in.

        Empty where none is known.
        """
        for length in range(len(path), 0, -1):
            for candidate in (path[:length], *self._inherited(path[:length])):
                if candidate in self.lines:
                    return self.lines[candidate]
        return ""

    def mark(self, finding: str) -> str:
        """Put the place in front of a finding that begins with the path of a key."""
        place = self.find(tuple(finding.partition(":")[0].split(".")))
        return f"{place}: {finding}" if place else finding

    def refuse(self, findings: Iterable[str], *, headline: str, remedy: str) -> None:
        """Raise a SettingsError that lists findings with their places, if there are any."""
        if marked := [self.mark(text) for text in findings]:
            raise SettingsError(list_findings(headline, marked, remedy))

    def _inherited(self, path: Path) -> list[Path]:
        return [
            (*base, *path[len(group) :])
            for group, bases in self.bases.items()
            if path[: len(group)] == group and len(path) > len(group)
            for base in bases
        ]


def places_in_files(
    merged: Mapping[str, Any], files: Sequence[tuple[Mapping[str, Any], Places]]
) -> Places:
    """Return the places of those keys of merged files that come from exactly one of them.

    Args:
        merged: what was made of the files and of a command line, which may have changed them.
        files: content and places of each.
    """
    times = Counter(path for _, places in files for path in places.lines)
    found = Places()
    for raw, places in files:
        found = places.where_unchanged(raw, merged).over(found)
    return Places({path: line for path, line in found.lines.items() if times[path] == 1})
