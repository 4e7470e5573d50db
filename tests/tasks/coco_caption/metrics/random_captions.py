"""Tokenized captions of random words, with what real ones have: empty texts and repeated words."""

import random


def random_captions(
    seed: int, *, num_images: int
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return references and one caption by image id, 1 to 5 references an image."""
    generator = random.Random(seed)

    def text() -> str:
        length = generator.choice([0, 1, 2, 3, *range(4, 14)])
        words = (f"w{int(200 * generator.random() ** 3)}" for _ in range(length))
        return " ".join(words)

    image_ids = generator.sample(range(10 * num_images), num_images)
    references = {
        key: [text() for _ in range(generator.randint(1, 5))] for key in sorted(image_ids)
    }
    return references, {key: [text()] for key in references}
