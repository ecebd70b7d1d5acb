"""Photos with label maps (and instance numbers): found, read, cropped and mirrored together.

Used by ``chapters/spade.md``.  Label maps are grey images whose values are the labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minilib import images
from minilib.data import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a data set keeps its files; ``{}`` in a folder's name stands for the split.

    Attributes:
        photos, labels, instances: folders; no instance numbers if the last is empty.
        splits: names of the training and of the held-out split.
        endings: how the names end; with them the folders are searched to any depth.
    """

    photos: str
    labels: str
    instances: str = ""
    splits: tuple[str, str] = ("train", "val")
    endings: tuple[str, str, str] = ("", "", "")


DATA_SETS = {
    "camvid": Folders(photos="{}", labels="{}annot", splits=("train", "test")),
    "small_samples": Folders(
        photos="coco_stuff/{}_img", labels="coco_stuff/{}_label", instances="coco_stuff/{}_inst"
    ),
    "coco_stuff": Folders(photos="{}_img", labels="labels/{}2017", instances="{}_inst"),
    "ade20k": Folders(
        photos="images/{}", labels="annotations/{}", splits=("training", "validation")
    ),
    "cityscapes": Folders(
        photos="leftImg8bit/{}",
        labels="gtFine/{}",
        instances="gtFine/{}",
        endings=("_leftImg8bit.png", "_labelIds.png", "_instanceIds.png"),
    ),
    "landscapes": Folders(photos="{}_img", labels="{}_label"),
}

Files = tuple[Path, Path, Path | None]


def find(name: str, held_out: bool = False, limit: int = 0) -> list[Files]:
    """(photo, labels, instances or None) of a data set's split, matched in order of their names.

    Args:
        name: one of ``DATA_SETS``.
        held_out: the held-out split instead of the training split.
        limit: only the first so many; 0 takes all.

    Raises:
        DataMissing: the data set or a folder of it is not there.
        DataError: not as many label maps as photos.
    """
    where = DATA_SETS[name]
    split = where.splits[held_out]
    folders = (where.photos, where.labels, where.instances)
    found: list[list[Path]] = []
    for folder, ending in zip(folders, where.endings, strict=True):
        pattern = f"**/*{ending}" if ending else "*"
        found.append(images.list_images(name, folder.format(split), pattern) if folder else [])
    photos, labels, instances = found
    if len({len(f) for f in found if f}) > 1:
        counts = f"{len(photos)} photos, {len(labels)} label maps, {len(instances)} instance maps"
        raise DataError(f"{name}/{split}: {counts}")
    numbers: Sequence[Path | None] = instances or [None] * len(photos)
    return list(zip(photos, labels, numbers, strict=True))[: limit or None]


def read_numbers(path: Path, size: tuple[int, int]) -> Tensor:
    """A grey image of labels or instance numbers, (1, H, W) int32, resized to the nearest pixel.

    Raises:
        DataError: damaged, or a colour image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise DataError(f"{path.name}: a {image.mode} image, wanted grey labels")
            small = image.resize((size[1], size[0]), Image.Resampling.NEAREST)
            return torch.from_numpy(np.array(small).astype(np.int32))[None]
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path.name}: damaged or not an image ({error})") from None


def cropped(image: Tensor, crop: tuple[int, int], flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop (height, width) and mirror image of (C, H, W); the same draws for any C."""
    down, right, mirror = torch.rand(3, generator=generator).tolist()
    top = int(down * (image.shape[1] - crop[0] + 1))
    left = int(right * (image.shape[2] - crop[1] + 1))
    image = image[:, top : top + crop[0], left : left + crop[1]]  # (C, h, w)
    return image.flip(2) if flip and mirror < 0.5 else image


class LabelledPhotos:
    """Photos with label maps, read when they are asked for.

    Args:
        files: (photo, labels, instances or None) for each image, as from ``find``.
        size: (height, width) to which all are resized.
    """

    def __init__(self, files: Sequence[Files], size: tuple[int, int]) -> None:
        """Keep the names; nothing is read yet."""
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        """How many photos there are."""
        return len(self.files)

    def load(
        self,
        indices: Tensor,
        *,
        crop: tuple[int, int] | None = None,
        flip: bool = False,
        seed: int = 0,
        step: int = 0,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Photo, labels and instances of some images, augmented alike.

        Args:
            indices: (B,) int64.
            crop: (height, width) of a random crop; None keeps all.
            flip: mirror with probability 1/2.
            seed, step: what the augmentation depends on, beside the image.

        Returns:
            (B, H, W) int64 labels, (B, H, W) int64 instance numbers or None, and (B, 3, H, W)
            float32 photos in [-1, 1].

        Raises:
            DataError: a damaged file.
        """
        rows = []
        for i in indices.tolist():
            photo, *maps = (path for path in self.files[i] if path is not None)
            whole = torch.cat(
                [
                    images.read_image(photo, self.size).int(),
                    *(read_numbers(path, self.size) for path in maps),
                ]
            )  # (4 or 5, H, W)
            chance = images.generator_for(seed, step, i)
            rows.append(cropped(whole, crop or self.size, flip, chance))
        both = torch.stack(rows)  # (B, 4 or 5, h, w)
        instances = both[:, 4].long() if both.shape[1] == 5 else None
        return both[:, 3].long(), instances, images.to_float(both[:, :3])
