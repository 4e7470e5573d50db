"""How work on many images shows that it moves."""

from ademvl.machine.progress import Progress


class ImageProgress(Progress):
    """Counts images.

    Args:
        num_images: images that there are to do, in all.
        task: what is done with them, in a word or two.
        shown: False shows nothing; neither is anything shown of no images.
    """

    def __init__(self, num_images: int, task: str, *, shown: bool) -> None:
        super().__init__(
            task,
            total=num_images,
            unit="img",
            line_every_seconds=30.0,
            shown=shown and num_images > 0,
        )

    def advance(self, num_images: int) -> None:
        """Note that so many more images are done."""
        self.move(num_images, self._line)

    def _line(self) -> str:
        rate = self.done / self.seconds
        return f"{self.task}: {self.done} of {self.total} images, {rate:.0f} images/s"
