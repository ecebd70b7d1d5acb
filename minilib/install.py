"""Getting a data set whole or not at all, and the command line of every data script.

Everything is fetched and unpacked into a temporary folder beside the data set's place, checked
there, and renamed at the end, so an error, Ctrl-C or a full disk leaves nothing half-made.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from minilib.archives import ArchiveError, Limits, room, unpack
from minilib.catalogue import (
    BY_HAND,
    SLACK,
    DataSet,
    Source,
    find,
    kept,
    origin,
    read_record,
    status,
)
from minilib.download import PINS, DownloadError, fetch, need_space, read_pins, sha256, write_pin
from minilib.installed import adopt, check, check_hash, new_record, verify
from minilib.paths import data_root
from minilib.signals import clean_up_when_stopped
from minilib.staging import staging

FROM = "MINILIB_DATA_FROM"
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

    Where only some of its files could be downloaded, these wait in ``.NAME.downloads`` and are not
    downloaded again.  A link to a folder stays a link, and the folder it leads to is filled.

    Args:
        entry: which one.
        root: the data folder; None takes ``data_root()``.
        local: a folder with a copy of the archives; None takes ``$MINILIB_DATA_FROM``, and without
            that the network.
        force: get it again and replace what is there, if it is from here too.
        show: draw progress bars.

    Returns:
        Its folder.

    Raises:
        DownloadError: one line; the disk is as it was, but for complete downloads.
    """
    root = root or data_root()
    target = root / entry.name
    local = local or (Path(os.environ[FROM]) if os.environ.get(FROM) else None)
    try:
        if _is_here(target) and not force:
            return target
        place = target.resolve() if target.is_symlink() else target
        _refuse_by_hand(entry, place)
        with staging(place.parent, place.name) as work:
            out = work / "out"
            out.mkdir()
            if local:
                sources = _assemble(entry, _copies(entry, place.parent, local), out)
            else:
                sources = _from_network(entry, root, place, work, show)
            new_record(entry.name, out, sources)
            _replace(out, place, work / "old")
            if not local:
                _learn(entry, root, sources)
    except (ArchiveError, DownloadError) as error:
        raise DownloadError(f"{entry.name}: {error}") from None
    except OSError as error:  # the disk is full, or the folder is not ours to write
        where = f": {str(error.filename)!r}" if error.filename else ""
        raise DownloadError(f"{entry.name}: {error.strerror or error}{where}") from None
    return target


def _is_here(target: Path) -> bool:
    """Whether the data set's place is taken by a folder.

    Raises:
        DownloadError: by something else.
    """
    if target.is_dir():
        return True
    if target.is_symlink():
        leads = f"is a link to '{target.readlink()}', which is no folder"
        raise DownloadError(f"'{target}' {leads}: make that folder, or remove the link")
    if target.exists():
        raise DownloadError(f"'{target}' is a file: move it away")
    return False


def _refuse_by_hand(entry: DataSet, place: Path) -> None:
    """Never replace what somebody put there by hand; an empty folder is nothing."""
    record = read_record(place)
    by_hand = origin(record) == BY_HAND if record else place.exists() and any(place.iterdir())
    if by_hand:
        keep = f"or keep it: python data_scripts/{entry.name}.py --adopt"
        raise DownloadError(f"'{place}' was {BY_HAND}: move it away to replace it, {keep}")


def _from_network(
    entry: DataSet, root: Path, place: Path, work: Path, show: bool
) -> list[dict[str, str]]:
    """Download everything, then unpack it into ``work / "out"``; says where each came from.

    Downloads are only kept until something turns out to be wrong with their contents.
    """
    waiting = kept(place)
    gathered = _downloads(entry, root, work, waiting, show)
    try:
        sources = _assemble(entry, gathered, work / "out")
    except (ArchiveError, DownloadError, OSError):
        shutil.rmtree(waiting, ignore_errors=True)
        raise
    shutil.rmtree(waiting, ignore_errors=True)
    return sources


def _downloads(entry: DataSet, root: Path, work: Path, waiting: Path, show: bool) -> list[Gathered]:
    """Fetch each public file that is not ``waiting`` yet; what is complete waits there."""
    absent = [file.name for file in entry.files if not file.urls]
    if absent or not entry.files:
        steps = " ".join(f"({n}) {step}" for n, step in enumerate(entry.account, 1))
        raise DownloadError(f"its publisher hands it out by hand: {steps}")
    learned = read_pins(root / PINS)
    had = {
        file.name: _origin_of(file, waiting / file.name, learned.get(f"{entry.name}/{file.name}"))
        for file in entry.files
    }
    still = sum(file.size or 0 for file in entry.files if not had[file.name])
    need_space(waiting.parent, still + (entry.unpacked or 0))
    try:
        for file in entry.files:
            if not had[file.name]:
                path, key = work / file.name, f"{entry.name}/{file.name}"
                url = fetch(
                    file.urls,
                    path,
                    file.hash,
                    limit=file.most,
                    pins=root / PINS,
                    key=key,
                    show=show,
                )
                waiting.mkdir(exist_ok=True)
                note = {"from": url, "sha256": sha256(path)}
                (waiting / f"{file.name}.json").write_text(json.dumps(note))
                path.replace(waiting / file.name)
                had[file.name] = url
    finally:
        if not any(had.values()):
            shutil.rmtree(waiting, ignore_errors=True)
    return [(file, waiting / file.name, had[file.name]) for file in entry.files]


