"""The second step of a data set: made once, file by file, and never half a data set."""

import json
import subprocess
import sys

import numpy as np
import pytest
from data_trees import plant
from PIL import Image

from minilib import download, prepare
from minilib.catalogue import RECORD, catalogue, read_record
from minilib.download import DownloadError
from minilib.installed import tree_checksum, verify
from minilib.paths import ROOT
from minilib.staging import locked


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_smaller_copy_has_the_same_layout_and_a_record(tmp_path):
    plant(tmp_path / "a", "cityscapes")
    folder = prepare.shrink("cityscapes", (16, 32), tmp_path / "a", tmp_path / "b")
    assert names(folder) == names(tmp_path / "a" / "cityscapes")
    for path in folder.rglob("*.png"):
        with Image.open(path) as small:
            assert small.size == (32, 16)
    record = read_record(folder)
    assert record["checksum"] == tree_checksum(folder)[0]
    assert record["prepared"]["size"] == [16, 32]
    assert record["prepared"]["of"] == read_record(tmp_path / "a" / "cityscapes")["checksum"]
    assert (
        prepare.shrink("cityscapes", (16, 32), tmp_path / "a", tmp_path / "b") == folder
    )  # is there


def test_photographs_are_smoothed_and_maps_are_not(tmp_path):
    plant(tmp_path / "a", "cityscapes")
    folder = prepare.shrink("cityscapes", (7, 9), tmp_path / "a", tmp_path / "b")
    for pattern, same in (("*_labelIds.png", True), ("*_color.png", True), ("*8bit.png", False)):
        small = next(folder.rglob(pattern))
        large = tmp_path / "a" / "cityscapes" / small.relative_to(folder)
        found, known = (
            {tuple(v) for v in np.atleast_3d(np.array(Image.open(p))).reshape(-1, n)}
            for p, n in (
                (small, 1 if "Ids" in pattern else 3),
                (large, 1 if "Ids" in pattern else 3),
            )
        )
        assert (found <= known) is same


