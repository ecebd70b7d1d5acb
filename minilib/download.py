"""One file from one of several places, or nothing: downloads with hashes, mirrors and limits.

Built on pooch, which streams to a temporary file, checks the hash and only then gives the file its
name.  Added here: mirrors in turn, a limit on size, free disk space checked before the first byte,
web pages sent in place of data refused, and hashes that are not known yet learned at the first
download (``SHA256SUMS.local`` in the data folder) and held to ever after.
"""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

CHUNK = 1 << 18
PINS = "SHA256SUMS.local"
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # of UTF-8 and UTF-16 text
MARKUP = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--")  # how pages start


class DownloadError(RuntimeError):
    """A data set could not be had; the message is one line."""


class Meter:
    """The progress bar that pooch drives, which also stops a download that grows too large.

    Args:
        name: what to show beside the bar.
        folder: where the file goes; it must have room for it.
        limit: most bytes to accept, or None.
        show: draw a bar on standard error.
    """

    def __init__(self, name: str, folder: Path, limit: int | None, show: bool) -> None:
        """See the class."""
        self.folder, self.limit, self.seen = folder, limit, 0
        self.bar: Any = tqdm(desc=name, unit="B", unit_scale=True, disable=not show, leave=False)

    @property
    def total(self) -> int:
        """Bytes the server announced; 0 when it did not say."""
        return int(self.bar.total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self.bar.total = size
        if self.limit is not None and size > self.limit:
            raise DownloadError(f"the server sends {size} bytes, at most {self.limit} are expected")
        need_space(self.folder, size)

    def update(self, size: int) -> None:
        """Count ``size`` more bytes."""
        self.seen += size
        if self.limit is not None and self.seen > self.limit + CHUNK:  # pooch counts whole chunks
            raise DownloadError(f"the server sent more than the {self.limit} bytes expected")
        self.bar.update(size)

    def reset(self) -> None:
        """Start again at zero (pooch does this before it fills the bar at the end)."""
        self.seen = 0
        self.bar.reset()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


def fetch(
    urls: Sequence[str],
    path: Path,
    known_hash: str | None = None,
    *,
    limit: int | None = None,
    pins: Path | None = None,
    key: str = "",
    retries: int = 1,
    timeout: float = 30,
    show: bool = False,
) -> str:
    """Download one file, trying each address in turn.

    Args:
        urls: the source and its mirrors, best first.
        path: where the file goes; written only when complete and verified.
        known_hash: "sha256:..." or "md5:...", or None when it is not known.
        limit: most bytes to accept, or None.
        pins: file of hashes learned earlier (see ``write_pin``); used where ``known_hash`` is None.
        key: the file's name in ``pins``; "" takes the name of ``path``.
        retries: how often an address is tried again after a failure.
        timeout: seconds without an answer after which an address has failed.
        show: draw a progress bar.

    Returns:
        The address that served the file.

    Raises:
        DownloadError: no address gave the right file; says what each of them did.
    """
    key = key or path.name
    learned = None if pins is None or known_hash else read_pins(pins).get(key)
    expected = known_hash or (f"sha256:{learned}" if learned else None)
    failures = []
    for url in urls:
        meter = Meter(path.name, path.parent, limit, show)
        try:
            _fetch_one(url, path, expected, meter, retries, timeout)
        except Exception as error:
            path.unlink(missing_ok=True)
            failures.append(f"{urlsplit(url).netloc}: {reason(error)}")
            continue
        finally:
            meter.close()
        return url
    what = "; ".join(failures) or "no address"
    hint = ""
    if learned and "wrong hash" in what:
        line = f"'{learned[:8]}...  {key}'"
        hint = f" (hash learned at first download; to forget it, delete the line {line} of {pins})"
    raise DownloadError(f"cannot download {path.name}: {what}{hint}")


def _fetch_one(
    url: str, path: Path, expected: str | None, meter: Meter, retries: int, timeout: float
) -> None:
    import pooch  # only where something is downloaded: unpacking a copy needs none of it

    headers = {"Accept-Encoding": "identity"}  # else a .gz may arrive already unpacked
    download = pooch.HTTPDownloader(
        progressbar=meter, chunk_size=CHUNK, timeout=timeout, headers=headers
    )

    def checked(url: str, output_file: str, manager: Any) -> None:
        meter.reset()
        download(url, output_file, manager)
        size = Path(output_file).stat().st_size
        if meter.total and size != meter.total:
            raise ValueError(f"truncated: {size} of {meter.total} bytes")
        if not size:
            raise ValueError("sent an empty file")
        with Path(output_file).open("rb") as file:
            if is_web_page(file.read(512)):
                raise ValueError("sent a web page or XML, not the file")

    pooch.get_logger().setLevel("WARNING")
    manager = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: expected},
        urls={path.name: url},
        retry_if_failed=retries,
    )
    manager.fetch(path.name, downloader=checked)


def is_web_page(start: bytes) -> bool:
    """Whether a file that starts so is HTML or XML: what servers send for what they lack."""
    for mark in MARKS:
        start = start.removeprefix(mark)
    return start.replace(b"\0", b"").lstrip().lower().startswith(MARKUP)


def reason(error: Exception) -> str:
    """One short line out of whatever requests, urllib3 or pooch raised."""
    import requests  # slow to import: only after a failure

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off, the file is truncated"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    text = " ".join(str(error).split())
    return "wrong hash" if "hash" in text and "does not match" in text else text


def need_space(folder: Path, size: int) -> None:
    """Refuse to start what would not fit on the disk.

    Args:
        folder: where it goes; need not exist yet.
        size: bytes.

    Raises:
        DownloadError: less is free.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise DownloadError(f"needs {mega(size)} of disk, {mega(free)} are free in {folder.name}/")


def mega(size: float) -> str:
    """A size in bytes for people: "0.1 MB", "153 MB", "57.0 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pins(path: Path) -> dict[str, str]:
    """A file in the format of ``sha256sum``, as {name: hex}; empty where there is none.

    Raises:
        DownloadError: not a text file.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError:
        raise DownloadError(f"'{path}' is not a text file of hashes") from None
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    pairs = (parts for parts in lines if len(parts) == 2)
    return {name.lstrip("*").strip().removeprefix("./"): hex_.lower() for hex_, name in pairs}


def write_pin(path: Path, name: str, digest: str) -> None:
    """Add a learned hash to ``path``, once the file has proved to be good."""
    if name in read_pins(path):
        return
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    start = "" if not text or text.endswith("\n") else "\n"  # somebody may have edited it
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{start}{digest}  {name}\n")
    print(f"learned the hash of {name}: sha256:{digest}", file=sys.stderr)
