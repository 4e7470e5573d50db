"""Where the keys of settings stand: file and line, for messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ademvl.config.nested import Path


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

    def _inherited(self, path: Path) -> list[Path]:
        return [
            (*base, *path[len(group) :])
            for group, bases in self.bases.items()
            if path[: len(group)] == group and len(path) > len(group)
            for base in bases
        ]
