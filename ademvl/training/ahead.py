"""Makes the next of some things ready in a thread while the present one is used."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(things: Iterator[T]) -> Generator[T]:
    """Give what an iterator gives, of which the next is always being made.

    All of them are made by one thread, one after the other, so that order and results are the same.
    What goes wrong in it is raised where the thing would have been given. Closing the generator
    waits for the one in the making, and no thread is left.

    Args:
        things: used by the thread alone from now on.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        upcoming = pool.submit(next, things, end)
        while (thing := upcoming.result()) is not end:
            upcoming = pool.submit(next, things, end)
            yield thing  # type: ignore[misc]
