"""How downloads and unpacking show that they move: bytes, rate and time left."""

from ademvl.machine.progress import Progress
from ademvl.storage.byte_sizes import format_bytes


class ByteProgress(Progress):
    """Counts bytes of several threads.

    Args:
        verb: what is done, such as `fetched`.
        total_bytes: expected in all, 0 where unknown.
        done_bytes: there already, from an earlier attempt.
    """

    def __init__(self, verb: str, *, total_bytes: int, done_bytes: int = 0) -> None:
        super().__init__(verb, total=total_bytes, done=done_bytes, unit="B", scaled=True)

    def advance(self, num_bytes: int) -> None:
        """Note bytes that were moved; negative where they have to be moved again."""
        self.move(num_bytes, self._line)

    def _line(self) -> str:
        rate = self.moved / self.seconds
        line = f"{self.task} {format_bytes(self.done)}"
        if self.total:
            share = 100 * self.done / self.total
            left = max(self.total - self.done, 0) / max(rate, 1e-9)
            line += f" of {format_bytes(self.total)} ({share:.0f} %), {left:.0f} s left"
        return f"{line}, {format_bytes(rate)}/s"
