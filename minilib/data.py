"""Data sets as the chapters read them: labelled digits in memory.

Nothing is loaded at import.  A data set that is not there raises ``DataMissing`` with the command
that gets it; a file that is damaged raises ``DataError``.  Both messages are one line.
Folders of images are in ``minilib.images``; where data comes from is in ``minilib.catalogue``.
"""

import bz2
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from minilib.config import nearest
from minilib.paths import ROOT, data_root

SPLITS = ("train", "test")
DAMAGED = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)


class DataMissing(FileNotFoundError):
    """A data set is not on this machine; the message names the command that gets it."""


class DataError(ValueError):
    """A data set is there, but a file in it is not what it should be."""


class Labelled(NamedTuple):
    """Images with their classes.

    x: (N, 1, H, W) float32 in [0, 1].  labels: (N,) int64.
    """

    x: Tensor
    labels: Tensor


def dataset_folder(name: str) -> Path:
    """Folder of an installed data set.

    Raises:
        DataMissing: it is not there.
    """
    folder = data_root() / name
    if not folder.is_dir():
        raise DataMissing(f"no data set '{name}' here; get it with: python data_scripts/{name}.py")
    return folder


def digits(split: str) -> Labelled:
    """Scikit-learn's bundled handwritten digits, 8x8; nothing is downloaded.

    The split is ours and fixed: in each class every fifth image is a test image.  The same people
    wrote the images on both sides.

    Args:
        split: "train" (1,442 images) or "test" (355).

    Returns:
        x (N, 1, 8, 8) in [0, 1] with 17 grey levels, labels (N,).

    Source: E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, UCI, 1998.
    """
    _check_split(split)
    images, labels = _bundled_digits()
    position = np.zeros(len(labels), dtype=np.int64)  # of an image within its class
    for label in range(10):
        mine = labels == label
        position[mine] = np.arange(mine.sum())
    chosen = (position % 5 == 4) == (split == "test")
    x = torch.from_numpy(images[chosen]).to(torch.float32).div_(16)
    return Labelled(x.unsqueeze(1), torch.from_numpy(labels[chosen]).long())


def mnist(split: str) -> Labelled:
    """MNIST, 28x28, read from the four official files in ``data_root()/mnist``.

    Args:
        split: "train" (60,000 images) or "test" (10,000).

    Returns:
        x (N, 1, 28, 28) in [0, 1], labels (N,).

    Raises:
        DataMissing: not downloaded yet.
        DataError: a file is damaged.

    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE, 1998.
    """
    _check_split(split)
    folder, stem = dataset_folder("mnist"), "train" if split == "train" else "t10k"
    x = read_idx(folder / f"{stem}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz")
    if x.shape != (len(labels), 28, 28):
        raise DataError(f"mnist {split}: {len(labels)} labels for images of shape {x.shape}")
    pixels = torch.from_numpy(x).unsqueeze(1).to(torch.float32).div_(255)
    return Labelled(pixels, torch.from_numpy(labels).long())


def usps(split: str) -> Labelled:
    """USPS digits from envelopes, 16x16, read from the libsvm files in ``data_root()/usps``.

    Args:
        split: "train" (7,291 images) or "test" (2,007).

    Returns:
        x (N, 1, 16, 16) in [0, 1], labels (N,).

    Raises:
        DataMissing: not downloaded yet.
        DataError: a file is damaged.

    Source: Hull, IEEE TPAMI, 1994; the libsvm collection's copy.
    """
    _check_split(split)
    path = dataset_folder("usps") / ("usps.bz2" if split == "train" else "usps.t.bz2")
    text = _read(path, bz2.decompress).decode("ascii", errors="replace")
    try:  # each line is "label 1:value 2:value ... 256:value", label 1 to 10, value -1 to 1
        table = np.array(text.replace(":", " ").split(), np.float32).reshape(-1, 513)
        pixels = table[:, 2::2].reshape(-1, 1, 16, 16)
    except ValueError as error:
        raise DataError(f"{_short(path)}: not the libsvm digits ({error})") from None
    if not (table[:, 1::2] == np.arange(1, 257)).all():
        raise DataError(f"{_short(path)}: not the libsvm digits (pixels out of order)")
    labels = torch.from_numpy(table[:, 0]).long() - 1
    return Labelled(torch.from_numpy((pixels + 1) / 2).clamp_(0, 1), labels)


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One gzipped idx file of unsigned bytes, as MNIST is stored.

    Args:
        path: a ``*-ubyte.gz`` file.

    Returns:
        A uint8 array of the shape that the file's header names.

    Raises:
        DataError: truncated, or not such a file.
    """
    raw = _read(path, gzip.decompress)
    dimensions = raw[3] if raw[:3] == b"\0\0\x08" and len(raw) > 3 else 0
    header = 4 + 4 * dimensions
    if not dimensions or len(raw) < header:
        raise DataError(f"{_short(path)}: not an idx file of unsigned bytes")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", dimensions, offset=4))
    expected, found = int(np.prod(shape)), len(raw) - header
    if found != expected:
        raise DataError(f"{_short(path)}: holds {found} values, its header says {expected}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


def checksum(name: str) -> str:
    """SHA-256 (hex) that says which data was used, for the run record.

    For an installed data set it is the checksum of all its files' names and contents, written when
    it was installed; the same files give the same checksum whatever archive they came in.

    Args:
        name: "digits", "tinytown" (then of the code that draws it), or a data set under
            ``data_root()``.

    Raises:
        DataMissing: not downloaded yet.
        DataError: put there by hand, without the record that the data scripts write.
    """
    if name == "digits":
        images, labels = _bundled_digits()
        return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if name == "tinytown":
        files = sorted((ROOT / "minilib").glob("tinytown*.py"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    path = dataset_folder(name) / "SOURCE.json"
    try:
        return str(json.loads(path.read_text())["checksum"])
    except (OSError, ValueError, KeyError, TypeError):
        message = (
            f"{_short(path)} is missing or damaged; run: python data_scripts/{name}.py --force"
        )
        raise DataError(message) from None


def _bundled_digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits  # slow to import: only where it is used

    bundle = load_digits()
    return bundle.images.astype(np.uint8), bundle.target.astype(np.uint8)  # (1797, 8, 8), (1797,)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise DataError(nearest(split, SPLITS, "split"))


def _read(path: Path, decompress: Callable[[bytes], bytes]) -> bytes:
    name = path.parent.name
    try:
        return decompress(path.read_bytes())
    except FileNotFoundError:
        message = f"{_short(path)} is missing; run: python data_scripts/{name}.py --force"
        raise DataMissing(message) from None
    except DAMAGED as error:
        fix = f"run: python data_scripts/{name}.py --force"
        raise DataError(f"{_short(path)}: damaged or truncated ({error}); {fix}") from None


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
