"""The widget under every explorer, and what stands in for it where there is no Jupyter."""

import gzip
import importlib.util
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STATIC = Path(__file__).resolve().parent / "static"
RUNTIME = STATIC / "runtime.bin"
HEAVY = 4_000_000  # bytes of weights that a page may carry


@dataclass(slots=True)
class Payload:
    """Everything an explorer's page needs.

    Args:
        spec: what to show, JSON; ``spec["kind"]`` names the JavaScript view.
        network: the ONNX graph, or b"".
        frames: the sheet of precomputed pictures, or b"".
        thumbs: the sheet of thumbnails, or b"".
        arrays: gzipped arrays.
        poster: uint8 (H, W, 3), shown where no widget can be.
    """

    spec: dict[str, Any]
    network: bytes = b""
    frames: bytes = b""
    thumbs: bytes = b""
    arrays: bytes = b""
    poster: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))


def available() -> str:
    """Why widgets cannot be shown here, or ""."""
    if importlib.util.find_spec("anywidget") is None:
        return "anywidget is not installed here"
    if not (STATIC / "widget.js").exists():
        return "the explorers are not built: run `python -m minilib.explore.build`"
    return ""


class Picture:
    """Stands in for an explorer where widgets cannot be shown: its first picture."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.reason = available()

    def __repr__(self) -> str:
        return f"{type(self).__name__}: only its first picture ({self.reason})"

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        Image.fromarray(self.payload.poster).save(out, "PNG")
        return out.getvalue()


if available():
    Explorer: Any = Picture
else:
    import anywidget
    import traitlets

    class _Widget(anywidget.AnyWidget):
        """The payload as synchronised traits; the runtime's bytes go out only when asked for."""

        _esm = (STATIC / "widget.js").read_text(encoding="utf-8")
        _css = (STATIC / "widget.css").read_text(encoding="utf-8")
        spec = traitlets.Dict().tag(sync=True)
        network = traitlets.Bytes().tag(sync=True)
        frames = traitlets.Bytes().tag(sync=True)
        thumbs = traitlets.Bytes().tag(sync=True)
        arrays = traitlets.Bytes().tag(sync=True)

        def __init__(self, payload: Payload) -> None:
            super().__init__(
                spec=payload.spec,
                network=gzip.compress(payload.network, 9, mtime=0) if payload.network else b"",
                frames=payload.frames,
                thumbs=payload.thumbs,
                arrays=payload.arrays,
            )
            self.payload = payload
            if len(self.network) > HEAVY:
                size = len(self.network) / 1e6
                warnings.warn(
                    f"explorer: {size:.1f} MB of weights; 4 MB is a page's share", stacklevel=3
                )
            self.on_msg(_send_runtime)

    Explorer = _Widget


def _send_runtime(widget: Any, content: Any, _buffers: Any) -> None:
    if isinstance(content, dict) and content.get("type") == "runtime":
        widget.send({"type": "runtime"}, buffers=[RUNTIME.read_bytes()])
