"""Protects the one tree: every known copy ends in it, by links, and readers accept it."""

import shutil
from pathlib import Path

import pytest

from ademvl.data import links
from ademvl.errors import DataError
from ademvl.tasks.coco_caption.reader import load_caption_images, load_caption_train
from ademvl.tasks.instruction.reader import load_instructions
from ademvl.tasks.mme.reader import TASKS, load_benchmark
from ademvl.tasks.scienceqa.reader import SPLITS, check_images, load_scienceqa
from tests.tasks import copies
from tests.tasks.copies import check_caption_splits, lay_out

SCIENCEQA_COPIES = {
    "official repository": (
        "data/scienceqa/problems.json",
        "data/scienceqa/images",
        "data/captions.json",
    ),
    "official data folder": ("problems.json", "images", "captions.json"),
    "LaVIN, ADEM-VL": ("problem.json", "images", "captions.json"),
    "LaVIN, from its root": ("data/problems.json", "data/images", "data/captions.json"),
    "archives beside problems": ("problems.json", "", "captions.json"),
}


@pytest.mark.parametrize("name", SCIENCEQA_COPIES)
def test_existing_scienceqa_is_used_in_place(tmp_path, name):
    copy = tmp_path / "copy"
    problems, images, captions = (copy / part for part in SCIENCEQA_COPIES[name])
    copies.write_scienceqa(problems, images, captions)
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(copy))
    dataset = load_scienceqa(root)
    assert {split: len(dataset.split(split)) for split in SPLITS} == copies.SIZES
    assert dataset.problems["10"].caption == "a shade"
    check_images(dataset, SPLITS)
    assert (root / "images/train").is_symlink()
    assert (root / "images/train").resolve() == (images / "train").resolve()


def test_manifest_has_sizes_and_checksums(tmp_path):
    copies.write_scienceqa(tmp_path / "copy/problems.json", tmp_path / "copy/images")
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    manifest = copies.read_json(root.parent / "manifest.json")
    assert manifest["counts"]["train problems"] == 4
    assert set(manifest["sha256"]) == {"scienceqa/problems.json", "scienceqa/pid_splits.json"}
    assert manifest["settings"]["existing"] == str(tmp_path / "copy")


def test_what_an_existing_copy_lacks_comes_from_downloads(tmp_path):
    shared = tmp_path / "shared"
    copies.write_scienceqa(shared / "downloads/scienceqa/problems.json", tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere/test", shared / "unpacked/scienceqa/images/test")
    shutil.move(tmp_path / "elsewhere", tmp_path / "copy")
    root = lay_out(shared, source="scienceqa", existing=str(tmp_path / "copy"))
    check_images(load_scienceqa(root), SPLITS)
    assert (root / "images/test").readlink().parts[0] == ".."
    assert (root / "images/train").readlink().is_absolute()


def test_shared_folder_may_be_moved_as_a_whole(tmp_path):
    shared = tmp_path / "shared"
    images = shared / "unpacked/scienceqa/images"
    copies.write_scienceqa(shared / "downloads/scienceqa/problems.json", images)
    lay_out(shared, source="scienceqa")
    shared.rename(tmp_path / "moved")
    check_images(load_scienceqa(tmp_path / "moved/data/set/scienceqa"), SPLITS)


def refuse(*_, **__):
    raise OSError("not here")


@pytest.mark.parametrize("hard_links", [True, False])
def test_layout_works_where_symbolic_links_do_not(tmp_path, monkeypatch, hard_links):
    copies.write_scienceqa(tmp_path / "copy/problems.json", tmp_path / "copy/images")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    if not hard_links:
        monkeypatch.setattr(links.os, "link", refuse)
    root = lay_out(tmp_path / "shared", source="scienceqa", existing=str(tmp_path / "copy"))
    check_images(load_scienceqa(root), SPLITS)
    image = root / "images/train/10/image.png"
    is_same = image.samefile(tmp_path / "copy/images/train/10/image.png")
    assert is_same == hard_links
    assert not image.is_symlink()


def test_packed_images_are_linked_as_archives(tmp_path):
    downloads = tmp_path / "shared/downloads/scienceqa"
    copies.write_scienceqa(downloads / "problems.json", tmp_path / "images")
    (downloads / "train.zip").write_bytes(b"PK")
    root = lay_out(tmp_path / "shared", source="scienceqa")
    assert (root / "images/train.zip").read_bytes() == b"PK"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("scienceqa", "official repository: data/scienceqa/problems.json"),
        ("coco_caption", "coco_karpathy_{train,val,test}.json or dataset_coco.json"),
        ("lavin_instruct", "all_data.json or data/all_data.json"),
        ("mme", "MME_Benchmark_release_version/existence"),
    ],
)
def test_unknown_layout_is_refused_with_what_was_looked_for(tmp_path, source, said):
    (tmp_path / "copy").mkdir()
    with pytest.raises(DataError) as caught:
        lay_out(tmp_path / "shared", source=source, existing=str(tmp_path / "copy"))
    assert said in str(caught.value)
    assert str(tmp_path / "copy") in str(caught.value)
    assert not (tmp_path / "shared/data/set").exists()


