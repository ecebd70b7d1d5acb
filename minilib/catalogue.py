"""The data sets of the book: what they are, where they come from, and which are here.

``data_scripts/manifest.json`` describes every one of them; ``minilib.install`` gets them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilib.config import nearest
from minilib.download import DownloadError, mega
from minilib.paths import ROOT

MANIFEST = ROOT / "data_scripts" / "manifest.json"
RECORD = "SOURCE.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of a data set, as its publisher serves it.

    Args:
        name: its name once downloaded, also looked for by ``--from``.
        urls: address and mirrors; none where an account is needed.
        hash: "sha256:..." or "md5:...", or None: learned at first download.
        size: bytes, or None where unknown.
        inside: the folder of the archive that matters; None keeps the file as it is.
        to: where it goes within the data set.
    """

    name: str
    urls: tuple[str, ...] = ()
    hash: str | None = None
    size: int | None = None
    inside: str | None = "."
    to: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCopy:
    """One archive that holds the whole data set, for machines that cannot reach its source.

    Args:
        archive: its file name.
        inside: the folder of the archive that becomes the data set.
        original: it holds the public files byte for byte, so their hashes apply.
    """

    archive: str
    inside: str
    original: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """All there is to know about one data set before it is here (see ``manifest.json``).

    Args:
        name: its name, also of its folder and of its script.
        title: one line.
        used_by: chapters.
        licence: terms, in words.
        cite: keys in ``book/references.bib``.
        home: the page a person would read.
        unpacked: bytes on disk, about; None where unknown.
        layout: what lies where, one line.
        expect: {pattern: at least so many files}; checked before the data set is put in place.
        files: what the publisher serves.
        local: a stand-in archive, or None.
        account: the steps where the publisher asks for an account or a form; else empty.
    """

    name: str
    title: str
    used_by: tuple[str, ...]
    licence: str
    cite: tuple[str, ...]
    home: str
    layout: str
    expect: Mapping[str, int]
    unpacked: int | None = None
    files: tuple[Source, ...] = ()
    local: LocalCopy | None = None
    account: tuple[str, ...] = ()


def catalogue(path: Path = MANIFEST) -> dict[str, DataSet]:
    """Every data set of the manifest, by name.

    Raises:
        TypeError: the manifest has a field that does not exist, or lacks one.
    """
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {name: _data_set(name, entry) for name, entry in entries.items()}


def _data_set(name: str, entry: Mapping[str, Any]) -> DataSet:
    plain: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    plain["files"] = tuple(_source(file) for file in entry.get("files", ()))
    plain["local"] = LocalCopy(**entry["local"]) if entry.get("local") else None
    return DataSet(name=name, **plain)


def _source(entry: Mapping[str, Any]) -> Source:
    return Source(**{**entry, "urls": tuple(entry.get("urls", ()))})


def find(name: str) -> DataSet:
    """One data set of the manifest.

    Raises:
        DownloadError: there is none of that name; names the nearest.
    """
    sets = catalogue()
    if name not in sets:
        raise DownloadError(nearest(name, sets, "data set"))
    return sets[name]


def read_record(folder: Path) -> dict[str, Any]:
    """The record that ``install`` wrote into a data set's folder; empty where there is none."""
    try:
        return dict(json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError):
        return {}


def status(entry: DataSet, root: Path) -> str:
    """One line for ``--list``: is it here, where from, how large; or what getting it takes."""
    folder, record = root / entry.name, read_record(root / entry.name)
    if record:
        origin = record["sources"][0]["from"]
        return f"here: {record['files']} files, {mega(record['bytes'])}, from {origin}"
    if folder.exists():
        return f"there is a folder without {RECORD}: put there by hand?"
    sizes = [file.size for file in entry.files]
    known = mega(sum(size or 0 for size in sizes)) if sizes and all(sizes) else "size unknown"
    return f"not here: {known}, {'needs an account' if entry.account else 'public'}"