@pytest.mark.parametrize("mode", ["P", "I;16"])
def test_maps_of_every_kind_keep_their_kind_and_numbers(mode, tmp_path):
    numbers = np.arange(64).reshape(8, 8)
    image = Image.fromarray(numbers.astype(np.uint8 if mode == "P" else np.uint16))
    if mode == "P":
        image = image.convert("P")
        image.putpalette([255 - i // 3 for i in range(768)])
    path = tmp_path / "labels" / "a.png"
    path.parent.mkdir()
    image.save(path)
    with Image.open(path) as opened:
        assert prepare.is_map(path, opened)
        small = prepare.resized(opened, (4, 4), labels=True)
    assert small.mode == mode
    assert set(np.array(small).flatten()) <= set(numbers.flatten())


def test_an_interrupted_copy_goes_on_and_is_no_data_set_before(tmp_path, monkeypatch):
    plant(tmp_path / "a", "facades")
    made, real = [], prepare.resized

    def stops(image, size, labels):
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return real(image, size, labels)

    monkeypatch.setattr(prepare, "resized", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b" / "facades").exists()
    (work,) = (tmp_path / "b").iterdir()
    assert len(names(work)) == 3  # whole files only
    folder = prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")
    assert len(made) == 4 + len(names(folder)) - 1 - 3  # the record is one of the names
    assert list((tmp_path / "b").iterdir()) == [folder]


def test_a_full_disk_is_seen_first_and_damage_is_one_line(tmp_path, monkeypatch):
    plant(tmp_path / "a", "facades")
    usage = type("Usage", (), {"free": 10})
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(DownloadError, match="are free"):
            prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    (tmp_path / "a" / "facades" / "train" / "2.jpg").write_bytes(b"no image")
    with pytest.raises(DownloadError, match=r"2\.jpg': damaged or not an image"):
        prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b" / "facades").exists()


def test_the_copy_wants_another_folder_and_an_installed_set(tmp_path):
    plant(tmp_path, "facades")
    with pytest.raises(DownloadError, match="another data folder"):
        prepare.shrink("facades", (8, 8), tmp_path, tmp_path)
    with pytest.raises(DownloadError, match=r"not here; run: python data_scripts/maps\.py"):
        prepare.shrink("maps", (8, 8), tmp_path, tmp_path / "b")


def test_folders_around_the_data_do_not_make_photographs_maps(tmp_path):
    root = tmp_path / "gt" / "my_labels"
    plant(root, "cityscapes")
    folder = prepare.shrink("cityscapes", (7, 9), root, tmp_path / "b")
    small = next(folder.rglob("*8bit.png"))
    large = root / "cityscapes" / small.relative_to(folder)
    found, known = (
        {tuple(v) for v in np.array(Image.open(p)).reshape(-1, 3)} for p in (small, large)
    )
    assert not found <= known


KILLED = """
import os, signal, sys
from pathlib import Path
from minilib import prepare
real = prepare.resized
class Kills:
    def save(self, out, **options):
        Path(out).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
made = []
def stops(image, size, labels):
    made.append(1)
    return Kills() if len(made) == 3 else real(image, size, labels)
prepare.resized = stops
prepare.shrink("facades", (8, 16), Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_copy_leaves_nothing_in_the_data_set(tmp_path):
    plant(tmp_path / "a", "facades")
    arguments = [sys.executable, "-c", KILLED, tmp_path / "a", tmp_path / "b"]
    assert subprocess.run(arguments, check=False).returncode == -9
    assert any(".tmp" in path.name for path in (tmp_path / "b").rglob(".*"))
    (tmp_path / "a/facades/train/._1.jpg").write_bytes(b"macOS")
    folder = prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")
    assert list(folder.rglob(".*")) == []
    assert read_record(folder)["files"] == read_record(tmp_path / "a/facades")["files"]


def test_two_do_not_make_the_same_copy_at_once(tmp_path):
    plant(tmp_path / "a", "facades")
    work = tmp_path / "b" / ".facades.preparing-8x16"
    work.mkdir(parents=True)
    with locked(work), pytest.raises(DownloadError, match="another process"):
        prepare.shrink("facades", (8, 16), tmp_path / "a", tmp_path / "b")


def test_another_copy_that_is_there_is_refused(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    plant(a, "facades")
    folder = prepare.shrink("facades", (16, 16), a, b)
    with pytest.raises(DownloadError, match=r"is there already, and is a copy of 16x16: remove it"):
        prepare.shrink("facades", (32, 32), a, b)
    record = read_record(a / "facades")
    (a / "facades" / RECORD).write_text(json.dumps({**record, "checksum": "0"}))
    with pytest.raises(DownloadError, match="a copy of other files"):
        prepare.shrink("facades", (16, 16), a, b)
    for text in (json.dumps(record), "3"):
        (folder / RECORD).write_text(text)
        with pytest.raises(DownloadError, match="is no resized copy"):
            prepare.shrink("facades", (16, 16), a, b)


def test_copies_of_jpegs_are_of_one_quality_however_they_end(tmp_path):
    plant(tmp_path / "a", "facades")
    folder = tmp_path / "a" / "facades" / "train"
    (folder / "1.JPG").write_bytes((folder / "1.jpg").read_bytes())
    copy = prepare.shrink("facades", (48, 96), tmp_path / "a", tmp_path / "b") / "train"
    assert (copy / "1.JPG").read_bytes() == (copy / "1.jpg").read_bytes()


def test_masks_from_polygons_and_run_lengths():
    square = prepare.mask_of([[1, 1, 3, 1, 3, 2, 1, 2], [0, 0]], (4, 5))
    assert square.sum() == 6
    assert square[1:3, 1:4].all()
    crowd = prepare.mask_of({"counts": [4, 2, 2, 4], "size": [4, 3]}, (4, 3))
    assert crowd.astype(int).tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]]


def coco(root):
    """COCO-Stuff as downloaded: no instance maps yet, two objects in one image."""
    plant(root, "coco_stuff")
    folder = root / "coco_stuff"
    for split in ("train", "val"):
        for path in (folder / f"{split}_inst").glob("*"):
            path.unlink()
        (folder / f"{split}_inst").rmdir()
        square, crowd = [[2, 2, 9, 2, 9, 9, 2, 9]], {"counts": [48 * 40, 48], "size": [48, 48]}
        crowd["counts"].append(48 * 48 - sum(crowd["counts"]))
        annotations = [{"image_id": 1, "segmentation": s} for s in (square, crowd)]
        file = folder / "annotations" / f"instances_{split}2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"annotations": annotations}))
    record = read_record(folder) | dict(
        zip(("checksum", "files"), tree_checksum(folder), strict=False)
    )
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def test_instance_maps_of_coco(tmp_path):
    folder = coco(tmp_path)
    (folder / "train_inst").mkdir()
    (folder / "train_inst" / ".000000000000.4242.tmp.png").write_bytes(b"half")  # of a killed one
    (folder / "labels" / "train2017" / "._000000000000.png").write_bytes(b"macOS")
    assert prepare.prepare("coco_stuff", tmp_path) == "coco_stuff: 6 files made, the rest was there"
    assert list((folder / "train_inst").glob(".*")) == []
    for path in (folder / "train_inst").glob("*.png"):
        numbers = np.array(Image.open(path)).astype(int)
        labels = np.array(Image.open(folder / "labels" / "train2017" / path.name))
        objects = numbers >= prepare.FIRST_OBJECT
        assert (numbers[~objects] == labels[~objects]).all()
        assert objects.sum() == (64 + 48 if int(path.stem) == 1 else 0)
        if objects.any():
            assert (numbers[2:10, 2:10] == 1000).all()
            assert (numbers[:, 40] == 1001).all()
    assert "unchanged" in verify(catalogue_entry(), tmp_path)
    assert prepare.prepare("coco_stuff", tmp_path) == "coco_stuff: 0 files made, the rest was there"
    (folder / "val_inst" / "000000000002.png").unlink()
    assert prepare.prepare("coco_stuff", tmp_path) == "coco_stuff: 1 files made, the rest was there"


def catalogue_entry():
    """COCO-Stuff's entry, content with three images."""
    from dataclasses import replace

    entry = catalogue()["coco_stuff"]
    return replace(entry, expect=dict.fromkeys(entry.expect, 1))


def test_prepared_coco_is_what_spade_reads(tmp_path, monkeypatch):
    import torch

    from minilib import chapters

    coco(tmp_path)
    prepare.prepare("coco_stuff", tmp_path)
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    spade = chapters.load("spade")
    config = spade.PRESETS["full"]["coco"].config
    x, y = spade.open_pairs("coco_stuff", config).pairs(torch.arange(3), crop=(256, 256))
    assert x.shape == (3, 184, 256, 256)
    assert y.shape == (3, 3, 256, 256)
    assert x[1, -1].sum() > 0  # borders of the two objects


def test_missing_annotations_are_one_line(tmp_path):
    folder = coco(tmp_path)
    (folder / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DownloadError, match=r"instances_val2017\.json: missing or damaged"):
        prepare.prepare("coco_stuff", tmp_path)
    with pytest.raises(DownloadError, match="unknown data set that wants preparing 'mnist'"):
        prepare.prepare("mnist", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--list"], 0, "coco_stuff"),
        (["facades", "--size", "8x8"], 1, "wants both --size and --to"),
        (["facades", "--size", "8by8", "--to", "x"], 1, "wanted HEIGHTxWIDTH"),
        (["facades", "--size", "99999999", "--to", "x"], 1, "at most 16384 are possible"),
        (["facades", "--size", "8", "--to", str(ROOT / "Makefile")], 1, "Makefile' is a file"),
        (["facade"], 1, "did you mean 'facades'"),
        (["coco_stuff"], 1, "python data_scripts/coco_stuff.py"),
    ],
)
def test_command_line(arguments, status, words, tmp_path):
    plant(tmp_path, "facades")
    done = subprocess.run(
        [sys.executable, ROOT / "data_scripts" / "prepare.py", *arguments, "--root", tmp_path],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == status
    assert words in (done.stderr if status else done.stdout)
    assert done.stderr.count("\n") == (1 if status else 0)
