"""Folders of images, single or in pairs: decoded once into memory, cropped and flipped on demand.

Decoded images stay in memory as uint8.  Crops and flips are a pure function of (seed, step,
image), so a resumed run, or one on several processes, sees the images it would have seen.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from minilib.config import nearest
from minilib.data import DataError, DataMissing, dataset_folder

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


class ImageSet:
    """Images of one size, read when they are first asked for and kept.

    Args:
        paths: the files, in the order that indices mean.
        size: (height, width) to which each image is resized (bicubic).
        halves: each file holds two images side by side; ``[i]`` then has 6 channels, left first.
        cache_bytes: most memory for kept images; what does not fit is read again each time.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        halves: bool = False,
        cache_bytes: int = 4_000_000_000,
    ) -> None:
        """See the class."""
        self.paths, self.size, self.halves = tuple(paths), size, halves
        each = size[0] * size[1] * (6 if halves else 3)
        self._room = cache_bytes // each
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Number of images, or of pairs."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Image ``index``: (3, H, W) uint8, or (6, H, W) for a pair.

        Raises:
            DataError: the file is damaged, or not a pair.
        """
        if index in self._kept:
            return self._kept[index]
        image = (read_pair if self.halves else read_image)(self.paths[index], self.size)
        if len(self._kept) < self._room:
            self._kept[index] = image
        return image

    def batch(
        self, indices: Tensor, *, crop: int = 0, flip: bool = False, seed: int = 0, step: int = 0
    ) -> Tensor:
        """Several images, augmented.

        Args:
            indices: (B,) int64.
            crop: side of a random square crop, in pixels; 0 keeps the whole image.
            flip: mirror every image with probability 1/2.
            seed: of the run.
            step: of the training; the same (seed, step, indices) give the same batch.

        Returns:
            (B, C, H, W) float32 in [-1, 1], C = 3, or 6 for pairs (cropped and flipped together).
        """
        rows = []
        for index in indices.tolist():
            generator = generator_for(seed, step, index)
            rows.append(augment(self[index], crop, flip, generator))
        return to_float(torch.stack(rows))  # (B, C, H, W)


class PairSet(ImageSet):
    """Images in pairs: a condition and a target that show the same thing.

    Args:
        paths: the files; each holds the two images side by side.
        size: (height, width) of one image after resizing.
        condition: the half of the file that is the condition, "left" or "right".
        cache_bytes: most memory for kept pairs.

    Raises:
        DataError: another word than "left" or "right".
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        condition: str,
        cache_bytes: int = 4_000_000_000,
    ) -> None:
        """See the class."""
        if condition not in ("left", "right"):
            raise DataError(nearest(condition, ("left", "right"), "side of the condition"))
        super().__init__(paths, size, halves=True, cache_bytes=cache_bytes)
        self.condition = condition

    def pairs(
        self, indices: Tensor, *, crop: int = 0, flip: bool = False, seed: int = 0, step: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Several pairs, augmented; arguments as in ``ImageSet.batch``.

        Returns:
            x, y: conditions and targets, each (B, 3, H, W) float32 in [-1, 1].
        """
        both = self.batch(indices, crop=crop, flip=flip, seed=seed, step=step)  # (B, 6, H, W)
        left, right = both[:, :3], both[:, 3:]
        return (left, right) if self.condition == "left" else (right, left)


def paired_folder(
    name: str, split: str, *, size: tuple[int, int], condition: str, limit: int = 0
) -> PairSet:
    """A data set of image pairs, such as facades: ``data_root()/NAME/SPLIT/*.jpg``.

    Args:
        name: the data set ("facades", "edges2shoes", ...).
        split: its sub-folder ("train", "val", "test").
        size: (height, width) of one image after resizing.
        condition: the half that is the condition: "right" for facades, maps and
            edges_shoes_bags (labels, map, edges), "left" for edges2shoes and edges2handbags.
        limit: only the first so many pairs; 0 takes all.

    Raises:
        DataMissing: the data set or the split is not there.
    """
    return PairSet(list_images(name, split)[: limit or None], size, condition)


def image_folder(
    name: str, split: str, *, size: tuple[int, int], pattern: str = "*", limit: int = 0
) -> ImageSet:
    """A data set of single images: ``data_root()/NAME/SPLIT/PATTERN``.

    Args:
        name: the data set ("horse2zebra", "natural_scenes", ...).
        split: its sub-folder ("trainA", "train", ...).
        size: (height, width) after resizing.
        pattern: glob of the files; "0001TP*" are CamVid's images at dusk, "**/*" goes deeper.
        limit: only the first so many images; 0 takes all.

    Raises:
        DataMissing: the data set or the split is not there, or nothing matches.
    """
    return ImageSet(list_images(name, split, pattern)[: limit or None], size)


def list_images(name: str, split: str, pattern: str = "*") -> list[Path]:
    """The image files of a split, sorted by name, numbers by their value.

    Raises:
        DataMissing: the data set or the split is not there, or nothing matches.
    """
    folder = dataset_folder(name)
    if not (folder / split).is_dir():
        splits = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise DataMissing(nearest(split, splits, f"split of '{name}'"))
    paths = [p for p in (folder / split).glob(pattern) if p.suffix.lower() in SUFFIXES]
    if not paths:
        raise DataMissing(f"no images '{pattern}' in {name}/{split}")
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts by name, runs of digits by their value: 2.jpg, 10.jpg."""
    name = path.as_posix()
    parts = re.split(r"([0-9]+)", name)  # text and digits take turns
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def read_image(path: Path, size: tuple[int, int]) -> Tensor:
    """One image as (3, H, W) uint8, resized to ``size`` = (height, width), bicubic.

    Raises:
        DataError: damaged, truncated or not an image.
    """
    return _resized(_decode(path), size)


def read_pair(path: Path, size: tuple[int, int]) -> Tensor:
    """Two images side by side in one file, as (6, H, W) uint8: the left one's channels first.

    Raises:
        DataError: damaged, truncated, or not twice as wide as high.
    """
    image = _decode(path)
    width, height = image.size
    if width != 2 * height:
        raise DataError(f"{_short(path)}: is {width}x{height}, but a pair is twice as wide as high")
    halves = image.crop((0, 0, height, height)), image.crop((height, 0, width, height))
    return torch.cat([_resized(half, size) for half in halves])  # (6, H, W)


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataMissing(f"{_short(path)} is missing") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        short = str(error).replace(str(path.parent.parent), "").lstrip("/")
        raise DataError(f"{_short(path)}: damaged or not an image ({short})") from None


def _resized(image: Image.Image, size: tuple[int, int]) -> Tensor:
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image).copy())  # (H, W, 3)
    return pixels.permute(2, 0, 1).contiguous()  # (3, H, W)


def generator_for(*numbers: int) -> torch.Generator:
    """A random generator that depends on all of ``numbers`` (non-negative) and nothing else."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def augment(image: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """A random square crop and a random mirror image.

    Three numbers are drawn whatever is asked for, so that switching one of the two off leaves the
    other as it was.

    Args:
        image: (C, H, W).
        crop: side in pixels, at most H and W; 0 keeps all.
        flip: mirror with probability 1/2.
        generator: where the numbers come from.

    Raises:
        DataError: the crop is larger than the image.
    """
    height, width = image.shape[1:]
    if crop > min(height, width):
        raise DataError(f"a crop of {crop} does not fit into an image of {width}x{height}")
    down, right, mirror = torch.rand(3, generator=generator).tolist()
    if crop:
        top, left = int(down * (height - crop + 1)), int(right * (width - crop + 1))
        image = image[:, top : top + crop, left : left + crop]  # (C, crop, crop)
    return image.flip(2) if flip and mirror < 0.5 else image


def to_float(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])
