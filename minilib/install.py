"""Getting a data set whole or not at all, and the command line of every data script.

Everything is fetched and unpacked into a temporary folder beside the data set's place, checked
there, and renamed at the end, so an error, Ctrl-C or a full disk leaves nothing half-made.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from minilib.archives import ArchiveError, Limits, unpack
from minilib.catalogue import RECORD, DataSet, Source, find, read_record, status
from minilib.download import PINS, DownloadError, fetch, need_space, read_pins, sha256, write_pin
from minilib.paths import data_root

if sys.platform != "win32":
    import fcntl

FROM = "MINILIB_DATA_FROM"
SLACK = 3  # a size that is only known roughly may be so many times larger before we refuse
UNKNOWN_SIZE = 100_000_000_000  # bytes a data set of unknown size may unpack to
Gathered = tuple[Source, Path, str]  # what the file is, where it lies now, where it came from


def install(
    entry: DataSet,
    root: Path | None = None,
    local: Path | None = None,
    force: bool = False,
    show: bool = False,
) -> Path:
    """Get a data set into ``root / entry.name``, complete or not at all.

    Args:
        entry: which one.
        root: the data folder; None takes ``data_root()``.
        local: a folder with a copy of the archives; None takes ``$MINILIB_DATA_FROM``, and without
            that the network.
        force: get it again and replace what is there.
        show: draw progress bars.

    Returns:
        Its folder.

    Raises:
        DownloadError: one line; the disk is as it was.
    """
    root = root or data_root()
    target = root / entry.name
    if target.exists() and not force:
        return target
    local = local or (Path(os.environ[FROM]) if os.environ.get(FROM) else None)
    try:
        with staging(root, entry.name) as work:
            out = work / "out"
            out.mkdir()
            gathered = _copies(entry, root, local) if local else _downloads(entry, root, work, show)
            sources = _assemble(entry, gathered, out)
            check(entry, out)
            _write_record(entry.name, out, sources)
            _replace(out, target, work / "old")
            if not local:
                _learn(entry, root, sources)
    except (ArchiveError, DownloadError) as error:
        raise DownloadError(f"{entry.name}: {error}") from None
    except OSError as error:  # the disk is full, or the folder is not ours to write
        where = f": {error.filename}" if error.filename else ""
        raise DownloadError(f"{entry.name}: {error.strerror or error}{where}") from None
    return target


@contextlib.contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder beside the data set, emptied first and removed at the end.

    It is locked, so two processes never prepare the same data set at once.  What a killed process
    left there is cleared away; a data set it was about to replace is put back.

    Raises:
        DownloadError: another process is at work in it.
    """
    ours = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    work = root / f".{name}.partial"
    work.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            lock = os.open(work, os.O_RDONLY)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DownloadError("another process is getting it right now") from None
        if (work / "old").exists() and not (root / name).exists():
            (work / "old").rename(root / name)
        for left in work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if ours and not any(root.iterdir()):
                root.rmdir()


def _downloads(entry: DataSet, root: Path, work: Path, show: bool) -> Iterator[Gathered]:
    """Fetch each public file just before it is needed; it is deleted once it was unpacked."""
    missing = [file.name for file in entry.files if not file.urls]
    if missing or not entry.files:
        steps = " ".join(f"({n}) {step}" for n, step in enumerate(entry.account, 1))
        raise DownloadError(f"its publisher hands it out by hand: {steps}")
    largest = max(file.size or 0 for file in entry.files)
    need_space(root, largest + (entry.unpacked or 0))
    for file in entry.files:
        path = work / file.name
        limit = file.size and (file.size if file.hash else SLACK * file.size)
        key = f"{entry.name}/{file.name}"
        url = fetch(file.urls, path, file.hash, limit=limit, pins=root / PINS, key=key, show=show)
        yield file, path, url
        path.unlink(missing_ok=True)


def holds(entry: DataSet, folder: Path) -> tuple[Source, ...]:
    """The files of ``folder`` that make up the data set; empty where some are missing."""
    if entry.files and all((folder / file.name).is_file() for file in entry.files):
        return entry.files
    if entry.local and (folder / entry.local.archive).is_file():
        return (Source(name=entry.local.archive, inside=entry.local.inside),)
    return ()


def _copies(entry: DataSet, root: Path, folder: Path) -> Iterator[Gathered]:
    """The same from a folder: the publisher's own files, or else the stand-in archive."""
    if not folder.is_dir():
        raise DownloadError(f"no folder '{folder}' to take it from")
    files = holds(entry, folder)
    if not files:
        stand_in = f" (or {entry.local.archive})" if entry.local else ""
        names = ", ".join(file.name for file in entry.files)
        raise DownloadError(f"'{folder}' does not hold {names}{stand_in}")
    need_space(root, entry.unpacked or 0)
    sums = read_pins(folder / "SHA256SUMS")
    for file in files:
        path = folder / file.name
        if file.name in sums and sha256(path) != sums[file.name]:
            raise DownloadError(f"{file.name} does not match the SHA256SUMS beside it")
        _check_hash(path, file.hash)
        yield file, path, "local copy"


