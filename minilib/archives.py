"""Unpacking archives that strangers made.

Nothing of an archive is trusted: every name, kind and size is checked by us before a byte is
written, and bytes are counted as they come out.  Only plain files and folders are ever made; links,
devices, absolute paths and ``..`` are refused, and so is an archive that grows past its limit.
The caller unpacks into a temporary folder and throws that away when ``ArchiveError`` is raised.
"""

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import EOFHeaderError  # type: ignore[attr-defined]
from typing import IO, Any, NamedTuple

CHUNK = 1 << 20
MAGIC: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
ZIP = b"PK"
UNFIT = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
PACKED = 20  # what is packed tighter than that is rare
BROKEN = (
    EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, ValueError,
    NotImplementedError, RuntimeError, OSError,
)  # fmt: skip


class ArchiveError(RuntimeError):
    """An archive is damaged or hostile; the message is one line."""


@dataclass(slots=True)
class Limits:
    """What may still come out of an archive.

    Args:
        size: bytes, all files together.
        files: number of files and folders.
    """

    size: int
    files: int = 3_000_000

    def take(self, size: int, files: int = 0) -> None:
        """Count ``size`` bytes and ``files`` files.

        Raises:
            ArchiveError: more than was allowed.
        """
        self.size -= size
        self.files -= files
        if self.size < 0 or self.files < 0:
            raise ArchiveError("unpacks to far more than it should (an archive bomb?)")


class _StrictTarInfo(tarfile.TarInfo):
    """Header blocks, read strictly: tarfile takes a cut or damaged one for the archive's end.

    It also reads headers that hold long names whole into memory, whatever size they declare.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictTarInfo":
        entry = super().frombuf(buf, encoding, errors)
        if entry.type not in tarfile.REGULAR_TYPES and entry.size > CHUNK:
            raise tarfile.ReadError(f"a header block of {entry.size} bytes")
        return entry

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_StrictTarInfo":
        try:
            return super().fromtarfile(tar)
        except EOFHeaderError:  # the end, properly marked
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"bad header block: {error}") from None


class Member(NamedTuple):
    """One entry of an archive: its name, its declared size, and how to read it (None: folder)."""

    name: str
    size: int
    open: Any


def unpack(archive: Path, folder: Path, limits: Limits, inside: str = ".") -> int:
    """Unpack a tar (plain, gz, bz2, xz), a zip, or a single gz, bz2 or xz file.

    Args:
        archive: the file; its kind is read from its contents, not from its name.
        folder: an existing folder to unpack into.
        limits: what may come out; counted down.
        inside: only what lies in this folder of the archive, each part a pattern ("*/CamVid");
            the folder's own name is dropped.

    Returns:
        The number of files written.

    Raises:
        ArchiveError: damaged, hostile, too large, or nothing lies inside ``inside``.
        OSError: the disk is full.
    """
    try:
        written = sum(
            _write(member, folder, limits, inside) for member in _members(archive, limits)
        )
    except ArchiveError as error:
        raise ArchiveError(f"{archive.name}: {error}") from None
    except OSError as error:
        if error.errno in UNFIT:  # the names cannot be those of files, or not of all of them
            name = Path(str(error.filename)).name[:60]
            raise ArchiveError(f"{archive.name}: {error.strerror}: {name!r}") from None
        if error.errno is not None:  # the disk's fault, not the archive's
            raise
        raise ArchiveError(f"{archive.name}: damaged or truncated ({error})") from None
    except BROKEN as error:
        raise ArchiveError(f"{archive.name}: damaged or truncated ({error})") from None
    if not written:
        raise ArchiveError(f"{archive.name}: holds no files in '{inside}'")
    return written


def room(archive: Path, known: int | None = None) -> int:
    """Bytes of disk that the contents of an archive will take, at least about.

    A zip and a plain tar say how large their files are.  What is compressed as a whole does not:
    then it is what is ``known``, or less where the archive is too small for that.
    """
    size = archive.stat().st_size
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(tuple(MAGIC)):
        return PACKED * size if known is None else min(known, PACKED * size)
    try:
        return sum(member.size for member in _members(archive, Limits(size=size)))
    except (ArchiveError, *BROKEN):
        return size  # whoever unpacks it will say what is wrong


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a member's name, if it can only mean a place inside the folder.

    Raises:
        ArchiveError: absolute, with ``..``, a backslash, a drive letter or a NUL in it.
    """
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        raise ArchiveError(f"refused: member {name!r} has an absolute or unsafe path")
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise ArchiveError(f"refused: member {name!r} points out of the archive with '..'")
    return parts


