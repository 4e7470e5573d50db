"""Finds COCO's images by number where splits name them by folders that a copy does not have.

Karpathy's splits name the folders of 2014. COCO's release of 2017 has the same images in other
folders, under their numbers alone, and some copies keep all images in one folder.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from ademvl.data.acquisition.zip_images import image_names
from ademvl.errors import DataError
from ademvl.tasks.coco_caption.reader import last_number


class CocoImages:
    """The images of a laid-out copy.

    Args:
        images_dir: folder whose folders, or archives in their place, hold the images.
        folders: names of these folders.
    """

    def __init__(self, images_dir: Path, folders: Collection[str]) -> None:
        self._images_dir = images_dir
        self._folders = folders

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """Return where images lie, by the names that splits give them: `folder/file`.

        Names keep their folder where there is such a folder, and where no image has their number.

        Raises:
            DataError: none of the images is there.
        """
        names = list(names)
        strangers = [name for name in names if self._is_elsewhere(name)]
        found = {name: self._by_number(name) for name in strangers}
        if strangers and len(strangers) == len(names) and not any(found.values()):
            raise DataError(
                f"{self._images_dir}: none of the {len(names)} images of the splits is there, such "
                f"as {names[0]}, nor any of their numbers in {', '.join(sorted(self._folders))}. "
                "Name COCO's images (train2014 and val2014, or 2017) under the key `existing`."
            )
        return {name: found.get(name) or name for name in names}

    def lack(self, folders: Iterable[str]) -> bool:
        """Whether any of some folders is not there."""
        return any(folder not in self._folders for folder in folders)

    def _is_elsewhere(self, name: str) -> bool:
        return not any(name.startswith(f"{folder}/") for folder in self._folders)

    def _by_number(self, name: str) -> str | None:
        number = last_number(PurePosixPath(name).stem)
        return None if number is None else self._numbered.get(number)

    @cached_property
    def _numbered(self) -> Mapping[int, str]:
        found: dict[int, str] = {}
        for folder in sorted(self._folders):
            for name in image_names(self._images_dir / folder):
                number = last_number(PurePosixPath(name).stem)
                if number is not None:
                    found.setdefault(number, f"{folder}/{name}")
        return found