def test_missing_existing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder; correct the key `existing`"):
        lay_out(tmp_path, source="scienceqa", existing=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("images", ["", "images", "data/images"])
@pytest.mark.parametrize("form", ["with references", "without references", "combined"])
def test_existing_coco_is_used_in_place(tmp_path, images, form):
    copy = tmp_path / "copy"
    copies.write_coco_images(copy / images)
    if form == "combined":
        copies.write_karpathy_combined(copy / "dataset_coco.json")
    else:
        with_references = form == "with references"
        copies.write_blip_splits(copy / "annotations", with_references=with_references)
    check_caption_splits(lay_out(tmp_path / "shared", source="coco_caption", existing=str(copy)))


def test_images_without_karpathy_splits_name_the_way_out(tmp_path):
    copies.write_coco_images(tmp_path / "copy")
    with pytest.raises(DataError, match="`caption_splits: official` does without"):
        lay_out(tmp_path / "shared", source="coco_caption", existing=str(tmp_path / "copy"))


def test_real_photos_are_laid_out_with_official_splits(tmp_path, real_dir):
    root = lay_out(
        tmp_path / "shared",
        source="coco_caption",
        existing=str(real_dir / "coco_photos"),
        caption_splits="official",
    )
    train, val = load_caption_train(root), load_caption_images(root, "val")
    assert (len(train), len({item.image for item in train}), len(val)) == (400, 80, 40)
    assert {len(image.references) for image in val} == {5}
    with pytest.raises(DataError, match=r"coco_karpathy_test.*cannot be read"):
        load_caption_images(root, "test")


def test_damaged_karpathy_file_is_named(tmp_path):
    copies.write_coco_images(tmp_path / "copy")
    copies.write_json(tmp_path / "copy/dataset_coco.json", {"images": [{"split": "train"}]})
    with pytest.raises(DataError, match=r"dataset_coco\.json: not in Karpathy's form"):
        lay_out(tmp_path / "shared", source="coco_caption", existing=str(tmp_path / "copy"))


def test_instructions_take_images_from_a_copy_of_coco(tmp_path):
    copies.write_coco_images(tmp_path / "coco")
    copies.write_json(tmp_path / "copy/all_data.json", {"all": copies.instruction_rows()})
    root = lay_out(
        tmp_path / "shared",
        source="lavin_instruct",
        existing=str(tmp_path / "copy"),
        coco=str(tmp_path / "coco"),
    )
    assert [item.image is not None for item in load_instructions(root)] == [False, True]


def test_instructions_take_images_from_downloaded_coco(tmp_path):
    shared = tmp_path / "shared"
    copies.write_coco_images(shared / "unpacked/coco_caption/images")
    copies.write_json(tmp_path / "copy/all_data.json", {"all": copies.instruction_rows()})
    root = lay_out(shared, source="lavin_instruct", existing=str(tmp_path / "copy"))
    assert [item.image is not None for item in load_instructions(root)] == [False, True]


@pytest.mark.parametrize("inside", ["", "MME_Benchmark_release_version"])
def test_mme_is_laid_out_by_category(tmp_path, inside):
    copies.write_mme(tmp_path / "copy" / inside)
    root = lay_out(tmp_path / "shared", source="mme", existing=str(tmp_path / "copy"))
    assert len(load_benchmark(root)) == 2 * len(TASKS)
