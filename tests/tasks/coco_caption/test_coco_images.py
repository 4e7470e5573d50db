"""Protects that Karpathy's images are found by number, and count once when they are damaged."""

import zipfile

import pytest

from ademvl.errors import DataError
from ademvl.tasks.coco_caption.reader import load_caption_train
from ademvl.tasks.verification import VerificationChoices, verify_dataset
from tests.tasks import copies
from tests.tasks.copies import check_caption_splits, lay_out


def _name_of_2017(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}.jpg"


IMAGE_LAYOUTS = {
    "2017": lambda number: _name_of_2017("train2017" if number < 6 else "val2017", number),
    "2017 in images": lambda number: "images/" + _name_of_2017("train2017", number),
    "2017 train alone": lambda number: _name_of_2017("train2017", number),
    "2014 train alone": lambda number: copies.coco_name(number),
    "one folder": lambda number: _name_of_2017("images", number),
    "one folder of 2014": lambda number: f"images/COCO_val2014_{number:012d}.jpg",
    "beside the splits": lambda number: f"{number:012d}.jpg",
}


@pytest.mark.parametrize("form", ["combined", "with references", "without references"])
@pytest.mark.parametrize("layout", IMAGE_LAYOUTS)
def test_images_of_karpathys_splits_are_found_by_number(tmp_path, layout, form):
    copy = tmp_path / "copy"
    for number in range(1, 8):
        copies.write_image(copy / IMAGE_LAYOUTS[layout](number), number)
    if form == "combined":
        copies.write_karpathy_combined(copy / "dataset_coco.json")
    else:
        with_references = form == "with references"
        copies.write_blip_splits(copy / "annotations", with_references=with_references)
    root = lay_out(tmp_path / "shared", source="coco_caption", existing=str(copy))
    check_caption_splits(root)
    for item in load_caption_train(root):
        assert item.image.read_bytes() == (copy / IMAGE_LAYOUTS[layout](item.image_id)).read_bytes()
    assert verify_dataset(root.parent, VerificationChoices(progress=False)).has_passed


def test_packed_images_are_found_by_number(tmp_path):
    copy = tmp_path / "copy"
    with zipfile.ZipFile(
        copies.write_image(copy / "a.png", 1).with_name("train2017.zip"), "w"
    ) as z:
        for number in range(1, 8):
            image = copies.write_image(tmp_path / f"{number}.jpg", number)
            z.write(image, _name_of_2017("train2017", number))
    copies.write_karpathy_combined(copy / "dataset_coco.json")
    root = lay_out(tmp_path / "shared", source="coco_caption", existing=str(copy))
    check_caption_splits(root)


def test_a_copy_without_any_of_the_images_is_refused(tmp_path):
    copy = tmp_path / "copy"
    copies.write_image(copy / _name_of_2017("val2017", 99), 1)
    copies.write_karpathy_combined(copy / "dataset_coco.json")
    with pytest.raises(DataError, match="none of the 7 images of the splits is there, such as"):
        lay_out(tmp_path / "shared", source="coco_caption", existing=str(copy))


def test_a_missing_image_is_found_once_and_leaves_out_all_its_captions(tmp_path):
    copy = tmp_path / "copy"
    for number in range(1, 8):
        copies.write_image(copy / _name_of_2017("train2017", number), number)
    (copy / _name_of_2017("train2017", 2)).unlink()
    (copy / _name_of_2017("train2017", 3)).write_bytes(b"no image")
    copies.write_karpathy_combined(copy / "dataset_coco.json")
    content = copies.read_json(copy / "dataset_coco.json")
    for row in content["images"][:5]:
        row["sentences"] += [{"sentid": 90 + row["cocoid"], "raw": f"another {row['cocoid']}"}]
    copies.write_json(copy / "dataset_coco.json", content)
    settings = {"source": "coco_caption", "damaged": "leave_out"}
    root = lay_out(tmp_path / "shared", existing=str(copy), **settings)
    verification = verify_dataset(root.parent, VerificationChoices(progress=False))
    found = [item for _, item in verification.findings["coco_caption"]]
    assert [(item.kind, item.item_ids) for item in found] == [
        ("missing_image", ("2-0", "2-1")),
        ("damaged_image", ("3-0", "3-1")),
    ]
    assert copies.read_json(root.parent / "verified.json")["left_out"] == {"coco_caption": 4}
    assert {item.image_id for item in load_caption_train(root)} == {1, 4, 5}
