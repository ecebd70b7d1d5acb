"""The second step of a data set: smaller copies, and the maps that its publisher does not serve.

Both go on where they stopped: each file is written under another name and then renamed, and what is
there is not made again.  A copy gets its place, and its record, only when it is whole.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from tqdm import tqdm

from minilib.catalogue import read_record, write_record
from minilib.config import nearest
from minilib.download import DownloadError, need_space
from minilib.images import SUFFIXES
from minilib.installed import files_of, tree_checksum
from minilib.staging import locked

LABELS = ("labels", "gtfine", "gt", "annotations", "_label", "_inst", "annot")  # folders of maps
FIRST_OBJECT = 1000  # in instance maps, numbers below are labels of what has no instances
QUALITY = 95  # of JPEG
LARGEST = 16384  # pixels of a copy's side
LEFT_OVER = re.compile(r"\..*\.tmp(\.[^.]*)?")  # names of files that a killed process left
DAMAGED = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)


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
        DownloadError: not installed, too little disk space, an image that is damaged, or a copy
            that is there already and is another one.
    """
    record = _installed(name, root)
    if max(size) > LARGEST:
        raise DownloadError(f"{name}: a side of {max(size)} pixels, at most {LARGEST} are possible")
    if to.resolve() == root.resolve():
        raise DownloadError(f"{name}: the copy wants another data folder than '{root}'")
    if to.exists() and not to.is_dir():
        raise DownloadError(f"{name}: '{to}' is a file, and a folder is wanted")
    prepared = {"size": list(size), "of": record["checksum"]}
    if os.path.lexists(to / name):
        return _same_copy(to / name, prepared)
    files = sorted(files_of(root / name))
    with _one_line(name):
        need_space(to, min(3 * size[0] * size[1] * len(files), record["bytes"]))
        work = to / f".{name}.preparing-{size[0]}x{size[1]}"
        work.mkdir(parents=True, exist_ok=True)
        with locked(work):
            clear(work)
            for file in tqdm(files, desc=name, disable=not show):
                once(work / file, _resizer(root / name, Path(file), size))
            _write_record(work, record, prepared)
            work.rename(to / name)
    return to / name


def _same_copy(target: Path, wanted: Mapping[str, Any]) -> Path:
    """The copy that is there, if it is the wanted one.

    Raises:
        DownloadError: it has another size, or was made of other files.
    """
    made = read_record(target).get("prepared")
    found = made if isinstance(made, dict) else {}
    another = "remove it, or choose another folder with --to"
    if found.get("size") != wanted["size"]:
        size = found.get("size")
        sizes = isinstance(size, list) and len(size) == 2
        what = f"a copy of {size[0]}x{size[1]}" if sizes else "no resized copy"  # type: ignore[index]
        raise DownloadError(f"'{target}' is there already, and is {what}: {another}")
    if found.get("of") != wanted["of"]:
        raise DownloadError(f"'{target}' is a copy of other files than are here now: {another}")
    return target


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f": {str(error.filename)!r}" if error.filename else ""
        raise DownloadError(f"{name}: {error.strerror or error}{where}") from None


def clear(folder: Path) -> None:
    """Delete what processes that were killed in ``once`` left half-written."""
    for path in folder.rglob(".*"):
        if LEFT_OVER.fullmatch(path.name) and path.is_file():
            path.unlink()


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


def _resizer(folder: Path, file: Path, size: tuple[int, int]) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        path = folder / file
        if path.suffix.lower() not in SUFFIXES:
            out.write_bytes(path.read_bytes())
            return
        try:
            with Image.open(path) as image:
                small = resized(image, size, is_map(file, image))
        except MemoryError:
            raise DownloadError(f"{path.name}: too little memory for {size[0]}x{size[1]}") from None
        except DAMAGED as error:
            short = str(error).replace(str(path), path.name)
            raise DownloadError(f"{str(file)!r}: damaged or not an image ({short})") from None
        jpeg = out.suffix.lower() in (".jpg", ".jpeg")
        small.save(out, quality=QUALITY) if jpeg else small.save(out)

    return write


def is_map(path: Path, image: Image.Image) -> bool:
    """Whether an image is one of labels or instances: by its kind, or by its folders' names.

    Args:
        path: within the data set, so that the folders around that do not matter.
        image: the opened file.
    """
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
        maps = sorted((folder / "labels" / f"{split}2017").glob("[!.]*.png"))
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
        except DAMAGED as error:
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
    with _one_line(name), locked(root / name):
        clear(root / name)
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
    write_record(folder, new)
