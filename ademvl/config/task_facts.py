"""What is told of a task, of its scores and of data sets: the classes that each `facts.py` fills.

They stand apart from `ademvl/config/tasks.py`, which imports every `facts.py` to find the tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AnswerForm = Literal["letter", "text"]
RequestKind = Literal["choice", "open", "caption"]
"""What a user may ask of a trained adapter."""
LARGEST_PERCENT = 100.0
ShownAs = Literal["questions", "captions"]


@dataclass(frozen=True, kw_only=True)
class ScoreColumn:
    """A column of a task's scores.

    Attributes:
        key: in reported tables and in a study's `column_notes`.
        header: in tables and score files.
        decimals: that are printed.
        largest: value that there can be, in the unit of the table; the least is 0.
        group: of columns that stand under one heading.
        stored_as: key in score files, where that is not the header.
    """

    key: str
    header: str
    decimals: int
    largest: float = LARGEST_PERCENT
    group: str = ""
    stored_as: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """The table of a task's scores.

    Attributes:
        key: name of its files.
        title: over it.
        unit: of its numbers.
        reported: key of the reported table whose rows stand in it; empty for none.
        notes: below numbers that were measured here.
        reported_notes: below those of others.
    """

    key: str
    title: str
    unit: str
    reported: str = ""
    notes: tuple[str, ...] = ()
    reported_notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CategoryFilter:
    """A filter of the page by categories of questions.

    Attributes:
        name: in the form and the address.
        label: over it.
        members: categories to choose from.
        tells_kind: whether a category says what kind of question one is.
    """

    name: str
    label: str
    members: tuple[str, ...]
    tells_kind: bool = True


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """A data set as others publish it.

    Attributes:
        name: by which studies choose it as `source`.
        gives: folder of the laid-out data set: name of a task, or of what one is evaluated on.
        keys: of its settings, beside those that all real data sets have.
        shares: other sources whose files it needs, because its items are about their images.
    """

    name: str
    gives: str
    keys: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What is known of a task without reading any data.

    Attributes:
        name: by which a study chooses it; its folder in a data set that it trains on.
        title: of its panels in figures.
        runs_title: of its runs and answers on the page.
        items: what its scores are made up of, in words, and comparisons count.
        answer: `letter` of a choice, from one forward pass, or generated `text`.
        learned: kinds of requests that are like its training, the one that it is about first.
        columns: of its scores, in the order of tables.
        main: header of the score that comparisons, effects and choices of rates are about.
        main_title: of figures about it.
        headlines: headers of the scores that the page's overview shows.
        summarized: keys of the columns that the terminal shows; none keep it out.
        scores_in: key of a score file under which its columns stand.
        scores_unit: key of a column's value there: in percent, or a `score` in points.
        table: of its scores.
        shown_as: how the page shows its items.
        categories: of its questions, with their words.
        filters: of the page by these categories.
        benchmark: data set that it is evaluated on, and name of its score files; empty for its own.
        scored_splits: that it can be scored on; any, where there are none.
        has_val_split: whether a learning rate can be chosen on a split val.
        needs_images: whether it cannot be trained with images withheld.
        normalization: of pixels in the reference implementation.
        is_augmented: whether the reference implementation changes its training images at random.
        may_lack_answers: whether training items that keep nothing to learn are left out, not
            refused.
        has_fusion_maps: whether fusion maps can be drawn of its items.
        unread: settings of evaluation that its predictions do not depend on.
        pipeline: what the hub calls it.
        sizes_note: how the published size of its training split may mislead plans.
        reference_names: what the reference implementation calls its data set, its own name for it
            first; none where it has none.
    """

    name: str
    title: str
    runs_title: str
    items: str
    answer: AnswerForm
    learned: tuple[RequestKind, ...]
    columns: tuple[ScoreColumn, ...]
    main: str
    main_title: str
    headlines: tuple[str, ...]
    summarized: tuple[str, ...] = ()
    scores_in: str
    scores_unit: Literal["percent", "score"] = "percent"
    table: ScoreTable
    shown_as: ShownAs
    categories: Mapping[str, str] = field(default_factory=dict)
    filters: tuple[CategoryFilter, ...] = ()
    benchmark: str = ""
    scored_splits: tuple[str, ...] = ()
    has_val_split: bool = True
    needs_images: bool = False
    normalization: Literal["clip", "imagenet"] = "imagenet"
    is_augmented: bool = False
    may_lack_answers: bool = False
    has_fusion_maps: bool = False
    unread: tuple[str, ...] = ()
    pipeline: str
    sizes_note: str = ""
    reference_names: tuple[str, ...] = ()

    @property
    def evaluated_as(self) -> str:
        """Name of its score files: its own, or that of the benchmark that it is evaluated on."""
        return self.benchmark or self.name

    @property
    def stored_headlines(self) -> tuple[str, ...]:
        """Its headlines as score files name them."""
        stored = {column.header: column.stored_as or column.header for column in self.columns}
        return tuple(stored[header] for header in self.headlines)

    @property
    def usual_split(self) -> str:
        """Split that results are about unless something else is said."""
        return self.scored_splits[0] if self.scored_splits else "test"
