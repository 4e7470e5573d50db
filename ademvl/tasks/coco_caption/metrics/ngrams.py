"""BLEU's counts and CIDEr-D of tokenized captions, from n-grams counted in arrays.

Numbers are those of pycocoevalcap 1.2 (BleuScorer, CiderScorer) to the last bit. What these add up
one by one is added here one by one in the same order, as `numpy.bincount` does, and logarithms,
squares and the length penalty are taken of one number at a time: a vector's may be rounded
otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ademvl.statistics.intervals import Floats

MAX_ORDER = 4
_SIGMA = 6.0
"""Of CIDEr-D's penalty on another length."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Grams:
    """The different n-grams of each sentence, sentence by sentence, in order of their first place.

    Attributes:
        sentence: number of the sentence, (entries,).
        gram: number of the n-gram, the same in every sentence.
        count: how often the sentence has it.
        num_grams: different n-grams in all.
    """

    sentence: Ints
    gram: Ints
    count: Ints
    num_grams: int


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one caption and some references for each of n images.

    Attributes:
        lengths: words of each sentence: first the n captions, then all m references by image.
        image: number of each sentence's image.
        num_images: n.
        orders: the n-grams of 1 to 4 words.
    """

    lengths: Ints
    image: Ints
    num_images: int
    orders: tuple[_Grams, ...]

    @cached_property
    def _shared(self) -> tuple[tuple[Ints, Ints], ...]:
        """Entries of references whose n-gram the caption has too, and the caption's; by order.

        By reference, then in the caption's order.
        """
        found = []
        for grams in self.orders:
            key = self.image[grams.sentence] * grams.num_grams + grams.gram
            num_entries = np.searchsorted(grams.sentence, self.num_images)  # of captions
            by_key = np.argsort(key[:num_entries])
            sorted_keys = np.append(key[by_key], -1)  # -1 is found by no key
            place = np.searchsorted(sorted_keys[:-1], key[num_entries:])
            (hits,) = np.nonzero(sorted_keys[place] == key[num_entries:])
            references, captions = hits + num_entries, by_key[place[hits]]
            order = np.lexsort((captions, grams.sentence[references]))
            found.append((references[order], captions[order]))
        return tuple(found)

    def bleu(self) -> Floats:
        """Return what BLEU sums over images, (n, 10).

        Columns: words of the caption, words of the closest reference, then for each order 1 to 4
        the n-grams of the caption, then those of them that a reference has.
        """
        n = self.num_images
        length, reference_lengths, image = self.lengths[:n], self.lengths[n:], self.image[n:]
        distance = abs(reference_lengths - length[image])
        by_distance = np.lexsort((reference_lengths, distance, image))
        first = np.searchsorted(image, np.arange(n))
        columns = [length, reference_lengths[by_distance[first]]]
        columns += [np.maximum(0, length - order) for order in range(MAX_ORDER)]
        for grams, (references, captions) in zip(self.orders, self._shared, strict=True):
            most = np.zeros(len(grams.count), dtype=np.int64)
            np.maximum.at(most, captions, grams.count[references])
            correct = np.minimum(most, grams.count)
            columns.append(np.bincount(grams.sentence, weights=correct, minlength=n)[:n])
        return np.column_stack(columns).astype(np.float64)

    def cider(self) -> Floats:
        """Return CIDEr-D of each image, (n,), with the document frequencies of these references."""
        n, image = self.num_images, self.image[self.num_images :]
        scores = np.zeros((n, MAX_ORDER))
        pairs = np.maximum(0, self.lengths - 1)  # the scorer's measure of length
        penalty = _for_each(
            lambda delta: np.e ** (-(float(delta) ** 2) / (2 * _SIGMA**2)), pairs[image] - pairs[n:]
        )
        for order, (grams, shared) in enumerate(zip(self.orders, self._shared, strict=True)):
            values = self._similarities(grams, *shared) * penalty
            scores[:, order] = np.bincount(image, weights=values, minlength=n)
        found: Floats = scores.mean(axis=1) / np.bincount(image, minlength=n) * 10.0
        return found

    def _similarities(self, grams: _Grams, references: Ints, captions: Ints) -> Floats:
        """Return the clipped cosine of each reference and its caption, (m,)."""
        n, image = self.num_images, self.image[self.num_images :]
        idf = np.log(float(n)) - _for_each(np.log, self._document_frequencies(grams))
        weights = grams.count * idf[grams.gram]
        squares = _for_each(lambda weight: weight**2, weights)
        norms = np.sqrt(np.bincount(grams.sentence, weights=squares, minlength=len(self.image)))
        products = np.minimum(weights[captions], weights[references]) * weights[references]
        values = np.bincount(
            grams.sentence[references], weights=products, minlength=len(self.image)
        )[n:]
        both = norms[image] * norms[n:]
        return np.divide(values, both, out=np.zeros_like(both), where=both != 0)

    def _document_frequencies(self, grams: _Grams) -> Floats:
        """Return in how many images a reference has each n-gram, at least 1, (num_grams,)."""
        is_reference = grams.sentence >= self.num_images
        key = self.image[grams.sentence] * grams.num_grams + grams.gram
        images = np.unique(key[is_reference]) % max(1, grams.num_grams)
        return np.maximum(1.0, np.bincount(images, minlength=grams.num_grams))


def count_ngrams(
    references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, Sequence[str]]
) -> NgramCounts:
    """Count the n-grams of tokenized references and of one tokenized caption an image.

    Args:
        references: by image id; the n images are in this order.
        hypotheses: for the same image ids.
    """
    captions = [hypotheses[image_id][0].split() for image_id in references]
    texts = [text.split() for texts in references.values() for text in texts]
    num_references = [len(texts) for texts in references.values()]
    images = np.arange(len(captions))
    lengths, orders = _count([*captions, *texts])
    return NgramCounts(
        lengths=lengths,
        image=np.concatenate([images, np.repeat(images, num_references)]),
        num_images=len(captions),
        orders=orders,
    )


def _count(sentences: Sequence[Sequence[str]]) -> tuple[Ints, tuple[_Grams, ...]]:
    """Return each sentence's words, (sentences,), and n-grams."""
    numbers: dict[str, int] = {}
    words = np.fromiter(
        (numbers.setdefault(word, len(numbers)) for word in chain.from_iterable(sentences)),
        dtype=np.int64,
    )
    lengths = np.fromiter(map(len, sentences), dtype=np.int64)
    sentence = np.repeat(np.arange(len(sentences)), lengths)
    end = np.cumsum(lengths)[sentence]  # place behind the sentence that each word stands in
    place, gram = np.arange(len(words)), words
    orders = []
    for order in range(1, MAX_ORDER + 1):
        fits = place + order <= end[place]
        place, gram = place[fits], gram[fits]
        if order > 1:  # an n-gram is a shorter one and the word behind it
            longer = gram * len(numbers) + words[place + order - 1]
            gram = np.unique(longer, return_inverse=True)[1]
        orders.append(_by_sentence(sentence[place], gram))
    return lengths, tuple(orders)


def _by_sentence(sentence: Ints, gram: Ints) -> _Grams:
    num_grams = int(gram.max(initial=-1)) + 1
    key = sentence * num_grams + gram
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    order = np.argsort(first)
    first = first[order]
    return _Grams(sentence[first], gram[first], count[order], num_grams)


def _for_each(function: Callable[[np.float64], float], values: NDArray[np.generic]) -> Floats:
    """Apply a function to one number at a time, to equal ones once."""
    different, place = np.unique(values, return_inverse=True)
    return np.array([function(value) for value in different], dtype=np.float64)[place]
