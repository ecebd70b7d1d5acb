"""What lies in a data set's folder: counted, summed up, compared with its record, or adopted.

Hidden files never count: they are what other programs leave behind, not data.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from minilib.catalogue import BY_HAND, RECORD, DataSet, origin, read_record, write_record
from minilib.download import DownloadError, sha256

IMAGES = {".[jp]*g": ".jpg, .jpeg or .png", ".[pj]*g": ".jpg, .jpeg or .png"}


def files_of(folder: Path) -> Iterator[PurePosixPath]:
    """The names of all files within a folder, except hidden ones and the record.

    Links are followed, unless they lead back to where we are.
    """
    for where, folders, files in os.walk(folder, followlinks=True):
        here = Path(where)
        folders[:] = [f for f in folders if f[0] != "." and not _leads_back(here, f)]
        for file in files:
            name = (here / file).relative_to(folder).as_posix()
            if file[0] != "." and name != RECORD and (here / file).is_file():
                yield PurePosixPath(name)


def _leads_back(here: Path, folder: str) -> bool:
    below = here / folder
    return below.is_symlink() and here.resolve().is_relative_to(below.resolve())


def check(entry: DataSet, folder: Path) -> None:
    """Refuse a data set that lacks files; the case of endings (``.JPG``) does not matter.

    Raises:
        DownloadError: fewer files than the manifest expects.
    """
    names = [(*name.parts[:-1], _ending_small(name.name)) for name in files_of(folder)]
    for pattern, least in entry.expect.items():
        *folders, last = PurePosixPath(pattern).parts
        wanted = (*folders, _ending_small(last))
        found = sum(_fits(parts, wanted) for parts in names)
        if found < least:
            lacks = f"incomplete: {found} {in_words(pattern)}, at least {least} expected"
            raise DownloadError(lacks + _hint(entry, folder, names))


def _hint(entry: DataSet, folder: Path, names: Sequence[tuple[str, ...]]) -> str:
    """Where everything lies in one folder too many, its name."""
    tops = {parts[0] for parts in names}
    expected = any(
        fnmatchcase(top, PurePosixPath(p).parts[0]) for p in entry.expect for top in tops
    )
    if len(tops) != 1 or expected or not (folder / min(tops)).is_dir():
        return ""
    return f"; all files lie in a folder {min(tops)!r}, which should be the top"


def _ending_small(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem + path.suffix.lower()


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a name fit those of a glob pattern; ``**`` is any number of folders."""
    if not wanted or not parts:
        return not wanted and not parts
    if wanted[0] == "**":
        return any(_fits(parts[i:], wanted[1:]) for i in range(len(parts)))
    return fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def in_words(pattern: str) -> str:
    """A glob pattern as a person would say it: ``files that end in .jpg in train/``."""
    folder, _, name = pattern.rpartition("/")
    ending = name.removeprefix("*")
    if name == "*":
        words = "files"
    elif ending == name and "*" not in name:
        words = f"files '{name}'"
    else:
        kind = "files that end in" if ending != name else "files"
        words = f"{kind} {IMAGES.get(ending, ending.replace('*', '...'))}"
    where = folder.replace("**", "...").replace("*", "...").replace("?", "...")
    return f"{words} in {where}/" if folder else words


def tree_checksum(folder: Path) -> tuple[str, int, int]:
    """What a folder holds: a SHA-256 over all names and contents, number of files, bytes."""
    total, size = hashlib.sha256(), 0
    names = sorted(name.as_posix() for name in files_of(folder))
    for name in names:
        line = f"{sha256(folder / name)}  {name}\n"
        total.update(line.encode(errors="surrogateescape"))  # names need not be UTF-8
        size += (folder / name).stat().st_size
    return total.hexdigest(), len(names), size


def new_record(name: str, folder: Path, sources: list[dict[str, str]]) -> None:
    """Write the record of a data set that has just come to lie in ``folder``."""
    checksum, files, size = tree_checksum(folder)
    record: dict[str, Any] = {
        "name": name,
        "checksum": checksum,
        "files": files,
        "bytes": size,
        "sources": sources,
        "installed": time.strftime("%Y-%m-%d"),
    }
    write_record(folder, record)


def check_hash(path: Path, known: str | None) -> None:
    """Raise unless the file has this hash ("algorithm:hex", or None for any).

    Raises:
        DownloadError: missing, or another hash.
    """
    if known is None:
        return
    if not path.is_file():
        raise DownloadError(f"{path.name} is missing")
    algorithm, _, digest = known.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        raise DownloadError(f"{path.name} has the wrong hash: {algorithm} {found}, not {digest}")


def adopt(entry: DataSet, root: Path) -> None:
    """Check a folder that somebody put in place by hand, and write its record; nothing is moved.

    Files that the manifest knows byte for byte are compared with their hashes.

    Raises:
        DownloadError: no such folder, incomplete, a wrong hash, or one that the script installed.
    """
    folder = root / entry.name
    if not folder.is_dir():
        raise DownloadError(f"{entry.name}: no folder '{folder}' to adopt")
    record = read_record(folder)
    if record and origin(record) != BY_HAND:
        raise DownloadError(f"{entry.name}: was not put there by hand, but {origin(record)}")
    try:
        left = next(folder.rglob("._*"), None)
        if left is not None:  # readers of images would take ._1.jpg for one
            where = left.relative_to(folder).as_posix()
            raise DownloadError(f"{where!r} is no data but macOS's: delete all files '._*'")
        check(entry, folder)
        for file in entry.files:
            path = folder / file.to / file.name
            if file.inside is None and path.is_file():
                check_hash(path, file.hash)
        new_record(entry.name, folder, [{"file": entry.name, "from": BY_HAND}])
    except DownloadError as error:
        raise DownloadError(f"{entry.name}: {error}") from None
    except OSError as error:
        raise DownloadError(f"{entry.name}: {error.strerror}: {error.filename}") from None


def verify(entry: DataSet, root: Path) -> str:
    """Read every file of an installed data set again and compare with its record.

    Returns:
        One line that says it is unchanged, and where it came from.

    Raises:
        DownloadError: not here, incomplete, or changed since it was installed.
    """
    folder = root / entry.name
    record = read_record(folder)
    script = f"python data_scripts/{entry.name}.py"
    if not record and folder.is_dir():
        by_hand = f"put there by hand? Then run: {script} --adopt"
        raise DownloadError(f"{entry.name}: a folder without a sound {RECORD}: {by_hand}")
    if not record:
        raise DownloadError(f"{entry.name}: not here; run: {script}")
    try:
        check(entry, folder)
    except DownloadError as error:
        raise DownloadError(f"{entry.name}: {error}") from None
    checksum, files, _ = tree_checksum(folder)
    if checksum != record["checksum"]:
        raise DownloadError(f"{entry.name}: files have changed since it was installed")
    return f"{entry.name}: {files} files, unchanged, {origin(record)}, checksum {checksum}"