def _members(archive: Path, limits: Limits) -> Iterator[Member]:
    """All entries of an archive in their order; links and devices raise."""
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(ZIP) and zipfile.is_zipfile(archive):  # a tar may end in one
        yield from _zip_members(archive)
    elif tarfile.is_tarfile(archive):
        yield from _tar_members(archive, limits)
    elif opener := next((MAGIC[magic] for magic in MAGIC if start.startswith(magic)), None):
        reader = partial(opener, archive, "rb")
        yield Member(archive.stem, -1, reader)  # its size is not declared
    else:
        raise ArchiveError("not a tar, zip, gz, bz2 or xz file")


def _tar_members(archive: Path, limits: Limits) -> Iterator[Member]:
    with tarfile.open(archive, "r:*", tarinfo=_StrictTarInfo) as tar:
        for entry in tar:
            if entry.islnk() or entry.issym():
                target = f"{entry.name!r} -> {entry.linkname!r}"
                raise ArchiveError(f"refused: member {target} is a link")
            if not entry.isreg() and not entry.isdir():
                raise ArchiveError(f"refused: member {entry.name!r} is a device or a pipe")
            reader = None if entry.isdir() else lambda entry=entry: tar.extractfile(entry)
            yield Member(entry.name, entry.size if reader else 0, reader)
        rest: Any = tar.fileobj
        while padding := rest.read(CHUNK):  # the checksums of gz, bz2 and xz stand at the very end
            limits.take(len(padding))


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"refused: member {entry.filename!r} is a link or a device")
            reader = None if entry.is_dir() else lambda entry=entry: bundle.open(entry)
            # orig_filename: zipfile itself cuts names at a NUL and turns backslashes around
            yield Member(entry.orig_filename, entry.file_size if reader else 0, reader)


def _write(member: Member, folder: Path, limits: Limits, inside: str) -> int:
    """Write one member; returns 1 for a file, 0 for a folder or one that lies elsewhere."""
    limits.take(max(member.size, 0), files=1)
    parts, wanted = safe_parts(member.name), PurePosixPath(inside).parts
    here = all(fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=False))
    if not here or len(parts) <= len(wanted) or _of_macos(parts):
        return 0
    target = folder.joinpath(*parts[len(wanted) :])
    if member.open is None:
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise ArchiveError(f"refused: member {member.name!r} is there twice")
    with member.open() as source, target.open("xb") as out:
        _copy(source, out, member, limits)
    return 1


def _of_macos(parts: tuple[str, ...]) -> bool:
    """Whether a name is of what macOS adds to archives: ``._1.jpg`` is no photograph."""
    return any(p.startswith("._") or p in ("__MACOSX", ".DS_Store") for p in parts)


def _copy(source: IO[bytes], out: IO[bytes], member: Member, limits: Limits) -> None:
    """Copy and count: what a file has beyond its declared size is counted, too little refused."""
    copied = 0
    while chunk := source.read(CHUNK):
        copied += len(chunk)
        if copied > member.size:
            limits.take(min(len(chunk), copied - max(member.size, 0)))
        out.write(chunk)
    if copied < member.size:
        raise ArchiveError(f"truncated: {member.name!r} has {copied} of {member.size} bytes")
