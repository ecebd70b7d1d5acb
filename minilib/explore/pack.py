"""What travels in a page: gzipped arrays, and sheets of pictures."""

import gzip
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minilib.config import ConfigError

LOSSLESS_UP_TO = 150_000  # bytes; larger sheets are stored as lossy WebP
QUALITY = 90
WIDEST = 16_000  # pixels; WebP ends at 16383


def pack(
    arrays: Mapping[str, Tensor | np.ndarray], half: tuple[str, ...] = ()
) -> tuple[bytes, Any]:
    """Gzip arrays into one block.

    Args:
        arrays: float arrays are stored as float32, integers as int64, uint8 as it is.
        half: names that begin so are stored as float16 (drawn, never computed with).

    Returns:
        The block, and its index [[name, type, dims, offset], ...]; offsets are multiples of 8.
    """
    block, index = bytearray(), []
    for name, value in arrays.items():
        array = np.ascontiguousarray(
            value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        )
        dtype = _stored(array, name.startswith(half) if half else False)
        array = array.astype(dtype)
        block.extend(b"\0" * (-len(block) % 8))
        index.append([name, dtype, list(array.shape), len(block)])
        block.extend(array.tobytes())
    return gzip.compress(bytes(block), 9, mtime=0), index


def _stored(array: np.ndarray, half: bool) -> str:
    if array.dtype == np.uint8:
        return "uint8"
    if np.issubdtype(array.dtype, np.integer) or array.dtype == bool:
        return "int64"
    return "float16" if half else "float32"


def pictures(images: Tensor, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Images (N, 1 or 3, H, W) in ``value_range`` -> uint8 (N, H, W, 3), clipped and rounded.

    Raises:
        ConfigError: another shape.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ConfigError(f"explorers draw images (N, 1 or 3, H, W), got {tuple(images.shape)}")
    low, high = value_range
    scaled = ((images.detach().float().cpu() - low) / (high - low)).clamp(0, 1) * 255
    return scaled.round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def sheet(frames: np.ndarray) -> tuple[bytes, dict[str, int]]:
    """Pictures uint8 (N, H, W, 3) on one sheet: WebP, lossless when that is small.

    Returns:
        The file, and {width, height, columns, count} to cut it up.
    """
    count, height, width = frames.shape[:3]
    columns = max(1, min(count, math.ceil(math.sqrt(count * height / width)), WIDEST // width))
    rows = math.ceil(count / columns)
    canvas = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(frames):
        y, x = divmod(i, columns)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = frame
    data = _webp(canvas, lossless=True)
    if len(data) > LOSSLESS_UP_TO:
        data = _webp(canvas, lossless=False)
    return data, {"width": width, "height": height, "columns": columns, "count": count}


def _webp(canvas: np.ndarray, lossless: bool) -> bytes:
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    return out.getvalue()
