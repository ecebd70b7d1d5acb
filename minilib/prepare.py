"""The second step of a data set: smaller copies, and the maps that its publisher does not serve.

Both go on where they stopped: each file is written under another name and then renamed, and what is
there is not made again.  A copy gets its place, and its record, only when it is whole.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from tqdm import tqdm

from minilib.catalogue import RECORD, read_record
from minilib.config import nearest
from minilib.download import DownloadError, need_space
from minilib.images import SUFFIXES
from minilib.install import tree_checksum

LABELS = ("labels", "gtfine", "gt", "annotations", "_label", "_inst", "annot")  # folders of maps
FIRST_OBJECT = 1000  # in instance maps, numbers below are labels of what has no instances
QUALITY = 95  # of JPEG


def shrink(name: str, size: tuple[int, int], root: Path, to: Path, show: bool = False) -> Path:
    """A copy of a data set with every image resized, in the same layout.

    Photographs are resized bicubically, label and instance maps to the nearest pixel; other files
    are copied.  Point ``$MINILIB_DATA`` at ``to``, and chapters read the copy.

    Args:
        name: an installed data set.
        size: (height, width).
        root: the data folder it lies in.
        to: another data folder.
        show: draw a progress bar.

    Returns:
        The copy's folder.

    Raises:
        DownloadError: not installed, too little disk space, or an image that is damaged.
    """
    source, target = root / name, to / name
    record = _installed(name, root)
    if to.resolve() == root.resolve():
        raise DownloadError(f"{name}: the copy wants another data folder than '{root}'")
    if target.exists():
        return target
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != RECORD)
    need_space(to, min(3 * size[0] * size[1] * len(files), record["bytes"]))
    work = to / f".{name}.preparing-{size[0]}x{size[1]}"
    for path in tqdm(files, desc=name, disable=not show):
        once(work / path.relative_to(source), _resizer(path, size))
    _write_record(work, record, {"size": list(size), "of": record["checksum"]})
    work.rename(target)
    return target


def once(target: Path, write: Callable[[Path], None]) -> bool:
    """Make one file unless it is there; a crash leaves none or a whole one.

    Args:
        target: the file.
        write: writes it to the path it is given.

    Returns:
        Whether it was made now.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        write(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _resizer(path: Path, size: tuple[int, int]) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            out.write_bytes(path.read_bytes())
            return
        try:
            with Image.open(path) as image:
                small = resized(image, size, is_map(path, image))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise DownloadError(f"{path.name}: damaged or not an image ({error})") from None
        small.save(out, quality=QUALITY) if out.suffix in (".jpg", ".jpeg") else small.save(out)

    return write


def is_map(path: Path, image: Image.Image) -> bool:
    """Whether an image is one of labels or instances: by its kind, or by its folders' names."""
    if path.suffix.lower() != ".png":
        return False
    folders = [part.lower() for part in path.parts[:-1]]
    return image.mode not in ("RGB", "L") or any(f.endswith(LABELS) for f in folders)


def resized(image: Image.Image, size: tuple[int, int], labels: bool) -> Image.Image:
    """An image at (height, width): bicubic, or for maps the nearest pixel."""
    wide = (size[1], size[0])
    if labels:
        return image.resize(wide, Image.Resampling.NEAREST)
    return image.convert("RGB").resize(wide, Image.Resampling.BICUBIC)


def coco_instances(folder: Path, show: bool = False) -> int:
    """Instance maps for COCO-Stuff: ``{train,val}_inst/ID.png``, 16 bits a pixel.

    Where an annotated object is, its number; elsewhere the label of ``labels/{split}2017/ID.png``.
    SPADE reads the borders between instances from them (thesis 2.4).

    Returns:
        How many maps were made now.

    Raises:
        DownloadError: annotations or label maps are missing or damaged.
    """
    made = 0
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}2017.json"
        try:
            objects = by_image(json.loads(path.read_text())["annotations"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DownloadError(f"{path.name}: missing or damaged ({error})") from None
        maps = sorted((folder / "labels" / f"{split}2017").glob("*.png"))
        for labels in tqdm(maps, desc=f"{split} instances", disable=not show):
            mine = objects.get(int(labels.stem), [])
            write = _instance_writer(labels, mine)
            made += once(folder / f"{split}_inst" / labels.name, write)
    return made


def by_image(annotations: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """Annotations grouped by the image they belong to."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in annotations:
        found.setdefault(annotation["image_id"], []).append(annotation)
    return found


def _instance_writer(labels: Path, objects: list[Mapping[str, Any]]) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        try:
            with Image.open(labels) as image:
                numbers = np.array(image.convert("L")).astype(np.uint16)  # (H, W)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise DownloadError(f"{labels.name}: damaged ({error})") from None
        for k, one in enumerate(objects):
            numbers[mask_of(one["segmentation"], numbers.shape)] = FIRST_OBJECT + k
        Image.fromarray(numbers).save(out)

    return write


def mask_of(segmentation: Any, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """An object's pixels (H, W): from polygons, or from run lengths column by column."""
    if isinstance(segmentation, dict):  # a crowd: pixels off, on, off, ... down each column
        runs = np.asarray(segmentation["counts"], dtype=np.int64)
        on = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return on.reshape(tuple(segmentation["size"]), order="F")
    canvas = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for corners in segmentation:
        if len(corners) >= 6:  # x, y, x, y, ...
            draw.polygon(corners, fill=1)
    return np.array(canvas)


STEPS = {"coco_stuff": coco_instances}  # what a data set needs before a chapter can read it


def prepare(name: str, root: Path, show: bool = False) -> str:
    """Make what a data set lacks, in its own folder, and bring its record up to date.

    Returns:
        One line that says what was done.

    Raises:
        DownloadError: it is not installed, or needs no preparation.
    """
    if name not in STEPS:
        raise DownloadError(nearest(name, STEPS, "data set that wants preparing"))
    record = _installed(name, root)
    made = STEPS[name](root / name, show)
    if made or not record.get("prepared"):
        _write_record(root / name, record, {"step": STEPS[name].__name__})
    return f"{name}: {made} files made, the rest was there"


def _installed(name: str, root: Path) -> dict[str, Any]:
    record = read_record(root / name)
    if not record:
        raise DownloadError(f"{name}: not here; run: python data_scripts/{name}.py")
    return record


def _write_record(folder: Path, record: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
    checksum, files, size = tree_checksum(folder)
    new = {**record, "checksum": checksum, "files": files, "bytes": size}
    new["prepared"] = {**prepared, "on": time.strftime("%Y-%m-%d")}
    temporary = folder / f".{RECORD}.tmp"
    temporary.write_text(json.dumps(new, indent=1) + "\n")
    os.replace(temporary, folder / RECORD)
