"""The data sets of the book: what they are, where they come from, and which are here.

``data_scripts/manifest.json`` describes every one of them; ``minilib.install`` gets them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilib.config import nearest
from minilib.download import DownloadError, mega
from minilib.paths import ROOT

MANIFEST = ROOT / "data_scripts" / "manifest.json"
RECORD = "SOURCE.json"
BY_HAND = "put there by hand"  # the origin of a folder that was adopted
SLACK = 3  # a size that is only known roughly may be so many times larger before we refuse


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

    @property
    def most(self) -> int | None:
        """Most bytes it may have; None where that is unknown.

        With its hash the size is known exactly; without, it is rounded.
        """
        return self.size and (self.size if self.hash else SLACK * self.size)


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
    """The record that ``install`` wrote into a data set's folder; empty without a sound one."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"checksum": str, "files": int, "bytes": int}
    sound = isinstance(record, dict) and all(isinstance(record.get(k), kinds[k]) for k in kinds)
    return record if sound else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a data set's record; a crash leaves the old one or the new one."""
    temporary = folder / f".{RECORD}.tmp"
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, folder / RECORD)


def origin(record: Mapping[str, Any]) -> str:
    """Where a data set came from, in words: "from https://..." or "put there by hand"."""
    try:
        source = str(record["sources"][0]["from"])
    except (KeyError, IndexError, TypeError):
        return "from an unknown place"
    return source if source == BY_HAND else f"from {source}"


def kept(folder: Path) -> Path:
    """Where complete downloads wait for the others while a data set is not in its folder yet."""
    return folder.with_name(f".{folder.name}.downloads")


def status(entry: DataSet, root: Path) -> str:
    """One line for ``--list``: is it here, where from, how large; or what getting it takes."""
    folder, record = root / entry.name, read_record(root / entry.name)
    if record:
        return f"here: {record['files']} files, {mega(record['bytes'])}, {origin(record)}"
    if folder.is_dir():
        adopt = f"python data_scripts/{entry.name}.py --adopt"
        return f"there is a folder without a sound {RECORD}: {BY_HAND}? Then run: {adopt}"
    if folder.is_symlink():
        return f"a link that leads to no folder: '{folder.readlink()}'"
    if folder.exists():
        return "there is a file in its place"
    sizes = [file.size for file in entry.files]
    known = mega(sum(size or 0 for size in sizes)) if sizes and all(sizes) else "size unknown"
    line = f"not here: {known}, {'needs an account' if entry.account else 'public'}"
    waiting = sum((kept(folder) / file.name).is_file() for file in entry.files)
    return line + (f"; {waiting} of {len(sizes)} files wait in {kept(folder).name}" * (waiting > 0))
