"""A folder of a method's golden cases, and the comparison of one case with what is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ademvl.data.tokenizer import SentencePieceTokenizer, load_tokenizer
from ademvl.golden.checks import Check
from ademvl.golden.files import GoldenSet, largest_difference
from ademvl.golden.text import problems_of
from ademvl.tasks.scienceqa.reader import Problem

_STRIDED = ".strided"


@dataclass(frozen=True)
class PeerSet:
    """A method's cases, and the reference's own set, which holds everything frozen."""

    cases: GoldenSet
    models: GoldenSet

    @cached_property
    def tokenizer(self) -> SentencePieceTokenizer:
        """Tokenizer of the frozen language model."""
        return load_tokenizer(self.models.folder / "models" / "weights")

    @cached_property
    def pixels(self) -> Tensor:
        """All pictures, (P, 3, H, W)."""
        return self.models.pixels("pixels_sqa")

    @cached_property
    def problems(self) -> dict[str, Problem]:
        """Questions by id."""
        return problems_of(self.models.json("G_prompts"))

    def pixels_or_zero(self, pixel_index: Sequence[int]) -> Tensor:
        """Return the picture of each row, all-zero where its index is -1: (B, 3, H, W)."""
        return torch.stack(
            [
                self.pixels[place] if place >= 0 else torch.zeros_like(self.pixels[0])
                for place in pixel_index
            ]
        )

    def compare(self, name: str) -> "Comparison":
        """Open the files of a case."""
        return Comparison(name, self.cases.json(name), self.cases.require_tensors(name))


@dataclass
class Comparison:
    """Collects the checks of one case, and knows which recorded tensors were compared.

    Attributes:
        case: name of the case.
        details: content of its json.
        recorded: its tensors.
        checks: so far.
    """

    case: str
    details: Mapping[str, Any]
    recorded: Mapping[str, Tensor]
    checks: list[Check] = field(default_factory=list)
    _read: set[str] = field(default_factory=set)

    def input(self, name: str) -> Tensor:
        """Return a recorded tensor that is given to the method, not compared."""
        self._read.add(name)
        return self.recorded[name]

    def inputs(self, prefix: str) -> dict[str, Tensor]:
        """Return recorded tensors that are given to the method, without their prefix."""
        names = [name for name in self.recorded if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.input(name) for name in names}

    def tolerance(self, kind: str) -> float:
        """Return the tolerance that the case suggests."""
        return float(self.details["suggested_absolute_tolerance"][kind])

    def tensor(self, name: str, mine: Tensor | None, kind: str) -> None:
        """Compare a tensor with the recorded one, of which every n-th row may be kept alone."""
        stored = name if name in self.recorded else name + _STRIDED
        expected = self.input(stored)
        if mine is not None and stored.endswith(_STRIDED):
            mine = _strided(mine, expected)
        self.number(stored, largest_difference(mine, expected), self.tolerance(kind))

    def tensors(self, prefix: str, mine: Mapping[str, Tensor], kind: str) -> None:
        """Compare every recorded tensor with a prefix; one that is missing here differs."""
        for stored in [name for name in self.recorded if name.startswith(prefix)]:
            name = stored.removesuffix(_STRIDED)
            self.tensor(name, mine.get(name.removeprefix(prefix)), kind)

    def close(
        self, what: str, mine: float | Sequence[float], expected: Any, tolerance: float
    ) -> None:
        """Compare numbers."""
        found = torch.as_tensor(mine, dtype=torch.float64)
        wanted = torch.as_tensor(expected, dtype=torch.float64)
        self.number(what, largest_difference(found, wanted), tolerance)

    def same(self, what: str, mine: Sequence[object], expected: Sequence[object]) -> None:
        """Compare sequences item by item, exactly."""
        different = abs(len(mine) - len(expected))
        different += sum(one != other for one, other in zip(mine, expected, strict=False))
        self.number(what, float(different), 0.0)

    def same_names(self, what: str, mine: Sequence[str], expected: Sequence[str]) -> None:
        """Compare names in any order, exactly."""
        self.number(what, float(len({*mine} ^ {*expected})), 0.0)

    def number(self, what: str, error: float, tolerance: float) -> None:
        """Add the verdict on one error."""
        self.checks.append(Check(self.case, what, error, tolerance))

    def finish(self, left_out: Mapping[str, Sequence[str]] | None = None) -> list[Check]:
        """Return all checks, with one more: that nothing else that is recorded was left out.

        Args:
            left_out: what is not covered, in words, with patterns of the tensors' names.
        """
        patterns = [pattern for names in (left_out or {}).values() for pattern in names]
        rest = [
            name
            for name in sorted(self.recorded.keys() - self._read)
            if not any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        what = f"recorded but not compared: {', '.join(rest)}" if rest else "nothing left out"
        self.number(what, float(len(rest)), 0.0)
        return self.checks


def _strided(mine: Tensor, expected: Tensor) -> Tensor:
    """Keep every n-th row, from the first, along the axis that was thinned out."""
    for axis, (full, kept) in enumerate(zip(mine.shape, expected.shape, strict=False)):
        if full != kept:
            stride = (full - 1) // (kept - 1) if kept > 1 else full
            return mine.index_select(axis, torch.arange(0, full, stride))
    return mine
