"""LSUN's photographs, from the database as it is published or from a folder exported from it.

LSUN comes as LMDB, one large file: a B+ tree of keys whose leaves say where each photograph lies.
To read it, the tree is walked once, the places are noted, and the file is mapped into memory; no
library is needed.  Writing, transactions and duplicate keys are left out.
Used by ``chapters/cinn_colorization.md`` and ``swapping_autoencoder.md``.

Source: the layout of the file is that of LMDB 0.9 (``MDB_meta``, ``MDB_page``, ``MDB_node``).
"""

import io
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from minilib import images
from minilib.data import DataError, dataset_folder

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes of a page before its contents
META_TREE, META_CHANGE = 24 + 48, 24 + 2 * 48 + 8  # in a meta page: main tree, number of changes
TREE_ROOT, PAGE_SIZE = 40, 24  # in a tree's entry its root; in a meta page the size of pages
BRANCH, LEAF, APART = 1, 2, 1  # flags of pages, and of a value that has pages of its own
EMPTY = 2**64 - 1


class Database:
    """The values of an LMDB file, in the order of their keys: ``database[i]`` is bytes.

    Args:
        path: ``data.mdb``.

    Raises:
        DataError: not such a file, or cut off.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.name = "/".join(path.parts[-3:])
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._places = np.array(_places(self._bytes), dtype=np.int64).reshape(-1, 2)  # (N, 2)
        except (OSError, ValueError, struct.error) as error:
            raise DataError(f"{self.name}: not an LMDB file, or cut off ({error})") from None
        if len(self) and int(self._places.sum(axis=1).max()) > len(self._bytes):
            raise DataError(f"{self.name}: cut off, its last values are missing")

    def __len__(self) -> int:
        """Number of values."""
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        """Value ``index``."""
        start, length = self._places[index].tolist()
        return self._bytes[start : start + length]


def _places(memory: mmap.mmap) -> list[tuple[int, int]]:
    """Where each value starts, and its length, in the order of keys."""
    size, page = _newest_tree(memory)
    waiting, found = [] if page == EMPTY else [page], []
    while waiting:
        start = waiting.pop() * size
        flags, lower = struct.unpack_from("<HH", memory, start + 10)
        nodes = struct.unpack_from(f"<{(lower - HEADER) // 2}H", memory, start + HEADER)
        if flags & BRANCH:
            waiting += [_child(memory, start + node) for node in reversed(nodes)]
        elif flags & LEAF:
            found += [_value(memory, start + node, size) for node in nodes]
        else:
            raise ValueError(f"a page of kind {flags} where the tree should go on")
    return found


def _newest_tree(memory: mmap.mmap) -> tuple[int, int]:
    """Size of pages, and the root of the main tree in the newer of the two meta pages."""
    magic, version = struct.unpack_from("<II", memory, HEADER)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("its first bytes are others")
    (size,) = struct.unpack_from("<I", memory, HEADER + PAGE_SIZE)
    starts = (HEADER, size + HEADER)
    changes = [struct.unpack_from("<Q", memory, s + META_CHANGE)[0] for s in starts]
    newer = starts[changes[1] > changes[0]]
    (root,) = struct.unpack_from("<Q", memory, newer + META_TREE + TREE_ROOT)
    return size, root


def _child(memory: mmap.mmap, node: int) -> int:
    """The page that a branch's node leads to; 48 bits."""
    low, middle, high = struct.unpack_from("<HHH", memory, node)
    return int(low | middle << 16 | high << 32)


def _value(memory: mmap.mmap, node: int, size: int) -> tuple[int, int]:
    """Where the value of a leaf's node starts, and its length."""
    low, high, flags, key = struct.unpack_from("<HHHH", memory, node)
    start = node + 8 + key
    if flags & APART:
        start = struct.unpack_from("<Q", memory, start)[0] * size + HEADER
    return start, low | high << 16


class Files:
    """Files as bytes, like a ``Database``."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """``paths``: in the order that indices mean."""
        self.paths, self.name = list(paths), "/".join(paths[0].parts[-3:-1])

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        """Contents of file ``index``."""
        return self.paths[index].read_bytes()


class Photographs(images.ImageSet):
    """Encoded photographs, decoded when they are asked for: the middle square, resized.

    Args:
        encoded: bytes of a WebP, JPEG or PNG file each.
        size: (height, width).
    """

    def __init__(self, encoded: Database | Files, size: tuple[int, int]) -> None:
        """See the class."""
        super().__init__([], size)
        self.encoded = encoded

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.encoded)

    def __getitem__(self, index: int) -> Tensor:
        """Photograph ``index``: (3, H, W) uint8.

        Raises:
            DataError: not an image.
        """
        try:
            with Image.open(io.BytesIO(self.encoded[index])) as photo:
                square = ImageOps.fit(
                    photo.convert("RGB"), self.size[::-1], Image.Resampling.BICUBIC
                )
        except (OSError, SyntaxError) as error:
            raise DataError(f"{self.encoded.name}, photograph {index}: {error}") from None
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()  # (3, H, W)


def photographs(name: str, split: str, size: tuple[int, int]) -> Photographs:
    """A split of an LSUN data set, in the order of its keys or names.

    Args:
        name: "lsun_bedroom" or "lsun_church".
        split: "train" or "val"; read from ``SPLIT_lmdb/data.mdb``, or else from image files at any
            depth of ``SPLIT/``.
        size: (height, width).

    Raises:
        DataMissing: the data set is not here.
        DataError: the database is damaged.
    """
    database = dataset_folder(name) / f"{split}_lmdb" / "data.mdb"
    if database.is_file():
        return Photographs(Database(database), size)
    return Photographs(Files(images.list_images(name, split, "**/*")), size)
