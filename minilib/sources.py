"""Do the publishers still serve what the manifest says?  Each address is asked, nothing is kept.

Used by ``data_scripts/all.py --online``, which the weekly workflow runs: links to data die
silently, and whoever finds out should not be a student.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests

from minilib.catalogue import SLACK, DataSet, Source
from minilib.download import is_web_page, mega, reason

AT_ONCE = 8  # addresses asked side by side


def fault(url: str, size: int | None, exact: bool = True, timeout: float = 30) -> str:
    """What is wrong with an address, in words; "" where it serves a file of the right size.

    Only the start of the answer is read.  HEAD requests are not used, for some servers refuse them.

    Args:
        url: the address.
        size: bytes that the manifest expects, or None.
        exact: the file has just this size; else up to ``SLACK`` times more or less.
        timeout: seconds without an answer.
    """
    headers = {"Accept-Encoding": "identity"}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as reply:
            reply.raise_for_status()
            start = next(reply.iter_content(512), b"")
            served = reply.headers.get("Content-Length", "")
    except requests.RequestException as error:
        return reason(error)
    if not start:
        return "an empty file"
    if is_web_page(start):
        return "a web page or XML, not the file"
    return _wrong_size(int(served), size, exact) if size and served.isdigit() else ""


def _wrong_size(served: int, size: int, exact: bool) -> str:
    slack = 1 if exact else SLACK
    if size <= slack * served and served <= slack * size:
        return ""
    return f"{served:,} bytes instead of {'' if exact else 'about '}{size:,}"


def faults(source: Source, timeout: float = 30) -> dict[str, str]:
    """What is wrong with each address of a file; the key is the address."""
    exact = source.hash is not None  # without a hash, sizes in the manifest are rounded
    return {url: fault(url, source.size, exact, timeout) for url in source.urls}


def online(sets: Iterable[DataSet], timeout: float = 30) -> dict[str, tuple[bool, str]]:
    """Whether each public file of some data sets can still be had, and one line about it.

    Args:
        sets: entries of the manifest; files behind an account have no address and are left out.
        timeout: seconds to wait for an answer.

    Returns:
        {"name: file": (whether some address serves it, line)}.
    """
    files = {f"{e.name}: {file.name}": file for e in sets for file in e.files if file.urls}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda file: faults(file, timeout), files.values())
    return {
        key: _verdict(file, found)
        for (key, file), found in zip(files.items(), answers, strict=True)
    }


def _verdict(file: Source, found: dict[str, str]) -> tuple[bool, str]:
    bad = [f"{urlsplit(url).netloc}: {what}" for url, what in found.items() if what]
    size = mega(file.size) if file.size else "size unknown"
    if not bad:
        return True, f"served, {size}"
    served = len(bad) < len(found)
    return served, f"{'served by a mirror only' if served else 'NOT SERVED'}: {'; '.join(bad)}"