def _origin_of(file: Source, path: Path, learned: str | None) -> str:
    """Where a file that waits was downloaded from; "" where it is missing or not what it should be.

    Args:
        file: its entry in the manifest.
        path: where it waits; beside it lies a note of its origin.
        learned: its SHA-256, if an earlier download taught us that.
    """
    try:
        note = json.loads(path.with_name(f"{path.name}.json").read_text())
        check_hash(path, f"sha256:{learned or note['sha256']}")
        check_hash(path, file.hash)
        return str(note["from"])
    except (OSError, ValueError, KeyError, TypeError, DownloadError):
        return ""


def holds(entry: DataSet, folder: Path) -> tuple[Source, ...]:
    """The files of ``folder`` that make up the data set; empty where some are missing."""
    if entry.files and all((folder / file.name).is_file() for file in entry.files):
        return entry.files
    if entry.local and (folder / entry.local.archive).is_file():
        return (Source(name=entry.local.archive, inside=entry.local.inside),)
    return ()


def folder_of_copies(folder: Path) -> Path:
    """The folder that ``--from`` names.

    Raises:
        DownloadError: there is none.
    """
    if folder.exists() and not folder.is_dir():
        raise DownloadError(f"'{folder}' is a file; --from wants the folder that it lies in")
    if not folder.is_dir():
        raise DownloadError(f"no folder '{folder}' to take it from")
    return folder


def _copies(entry: DataSet, root: Path, folder: Path) -> Iterator[Gathered]:
    """The same from a folder: the publisher's own files, or else the stand-in archive."""
    files = holds(entry, folder_of_copies(folder))
    if not files:
        stand_in = f" (or {entry.local.archive})" if entry.local else ""
        names = ", ".join(file.name for file in entry.files)
        raise DownloadError(f"'{folder}' does not hold {names}{stand_in}")
    need_space(root, sum(_room(folder / file.name, file, entry.unpacked) for file in files))
    sums = read_pins(folder / "SHA256SUMS")
    for file in files:
        path = folder / file.name
        if file.name in sums and sha256(path) != sums[file.name]:
            raise DownloadError(f"{file.name} does not match the SHA256SUMS beside it")
        check_hash(path, file.hash)
        yield file, path, "local copy"


def _room(path: Path, file: Source, known: int | None) -> int:
    return path.stat().st_size if file.inside is None else room(path, known)


def _assemble(entry: DataSet, gathered: Iterable[Gathered], out: Path) -> list[dict[str, str]]:
    """Unpack or copy every file into ``out`` and check it; says where each came from."""
    limits = Limits(size=SLACK * entry.unpacked if entry.unpacked else UNKNOWN_SIZE)
    sources = []
    for file, path, source in gathered:
        folder = out / file.to
        folder.mkdir(parents=True, exist_ok=True)
        if file.inside is None:
            shutil.copyfile(path, folder / file.name)
        else:
            unpack(path, folder, limits, file.inside)
        sources.append({"file": file.name, "from": source, "sha256": sha256(path)})
        if entry.local and entry.local.original and path.name == entry.local.archive:
            for original in entry.files:
                check_hash(out / original.to / original.name, original.hash)
    _lift(entry, out)
    check(entry, out)
    return sources


def _lift(entry: DataSet, out: Path) -> None:
    """Drop a folder of the data set's own name around everything, as people pack it."""
    tops = list(out.iterdir())
    if len(tops) == 1 and tops[0].name == entry.name and tops[0].is_dir():
        inner = out.with_name("inner")
        tops[0].rename(inner)
        out.rmdir()
        inner.rename(out)


def _learn(entry: DataSet, root: Path, sources: list[dict[str, str]]) -> None:
    """Pin the hashes that the manifest does not know; only ever after a complete install."""
    unknown = {file.name for file in entry.files if file.hash is None}
    for source in sources:
        if source["file"] in unknown:
            write_pin(root / PINS, f"{entry.name}/{source['file']}", source["sha256"])


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


def command(name: str, arguments: Sequence[str] | None = None) -> int:
    """The command line of one data script.

    Args:
        name: the data set.
        arguments: what follows the script's name; None takes ``sys.argv``.

    Returns:
        The exit status: 0, or 1 after one line on standard error.
    """
    clean_up_when_stopped()
    root = data_root()
    try:
        entry = find(name)
        options = _parser(entry).parse_args(arguments)
        root = options.root or root
        if options.list:
            print(f"{name}: {status(entry, root)}")
        elif options.check:
            print(verify(entry, root))
        else:
            _get(entry, root, options.local, options.force, options.adopt)
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        left = (
            "complete files wait for the next try" if kept((root / name).resolve()).exists() else ""
        )
        print(f"{name}: stopped; {left or 'nothing was left behind'}", file=sys.stderr)
        return 130
    return 0


def _get(entry: DataSet, root: Path, local: Path | None, force: bool, by_hand: bool) -> None:
    folder = root / entry.name
    if by_hand:
        adopt(entry, root)
    else:
        if folder.is_dir() and not force:
            record = read_record(folder)
            ours = bool(record) and origin(record) != BY_HAND
            print(f"{folder}: already here{'; --force gets it again' if ours else ''}")
        install(entry, root, local, force, sys.stderr.isatty())
    print(f"{folder}: {status(entry, root)}\nlayout: {entry.layout}")
    print(f"licence: {entry.licence}")


def _parser(entry: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"{entry.title}. {entry.home}")
    say = parser.add_argument
    copy = f"unpack a copy from DIR (or ${FROM})"
    say("--from", dest="local", type=Path, metavar="DIR", help=copy)
    place = "the data folder (default: $MINILIB_DATA or data/)"
    say("--root", type=Path, metavar="DIR", help=place)
    say("--force", action="store_true", help="get it again and replace what is there")
    say("--adopt", action="store_true", help="check a folder that you put there, and keep it")
    say("--list", action="store_true", help="say whether it is here, and stop")
    say("--check", action="store_true", help="read all files again and compare, and stop")
    return parser