def _assemble(entry: DataSet, gathered: Iterator[Gathered], out: Path) -> list[dict[str, str]]:
    """Unpack or copy every file into ``out``; says where each came from."""
    limits = Limits(size=SLACK * entry.unpacked if entry.unpacked else UNKNOWN_SIZE)
    sources = []
    for file, path, origin in gathered:
        folder = out / file.to
        folder.mkdir(parents=True, exist_ok=True)
        if file.inside is None:
            shutil.copyfile(path, folder / file.name)
        else:
            unpack(path, folder, limits, file.inside)
        sources.append({"file": file.name, "from": origin, "sha256": sha256(path)})
        if entry.local and entry.local.original and path.name == entry.local.archive:
            for kept in entry.files:
                _check_hash(out / kept.to / kept.name, kept.hash)
    return sources


def _learn(entry: DataSet, root: Path, sources: list[dict[str, str]]) -> None:
    """Pin the hashes that the manifest does not know; only ever after a complete install."""
    unknown = {file.name for file in entry.files if file.hash is None}
    for source in sources:
        if source["file"] in unknown:
            write_pin(root / PINS, f"{entry.name}/{source['file']}", source["sha256"])


def _check_hash(path: Path, known: str | None) -> None:
    """Raise unless the file has this hash ("algorithm:hex", or None for any)."""
    if known is None:
        return
    if not path.is_file():
        raise DownloadError(f"{path.name} is missing")
    algorithm, _, digest = known.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        raise DownloadError(f"{path.name} has the wrong hash: {algorithm} {found}, not {digest}")


def check(entry: DataSet, folder: Path) -> None:
    """Refuse a data set that lacks files.

    Raises:
        DownloadError: fewer files than the manifest expects.
    """
    for pattern, least in entry.expect.items():
        found = sum(path.is_file() for path in folder.glob(pattern))
        if found < least:
            raise DownloadError(f"incomplete: {found} files '{pattern}', at least {least} expected")


def tree_checksum(folder: Path) -> tuple[str, int, int]:
    """What a folder holds: a SHA-256 over all names and contents, number of files, bytes."""
    total, size, names = (
        hashlib.sha256(),
        0,
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
    )
    names = [name for name in names if name != RECORD]
    for name in names:
        total.update(f"{sha256(folder / name)}  {name}\n".encode())
        size += (folder / name).stat().st_size
    return total.hexdigest(), len(names), size


def _write_record(name: str, folder: Path, sources: list[dict[str, str]]) -> None:
    checksum, files, size = tree_checksum(folder)
    record = {
        "name": name,
        "checksum": checksum,
        "files": files,
        "bytes": size,
        "sources": sources,
        "installed": time.strftime("%Y-%m-%d"),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")


def _replace(new: Path, target: Path, old: Path) -> None:
    """Put ``new`` in the place of ``target``; on failure what was there is put back."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise


def verify(entry: DataSet, root: Path) -> str:
    """Read every file of an installed data set again and compare with its record.

    Returns:
        One line that says it is unchanged.

    Raises:
        DownloadError: not here, incomplete, or changed since it was installed.
    """
    folder = root / entry.name
    record = read_record(folder)
    if not record:
        raise DownloadError(f"{entry.name}: not here; run: python data_scripts/{entry.name}.py")
    try:
        check(entry, folder)
    except DownloadError as error:
        raise DownloadError(f"{entry.name}: {error}") from None
    checksum, files, _ = tree_checksum(folder)
    if checksum != record["checksum"]:
        raise DownloadError(f"{entry.name}: files have changed since it was installed")
    return f"{entry.name}: {files} files, unchanged, checksum {checksum}"


def command(name: str, arguments: Sequence[str] | None = None) -> int:
    """The command line of one data script.

    Args:
        name: the data set.
        arguments: what follows the script's name; None takes ``sys.argv``.

    Returns:
        The exit status: 0, or 1 after one line on standard error.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is cleaned up
    try:
        entry = find(name)
        options = _parser(entry).parse_args(arguments)
        root = options.root or data_root()
        if options.list:
            print(f"{name}: {status(entry, root)}")
        elif options.check:
            print(verify(entry, root))
        else:
            show = sys.stderr.isatty()
            folder = install(entry, root, options.local, options.force, show)
            print(f"{folder}: {status(entry, root)}\nlayout: {entry.layout}")
            print(f"licence: {entry.licence}")
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped; nothing was left behind", file=sys.stderr)
        return 130
    return 0


def _parser(entry: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"{entry.title}. {entry.home}")
    say = parser.add_argument
    say(
        "--from",
        dest="local",
        type=Path,
        metavar="DIR",
        help=f"unpack a copy from DIR (or ${FROM})",
    )
    say(
        "--root", type=Path, metavar="DIR", help="the data folder (default: $MINILIB_DATA or data/)"
    )
    say("--force", action="store_true", help="get it again and replace what is there")
    say("--list", action="store_true", help="say whether it is here, and stop")
    say("--check", action="store_true", help="read all files again and compare, and stop")
    return parser
