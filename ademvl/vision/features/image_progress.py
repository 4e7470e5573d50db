"""How work on many images shows that it moves: a bar on a terminal, else a line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

LINE_INTERVAL_SECONDS = 30.0


@contextmanager
def image_progress(num_images: int, task: str, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told how many more images are done.

    Args:
        num_images: images in all.
        task: what is done with them, in a word or two.
        shown: False shows nothing.
    """
    if not shown:
        yield lambda _: None
    elif sys.stderr.isatty():
        # tqdm shares a lock with forked processes, one of which may be killed while it holds it:
        # without a terminal it is not touched at all.
        from tqdm import tqdm

        with tqdm(total=num_images, desc=task, unit="img", file=sys.stderr) as bar:
            yield bar.update
    else:
        yield _lines(num_images, task)


def _lines(num_images: int, task: str) -> Callable[[int], None]:
    started = last_line = time.monotonic()
    num_done = 0

    def advance(num_more: int) -> None:
        nonlocal last_line, num_done
        now = time.monotonic()
        num_done += num_more
        if now - last_line >= LINE_INTERVAL_SECONDS:
            last_line = now
            rate = num_done / (now - started)
            _log.info("%s: %d of %d images, %.0f images/s", task, num_done, num_images, rate)

    return advance
