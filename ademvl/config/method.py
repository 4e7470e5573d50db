"""What general code may know of a method: the base of all settings classes of methods.

A method is a folder with two modules: `settings.py`, without torch, whose settings class tells all
that planning, caches and rows of text need to know, and `method.py`, what is trained. A system that
is no method on a frozen decoder is a folder under `ademvl/systems/`: `settings.py` with a `kind` of
its own, and `system.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Literal

from ademvl.config.setting import setting, settings_class

Kind = Literal["method", "trained_whole", "pretrained", "elsewhere"]
"""What answers: a method on frozen models, a system that is trained whole, one from its own
checkpoint, or a file."""


@dataclass(frozen=True, kw_only=True)
class TowerStates:
    """What a method reads of the vision tower, for the cache of features.

    Attributes:
        blocks: whose states, counted from the end where negative.
        normalized: whether the tower's last normalisation is applied to them.
        projected: whether the tower's output projection is, too.
        tokens: all of an image's, the [cls] token alone, or the grid without it.
    """

    blocks: tuple[int, ...] = (-2,)
    normalized: bool = True
    projected: bool = False
    tokens: Literal["all", "cls", "grid"] = "all"

    def __post_init__(self) -> None:
        if not self.blocks or len(set(self.blocks)) < len(self.blocks):
            raise ValueError(f"blocks: {self.blocks}, expected one or more different ones")

    def missing(self, num_blocks: int) -> tuple[int, ...]:
        """Return those blocks that a tower of so many does not have."""
        return tuple(block for block in self.blocks if not -num_blocks <= block < num_blocks)


@dataclass(frozen=True, kw_only=True)
class TextPlaces:
    """How many vectors a method puts into the text, for the layout of rows.

    Attributes:
        before_begin: in front of the token that begins each row; no token of the text sees them.
        with_image: behind "Image: ", in rows with an image.
    """

    before_begin: int = 0
    with_image: int = 0


@settings_class
class MethodSettings:
    """Settings of a method; each method has a class of its own derived from this one.

    Attributes:
        name: of the method, by which a study chooses it.
    """

    name: str = setting(changes="results")

    @property
    def kind(self) -> Kind:
        """What answers in a run with these settings."""
        return "method"

    @property
    def is_given(self) -> bool:
        """Whether nothing is trained here."""
        return self.kind in ("pretrained", "elsewhere")

    @property
    def needs_start(self) -> bool:
        """Whether some parameters are not trained, and come from the adapter of `start_from`."""
        return False

    @property
    def only_task(self) -> str:
        """Task that it is for alone; empty where it is for any."""
        return ""

    @property
    def tower_states(self) -> TowerStates:
        """What is read of the vision tower."""
        return TowerStates()

    @property
    def text_places(self) -> TextPlaces:
        """How many vectors are put into the text."""
        return TextPlaces()

    @property
    def sees_images(self) -> bool:
        """Whether images have any part in its answers."""
        return True

    @property
    def sees_empty_picture(self) -> bool:
        """Whether rows without an image are shown one that is all zeros, as the tower sees it."""
        return False

    @property
    def draws_scores(self) -> bool:
        """Whether the method has scores of image tokens, which fusion maps show."""
        return False

    @property
    def learns_what_is_kept(self) -> bool:
        """Whether training changes which image tokens count, so that it is written down."""
        return False

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield what cannot work with a tower of so many grid tokens, each with its key."""
        yield from ()

    def unfit_for_tower(self, *, num_grid_tokens: int, num_blocks: int) -> Iterator[str]:
        """Yield all that cannot work with a tower of these sizes, each with its path in a run."""
        yield from (f"method.{finding}" for finding in self.tower_findings(num_grid_tokens))
        if missing := self.tower_states.missing(num_blocks):
            yield (
                f"method.name: {self.name} reads blocks {', '.join(map(str, missing))} of the "
                f"tower with these settings, which has {num_blocks}, counted from 0"
            )


@settings_class
class ClipAdapterSettings:
    """Bottleneck adapters inside the vision tower's blocks (used with online features only).

    Attributes:
        dim: width of the bottleneck; 12 in the paper's runs.
        scale: factor of the adapter branch; fixed at 0.1 in the reference, whatever alpha is.
        dropout: between the two matrices, training only; 0.1 in the reference.
        last_block: also create the adapter of the last block, which never runs but is counted
            in the published numbers of parameters.
    """

    dim: int = setting(changes="results", default=12, ge=1, le=100_000)
    scale: float = setting(changes="results", default=0.1)
    dropout: float = setting(changes="training", default=0.1, ge=0, lt=1)
    last_block: bool = setting(changes="results", default=True)


def check_square(number: int) -> None:
    """Refuse a number of tokens that make no square grid; for `setting`'s checks.

    Raises:
        ValueError: it is no square number.
    """
    if number < 0 or isqrt(number) ** 2 != number:
        raise ValueError(f"{number} is no square number")
