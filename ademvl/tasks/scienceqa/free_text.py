r"""Reads the choice that free text names, by rules that have an order and a name.

What is no answer goes first (`answer_text`). Of the rest, the first of these rules that applies
decides; `read_choice` returns its name:

1. `exact_letter`: nothing but a capital letter ("B", "(B)", "Option B.", "Answer: B").
2. `own_words`: nothing but the words of exactly one choice, upper and lower case first, then
   without regard to it; therefore "A. baumannii" may be the third choice. After it, nothing but a
   small letter ("b") is an `exact_letter`, too.
3. `letter_and_words`: a letter and the words of its choice ("B. blue").
4. `statement`: the last sentence that states an answer ("The correct answer is B", "Final answer:
   blue", "\boxed{B}", "B is correct", or a letter alone in the first or last line, or as the last
   sentence). A choice's own words go before a letter here, too.
5. `leading_words`: a choice's words at the beginning, ending in a mark or a conjunction.
6. `leading_letter`: a letter at the beginning, with a mark or a conjunction after it ("B) ...",
   "B, because ..."), unless it is rejected there ("(A) is wrong") or options are merely listed.

Where no rule applies, or the last statement names several choices, or one that is not there, no
choice is named: never a guess, and no conclusion from what is rejected.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ademvl.data.choices import NO_ANSWER
from ademvl.tasks.scienceqa import answer_patterns as patterns
from ademvl.tasks.scienceqa.answer_text import plain, spelled, without_reasoning

Rule = Literal[
    "exact_letter",
    "own_words",
    "letter_and_words",
    "statement",
    "leading_letter",
    "leading_words",
    "undecided",
    "only_reasoning",
    "blank",
    "unread",
]


@dataclass(frozen=True)
class Reading:
    """What was read off a text.

    Attributes:
        index: 0-based choice, NO_ANSWER for none.
        rule: that read it; of texts without choice the reason: `blank`, `only_reasoning`,
            `undecided` (several choices, or one that is not there), or `unread`.
    """

    index: int
    rule: Rule


def read_choice(text: str, choices: Sequence[str]) -> Reading:
    """Read the choice that `text` names by the rules of this module."""
    if not text.strip():
        return Reading(NO_ANSWER, "blank")
    answer = plain(without_reasoning(text))
    if not answer:
        return Reading(NO_ANSWER, "only_reasoning")
    return _Reader(choices).read(answer)


@dataclass(frozen=True)
class _Named:
    """Choices that a text names at a place; `indices` holds -1 for a letter without choice."""

    indices: frozenset[int]
    end: int


def _before(pattern: re.Pattern[str], text: str, found: re.Match[str]) -> bool:
    """Tell whether what stands right before a place ends in `pattern`."""
    return pattern.search(text, max(0, found.start() - 60), found.start()) is not None


def _decided(indices: frozenset[int], rule: Rule) -> Reading:
    """Return the only choice among `indices`, or none where there are others or none such."""
    if len(indices) != 1 or NO_ANSWER in indices:
        return Reading(NO_ANSWER, "undecided")
    (index,) = indices
    return Reading(index, rule)


class _Reader:
    """Reads answers to one question."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.count = len(choices)
        self.choices = [" ".join(plain(choice).split()) for choice in choices]
        # A choice that is one of the question's letters ("sample" "B") is read as that letter.
        self.words = {
            index: words
            for index, words in enumerate(map(spelled, self.choices))
            if words and not (len(words) == 1 and 0 <= self._index_of(words.upper()) < self.count)
        }

    def _index_of(self, letter: str) -> int:
        index = ord(letter) - ord("A")
        return index if 0 <= index < self.count else NO_ANSWER

    def read(self, text: str) -> Reading:
        alone = self._only_letter(text)
        if alone is not None and alone[0].isupper() and alone[1] != NO_ANSWER:
            return Reading(alone[1], "exact_letter")
        index = self._spelling(text)
        if index is not None:
            return Reading(index, "own_words")
        if alone is not None:
            return Reading(alone[1], "exact_letter" if alone[1] != NO_ANSWER else "undecided")
        if (lettered := self._letter_and_words(text)) is not None:
            return Reading(lettered, "letter_and_words")
        stated = self._last_statement(text)
        if stated is not None:
            return _decided(stated, "statement")
        return self._beginning(text)

    def _beginning(self, text: str) -> Reading:
        """Read words or a letter that something follows."""
        joined = self._named_at(text, 0)
        if joined is not None and len(joined.indices) > 1:
            return Reading(NO_ANSWER, "undecided")
        words = self._words_at(text, 0)
        if words is not None:
            return _decided(words.indices, "leading_words")
        leading = self._leading_letter(text)
        if leading is None:
            return Reading(NO_ANSWER, "unread")
        if patterns.NEGATED.match(text, leading.end) or self._lists_another(text, leading):
            return Reading(NO_ANSWER, "undecided")
        return _decided(leading.indices, "leading_letter")

    def _only_letter(self, text: str) -> tuple[str, int] | None:
        found = patterns.ONLY_LETTER.fullmatch(text)
        if not found:
            return None
        letter = found["letter"]
        return letter, self._index_of(letter.upper())

    def _spelling(self, text: str) -> int | None:
        """Return the only choice of just these words: to the letter, else but for quotes, case."""
        text = " ".join(text.split())
        for fold in (str, spelled, lambda words: spelled(words).casefold()):
            same = [i for i in self.words if fold(self.choices[i]) == fold(text)]
            if same:
                return same[0] if len(same) == 1 else None
        return None

    def _letter_and_words(self, text: str) -> int | None:
        found = patterns.AND_WORDS.match(text)
        index = self._index_of(found["letter"].upper()) if found else NO_ANSWER
        if found is None or index not in self.words:
            return None
        words = spelled(text[found.end() :].strip("()[]{} .")).casefold()
        return index if words == spelled(self.words[index].strip("()[]{} .")).casefold() else None

    def _leading_letter(self, text: str) -> _Named | None:
        found = patterns.LEADING.match(text)
        if not found:
            return None
        letter = found["bare"] or found["letter"]
        index = self._index_of(letter.upper())
        is_article = found["bare"] in ("A", "I") and not re.search(r"[–—-]", found[0])
        if index == NO_ANSWER or (is_article and not patterns.ENDS.match(text, found.end("bare"))):
            return None
        return _Named(frozenset({index}), found.end("bare" if found["bare"] else 0))

    def _lists_another(self, text: str, leading: _Named) -> bool:
        """Tell whether another letter with its words comes right after: options, not an answer."""
        (own,) = leading.indices
        words = self._words_at(text, leading.end, only=own, ends=patterns.BOUNDARY)
        found = patterns.NEXT_LETTER.match(text, words.end) if words else None
        index = self._index_of(found["letter"].upper()) if found else NO_ANSWER
        if found is None or index in (own, NO_ANSWER):
            return False
        another = self._words_at(text, found.end(), only=index, ends=patterns.BOUNDARY)
        return another is not None and not patterns.NEGATED.match(text, another.end)

    def _last_statement(self, text: str) -> frozenset[int] | None:
        """Return the choices of the last statement, None where nothing is stated."""
        found = sorted(self._statements(text), key=lambda item: item[0])
        lines = self._lone_lines(text)
        if not found and len(set().union(*(named.indices for _, named in lines))) > 1:
            return frozenset({NO_ANSWER})
        stated: frozenset[int] | None = None
        for start, named in sorted([*found, *lines], key=lambda item: item[0]):
            is_other = stated is not None and patterns.OR_ELSE.search(
                text, max(0, start - 60), start
            )
            stated = (stated or frozenset()) | named.indices if is_other else named.indices
        return stated

    def _statements(self, text: str) -> Iterator[tuple[int, _Named]]:
        for pattern in (patterns.INTRO, patterns.WEAK_INTRO):
            for intro in pattern.finditer(text):
                named = self._named_at(text, intro.end())
                if named is None or _before(patterns.DOUBTED, text, intro):
                    continue
                if patterns.NEGATED.match(text, named.end) or patterns.ASKED.match(text, named.end):
                    continue
                if pattern is patterns.INTRO or patterns.WEAK_END.match(text, named.end):
                    yield intro.start(), named
        yield from self._called_right(text)

    def _called_right(self, text: str) -> Iterator[tuple[int, _Named]]:
        """Return what is called right, words first: "sample A" may be the second choice."""
        ends = set()
        for index, words in self.words.items():
            pattern = r"\s+".join(map(re.escape, words.split()))
            for right in re.finditer(rf"(?<!\w){pattern}{patterns.RIGHT}", text, re.IGNORECASE):
                named = self._words_at(text, right.start(), ends=patterns.BOUNDARY)
                if named == _Named(frozenset({index}), right.start("is")):
                    ends.add(right.end())
                    if not _before(patterns.UNSURE, text, right):
                        yield right.start(), named
        for right in patterns.LETTER_IS_RIGHT.finditer(text):
            letter, index = right["letter"], self._index_of(right["letter"].upper())
            is_choice = letter.isupper() and index != NO_ANSWER and right.end() not in ends
            if is_choice and not _before(patterns.UNSURE, text, right):
                yield right.start(), _Named(frozenset({index}), right.end())

    def _lone_lines(self, text: str) -> list[tuple[int, _Named]]:
        """Return the letter that is all of the first line, the last line or the last sentence.

        In the first line its choice's words may follow, if no other line is of that form.
        """
        lines = text.split("\n")
        spelled_out = {self._letter_and_words(line) for line in lines} - {None}
        sentence = patterns.SENTENCE_END.split(lines[-1])[-1]
        found = []
        for start, part in ((0, lines[0]), (len(text) - len(sentence), sentence)):
            alone = self._only_letter(part)
            index = alone[1] if alone else NO_ANSWER
            if start == 0 and alone is None and len(spelled_out) == 1:
                first = self._letter_and_words(part)
                index = NO_ANSWER if first is None else first
            if index != NO_ANSWER:
                found.append((start, _Named(frozenset({index}), start + len(part))))
        return found

    def _named_at(self, text: str, start: int) -> _Named | None:
        """Return what is named at a place: one choice, or all that "and", "or" and commas join."""
        first = named = self._one_at(text, start)
        while named is not None:
            joint = patterns.AND_ALSO.match(text, named.end)
            if joint is None or not (joint["comma"] or joint["word"]):
                break
            further = self._one_at(text, joint.end())
            if further is None:
                break
            if patterns.COPULA.match(text, further.end):  # "..., A and B are wrong"
                return first
            named = _Named(named.indices | further.indices, further.end)
        return named

    def _one_at(self, text: str, start: int) -> _Named | None:
        words = self._words_at(text, start)
        if words is not None:
            return words
        found = patterns.AT_LETTER.match(text, start)
        if not found:
            return None
        letter = found["letter"]
        index = self._index_of(letter.upper())
        spelled_out = self._words_at(text, found.end(), only=index)  # "(B) blue or (C) green"
        if spelled_out is not None:
            return _Named(frozenset({index}), spelled_out.end)
        if letter in "AIai" and patterns.ARTICLE.match(text, found.end()):
            return None
        if letter.islower() and (index == NO_ANSWER or not patterns.ENDS.match(text, found.end())):
            return None
        return _Named(frozenset({index}), found.end())

    def _words_at(
        self,
        text: str,
        start: int,
        *,
        only: int | None = None,
        ends: re.Pattern[str] = patterns.ENDS,
    ) -> _Named | None:
        """Return the choice of the longest words that stand at a place, with `ends` after them."""
        opened = re.compile(rf"\s*{patterns.OPEN}\s*").match(text, start)
        begin = opened.end() if opened else start
        candidates = []
        for index, words in self.words.items():
            if only is not None and index != only:
                continue
            pattern = r"\s+".join(map(re.escape, words.split()))
            found = re.compile(pattern, re.IGNORECASE).match(text, begin)
            if found and ends.match(text, found.end()):
                is_same_case = " ".join(found[0].split()) == words
                candidates.append((len(words), is_same_case, index, found.end()))
        if not candidates:
            return None
        candidates.sort(reverse=True)
        best = [item for item in candidates if item[:2] == candidates[0][:2]]
        if len(best) > 1:  # two choices of the same words
            return None
        (_, _, index, end), *_ = best
        closed = re.compile(patterns.CLOSE).match(text, end)
        return _Named(frozenset({index}), closed.end() if closed else end)
