"""Downloads that go wrong: each is refused with one line, and nothing is left behind."""

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from minilib import archives, chapters, sources
from minilib import install as installer
from minilib.catalogue import DataSet, LocalCopy, Source, catalogue, find, read_record
from minilib.download import PINS, DownloadError, fetch, mega, sha256
from minilib.install import command, install
from minilib.installed import tree_checksum, verify
from minilib.paths import ROOT

FILES = {"set/a.txt": b"first", "set/deep/b.txt": b"second" * 100}


class Loopback:
    """A server of this machine: each path answers with its list of replies, the last one for ever.

    A reply is (status, body, declared length or None for the true one, or -1 for no length).
    """

    def __init__(self) -> None:
        self.replies: dict[str, list] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                queue = outer.replies[self.path]
                status, body, length = queue.pop(0) if len(queue) > 1 else queue[0]
                self.send_response(status)
                if length != -1:
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                for chunk in [body] if isinstance(body, bytes) else body:
                    try:
                        self.wfile.write(chunk)
                    except OSError:
                        return

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, path: str, *replies) -> str:
        self.replies[path] = [(r if isinstance(r, tuple) else (200, r, None)) for r in replies]
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture(scope="module")
def server():
    loopback = Loopback()
    yield loopback
    loopback.server.shutdown()
    loopback.server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # pooch waits between attempts
    monkeypatch.delenv(installer.FROM, raising=False)


def tar(files=FILES, mode="w:gz", extra=()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            bundle.addfile(entry, io.BytesIO(body))
        for entry in extra:
            bundle.addfile(entry)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry


def zipped(files=FILES, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, body in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            bundle.writestr(entry, body)
    return buffer.getvalue()


def lying_zip() -> bytes:
    """A zip whose one file says it is 10 bytes and unpacks to a million."""
    body = zipped({"set/a.txt": b"\0" * 1_000_000})
    return body.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]


def data_set(*urls: str, name="sample", file="sample.tar.gz", inside="set", expect=None, **more):
    keys = {k: more.pop(k) for k in ("hash", "size") if k in more}
    source = Source(name=file, urls=urls, inside=inside, **keys)
    return DataSet(
        name=name,
        title="A sample",
        used_by=(),
        licence="none",
        cite=(),
        home="",
        layout="",
        expect=expect or {"a.txt": 1},
        files=(source,),
        **{"unpacked": 10_000, **more},
    )


def left_behind(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def refused(entry: DataSet, root: Path, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        install(entry, root, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{entry.name}: ")
    return message


GOOD = tar()
STATIC = random.Random(0).randbytes(4000)  # does not compress, so that a flip hits the contents
NOISE = bytes(range(256)) * 20
BAD = {  # name: (body served, what the line must say, fields of the data set that differ)
    "not an archive": (NOISE, "not a tar, zip", {}),
    "a web page": (b"\n<!DOCTYPE html><html>log in</html>", "sent a web page", {}),
    "wrong hash": (GOOD, "wrong hash", {"hash": "sha256:" + "0" * 64}),
    "cut archive": (GOOD[:-40], "damaged or truncated", {}),
    "cut plain tar": (tar(mode="w")[:1400], "damaged or truncated", {}),
    "cut plain tar, between files": (tar(mode="w")[:1024], "damaged or truncated", {}),
    "damaged header": (tar(mode="w")[:1100] + b"x" * 2000, "damaged or truncated", {}),
    "cut zip": (zipped()[:-30], "not a tar, zip", {}),
    "flipped byte": (flipped(tar({"set/a.txt": STATIC})), "damaged or truncated", {}),
    "flipped byte in a zip": (flipped(zipped({"set/a.txt": NOISE})), "damaged", {}),
    "absolute path": (tar({"/tmp/evil": b"x"}), "unsafe path", {}),
    "dot dot": (tar({"set/../../evil": b"x"}), "'..'", {}),
    "backslashes": (zipped({"..\\evil": b"x"}), "unsafe path", {}),
    "drive letter": (zipped({"C:/evil": b"x"}), "unsafe path", {}),
    "dot dot in a zip": (zipped({"../evil": b"x"}), "'..'", {}),
    "absolute path in a zip": (zipped({"/tmp/evil": b"x"}), "unsafe path", {}),
    "symlink out": (tar(extra=[special("set/l", tarfile.SYMTYPE, "/etc")]), "is a link", {}),
    "symlink in": (tar(extra=[special("set/l", tarfile.SYMTYPE, "a.txt")]), "is a link", {}),
    "hard link out": (tar(extra=[special("set/l", tarfile.LNKTYPE, "../x")]), "is a link", {}),
    "symlink in a zip": (zipped({"set/l": b"/etc"}, stat.S_IFLNK | 0o777), "link or a device", {}),
    "device": (tar(extra=[special("set/d", tarfile.CHRTYPE)]), "device or a pipe", {}),
    "pipe": (tar(extra=[special("set/p", tarfile.FIFOTYPE)]), "device or a pipe", {}),
    "same name twice": (tar(mode="w")[:2560] + tar(mode="w"), "is there twice", {}),
    "bomb, declared": (tar({"set/a.txt": b"\0" * 1_000_000}), "bomb", {}),
    "bomb, zip": (zipped({"set/a.txt": b"\0" * 1_000_000}), "bomb", {}),
    "bomb, not declared": (gzip.compress(b"\0" * 1_000_000), "bomb", {"inside": "."}),
    "bomb, single file": (gzip.compress(b"A" * 1_000_000), "bomb", {"inside": "."}),
    "bomb, header": (
        tar(extra=[special("x", tarfile.XHDTYPE, size=2_000_000)]), "a header block of 2000000", {},
    ),
    "bomb, lying zip": (lying_zip(), "damaged", {}),
    "larger than announced": (b"\0" * 9000, "at most 300 are expected", {"size": 100}),
    "no such folder": (tar({"other/a.txt": b"x"}), "holds no files in 'set'", {}),
    "too few files": (tar({"set/b.txt": b"x"}), "incomplete: 0 files 'a.txt'", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_download_is_refused_and_leaves_nothing(case, server, tmp_path):
    body, expected, fields = BAD[case]
    root = tmp_path / "data"
    url = server.serve("/bad", body)
    assert expected in refused(data_set(url, **fields), root)
    assert left_behind(root) == []
    assert left_behind(tmp_path) in ([], ["data"])
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ((404, b"", None), "404 Not Found"),
        ((503, b"busy", None), "503 Service Unavailable"),
        ((200, GOOD[:50], len(GOOD)), "the connection broke off"),
    ],
)
def test_server_errors_are_named(reply, expected, server, tmp_path):
    message = refused(data_set(server.serve("/error", reply)), tmp_path / "data")
    assert expected in message
    assert left_behind(tmp_path / "data") == []


def test_endless_stream_is_stopped(server, tmp_path):
    endless = (b"\0" * 65536 for _ in iter(int, 1))
    url = server.serve("/endless", (200, endless, -1))
    message = refused(data_set(url, size=1000), tmp_path / "data")
    assert "more than the 3000 bytes" in message
    assert left_behind(tmp_path / "data") == []


def test_no_connection(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        message = refused(data_set(f"http://127.0.0.1:{port}/x"), tmp_path / "data")
    assert "no connection" in message


def test_too_many_files(tmp_path):
    path = tmp_path / "many.tar"
    path.write_bytes(tar({f"set/{n}": b"" for n in range(20)}, mode="w"))
    with pytest.raises(archives.ArchiveError, match="bomb"):
        archives.unpack(path, tmp_path, archives.Limits(size=1000, files=10))


def test_full_disk_is_seen_before_the_first_byte(server, tmp_path, monkeypatch):
    url = server.serve("/full", GOOD)
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "0.0 MB are free" in refused(data_set(url), tmp_path / "data")
    assert "/full" not in server.asked
    assert left_behind(tmp_path / "data") == []


def test_disk_too_small_for_what_the_server_announces(server, tmp_path, monkeypatch):
    url = server.serve("/announced", b"\0" * 6_000)
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = refused(data_set(url, unpacked=None), tmp_path / "data")
    assert "of disk" in message
    assert left_behind(tmp_path / "data") == []


@pytest.mark.parametrize("where", ["_copy", "unpack"])
def test_disk_fills_up_while_unpacking(where, server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "a.txt")

    module = archives if where == "_copy" else installer
    monkeypatch.setattr(module, where, full)
    message = refused(data_set(server.serve("/good", GOOD)), tmp_path / "data")
    assert "No space left on device" in message
    assert left_behind(tmp_path / "data") == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_good_archives_of_every_kind(mode, server, tmp_path):
    url = server.serve("/good", zipped() if mode == "zip" else tar(mode=mode))
    folder = install(data_set(url), tmp_path / "data")
    assert (folder / "deep/b.txt").read_bytes() == FILES["set/deep/b.txt"]
    assert left_behind(tmp_path / "data") == [PINS, "sample"]
    checksum, files, size = tree_checksum(folder)
    record = read_record(folder)
    assert (record["checksum"], record["files"], record["bytes"]) == (checksum, 2, 605) == (
        checksum, files, size,
    )  # fmt: skip
    assert record["sources"][0]["from"] == url


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_single_compressed_files(module, tmp_path):
    path = tmp_path / "a.txt.packed"
    path.write_bytes(module.compress(b"hello"))
    (tmp_path / "out").mkdir()
    assert archives.unpack(path, tmp_path / "out", archives.Limits(size=5)) == 1
    assert (tmp_path / "out/a.txt").read_bytes() == b"hello"


def test_mirror_serves_when_the_first_fails(server, tmp_path):
    urls = [
        server.serve("/1", (500, b"", None)),
        server.serve("/2", flipped(GOOD)),
        server.serve("/3", GOOD),
    ]
    (tmp_path / "good").write_bytes(GOOD)
    entry = data_set(*urls, hash=f"sha256:{sha256(tmp_path / 'good')}", size=len(GOOD))
    folder = install(entry, tmp_path / "data")
    assert read_record(folder)["sources"][0]["from"] == urls[2]


def test_broken_connection_is_tried_again(server, tmp_path):
    url = server.serve("/again", (200, GOOD[:50], len(GOOD)), (200, GOOD, None))
    install(data_set(url), tmp_path / "data")
    assert server.asked.count("/again") == 2


def test_hash_is_learned_and_held_to(server, tmp_path):
    root = tmp_path / "data"
    url = server.serve("/pin", GOOD)
    folder = install(data_set(url), root)
    before = (folder / "a.txt").read_bytes()
    assert "sample/sample.tar.gz" in (root / PINS).read_text()
    server.serve("/pin", tar({"set/a.txt": b"changed"}))
    message = refused(data_set(url), root, force=True)
    assert "wrong hash" in message
    assert PINS in message
    assert (folder / "a.txt").read_bytes() == before
    assert left_behind(root) == [PINS, "sample"]


def test_force_replaces_and_without_it_nothing_is_asked(server, tmp_path):
    root = tmp_path / "data"
    folder = install(data_set(server.serve("/old", GOOD)), root)
    asked = len(server.asked)
    assert install(data_set(server.serve("/new", GOOD)), root) == folder
    assert len(server.asked) == asked
    (folder / "a.txt").write_text("edited")
    with pytest.raises(DownloadError, match="have changed"):
        verify(data_set(), root)
    install(data_set(server.serve("/new", GOOD)), root, force=True)
    assert "unchanged" in verify(data_set(), root)
    assert left_behind(root) == [PINS, "sample"]


def test_killed_while_replacing_puts_the_old_one_back(tmp_path):
    old = tmp_path / ".sample.partial" / "old"
    old.mkdir(parents=True)
    (old / "a.txt").write_text("kept")
    refused(data_set(account=("Ask.",)), tmp_path, force=True)
    assert (tmp_path / "sample/a.txt").read_text() == "kept"
    assert left_behind(tmp_path) == ["sample"]


def test_a_data_folder_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("")
    assert "File exists" in refused(data_set("http://127.0.0.1:9/x"), tmp_path / "data")


SLOW = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup that
sys.path.insert(0, {tests!r})
from test_download import data_set
from minilib import install
install.find = lambda name: data_set({url!r})
raise SystemExit(install.command("sample", ["--root", {root!r}]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stopped_in_mid_download_then_run_again(how, server, tmp_path):
    root, release = tmp_path / "data", threading.Event()

    def slowly():
        yield GOOD[:100]
        release.wait(30)
        yield GOOD[100:]

    url = server.serve("/slow", (200, slowly(), len(GOOD)), (200, GOOD, None))
    code = SLOW.format(tests=str(Path(__file__).parent), url=url, root=str(root))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any(root.glob(".sample.partial/*tmp*")) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    busy = "another process is getting it" in refused(data_set(url), root)
    process.send_signal(how)
    _, said = process.communicate(timeout=300)
    release.set()
    assert busy
    assert process.returncode not in (0, 1)
    assert "Traceback" not in said
    assert left_behind(root) == ([".sample.partial"] if how == signal.SIGKILL else [])
    install(data_set(url), root)
    assert left_behind(root) == [PINS, "sample"]


def test_copy_from_a_folder(tmp_path, monkeypatch):
    copies, root = tmp_path / "copies", tmp_path / "data"
    copies.mkdir()
    entry = data_set("http://127.0.0.1:9/never", local=LocalCopy(archive="s.tar", inside="set"))
    assert "does not hold sample.tar.gz (or s.tar)" in refused(entry, root, local=copies)
    assert "no folder" in refused(entry, root, local=tmp_path / "nowhere")
    (copies / "s.tar").write_bytes(tar(mode="w"))
    (copies / "SHA256SUMS").write_text("0" * 64 + "  s.tar\n")
    assert "does not match the SHA256SUMS" in refused(entry, root, local=copies)
    (copies / "SHA256SUMS").write_text(f"{sha256(copies / 's.tar')}  s.tar\n")
    monkeypatch.setenv(installer.FROM, str(copies))
    folder = install(entry, root)
    assert read_record(folder)["sources"][0]["from"] == "local copy"
    assert left_behind(root) == ["sample"]


def test_publishers_own_files_in_a_folder_keep_their_hashes(tmp_path):
    (tmp_path / "sample.tar.gz").write_bytes(GOOD)
    good = data_set(hash=f"sha256:{sha256(tmp_path / 'sample.tar.gz')}")
    bad = data_set(hash="md5:" + "0" * 32)
    assert "wrong hash: md5" in refused(bad, tmp_path / "data", local=tmp_path)
    assert install(good, tmp_path / "data", local=tmp_path).is_dir()


def test_original_files_inside_a_copy_are_checked(tmp_path):
    (tmp_path / "s.tar").write_bytes(tar(mode="w"))
    entry = data_set(
        file="a.txt",
        inside=None,
        hash="sha256:" + "0" * 64,
        local=LocalCopy(archive="s.tar", inside="set", original=True),
    )
    assert "a.txt has the wrong hash" in refused(entry, tmp_path / "data", local=tmp_path)
    assert left_behind(tmp_path / "data") == []


def test_same_files_give_the_same_checksum_whatever_they_came_in(server, tmp_path):
    first = install(data_set(server.serve("/t", tar())), tmp_path / "1")
    second = install(data_set(server.serve("/z", zipped())), tmp_path / "2")
    assert read_record(first)["checksum"] == read_record(second)["checksum"]


def test_account_steps_in_one_line(tmp_path):
    entry = data_set(account=("Register.", "Download."))
    assert "(1) Register. (2) Download." in refused(entry, tmp_path / "data")


def test_command_line(tmp_path, capsys):
    root = ["--root", str(tmp_path / "data")]
    assert command("facades", ["--list", *root]) == 0
    assert capsys.readouterr().out == "facades: not here: 30 MB, public\n"
    assert command("facades", ["--check", *root]) == 1
    assert command("facade", []) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "error: facades: not here; run: python data_scripts/facades.py"
    assert error[1].startswith("error: unknown data set 'facade': did you mean 'facades'?")
    assert command("facades", ["--from", str(tmp_path), *root]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_fetch_without_addresses(tmp_path):
    with pytest.raises(DownloadError, match="no address"):
        fetch([], tmp_path / "x")


def test_sizes_for_people():
    assert [mega(n) for n in (123_456, 30_168_306, 5.7e10)] == ["0.1 MB", "30 MB", "57.0 GB"]


def test_manifest_is_complete():
    sets = catalogue()
    for name, entry in sets.items():
        assert (ROOT / "data_scripts" / f"{name}.py").exists(), name
        assert entry.files, name
        assert entry.expect, name
        assert entry.licence, name
        assert entry.unpacked, name
        assert len({file.name for file in entry.files}) == len(entry.files)
        assert bool(entry.account) == any(not file.urls for file in entry.files), name
        for file in entry.files:
            assert file.hash is None or file.hash.startswith(("sha256:", "md5:"))
            assert all(url.startswith(("http://", "https://")) for url in file.urls)
    scripts = {path.stem for path in (ROOT / "data_scripts").glob("*.py")}
    assert scripts == {*sets, "all", "prepare"}


def sample(pattern: str, number: int = 0) -> str:
    """A name that a glob pattern fits, another for each number."""
    for mark, letter in (
        ("**", "d"),
        ("*", f"a{number}"),
        ("?", "A"),
        ("[pj]", "p"),
        ("[jp]", "j"),
    ):
        pattern = pattern.replace(mark, letter)
    return pattern


def as_served(entry: DataSet, file: Source, number: int) -> bytes:
    """What the publisher might send: an archive with one file for each pattern, or a plain file."""
    if file.inside is None:
        return b"as it is"
    start = "" if file.to == "." else f"{file.to}/"
    names = [sample(p, number).removeprefix(start) for p in entry.expect if p.startswith(start)]
    names = names if number == 0 or start else []
    inside = sample(file.inside)
    folder = "" if inside == "." else f"{inside}/"
    return tar({f"{folder}{name}": b"x" for name in [*names, f"more/{file.name}"]})


def few_of(entry: DataSet) -> dict:
    """What makes an entry content with one file of each kind, on a small disk."""
    return {"expect": dict.fromkeys(entry.expect, 1), "unpacked": 1_000_000}


@pytest.mark.parametrize("name", catalogue())
def test_every_data_set_comes_to_lie_as_its_entry_says(name, server, tmp_path):
    entry = find(name)
    files = []
    for k, file in enumerate(entry.files):
        url = server.serve(f"/{name}/{k}", as_served(entry, file, k))
        files.append(replace(file, urls=(url,), hash=None, size=None))
    few = replace(entry, files=tuple(files), **few_of(entry))
    folder = install(few, tmp_path)  # which refuses a set that lacks what is expected
    assert len(read_record(folder)["sources"]) == len(files)
    assert "unchanged" in verify(few, tmp_path)


@pytest.mark.parametrize("name", [n for n, entry in catalogue().items() if entry.account])
def test_what_the_user_fetched_is_unpacked_and_checked(name, tmp_path):
    entry = find(name)
    root, copies = tmp_path / "data", tmp_path / "copies"
    assert str(entry.account[0]) in refused(entry, root)
    copies.mkdir()
    assert "does not hold" in refused(entry, root, local=copies)
    for k, file in enumerate(entry.files):
        (copies / file.name).write_bytes(as_served(entry, file, k))
    few = replace(entry, **few_of(entry))
    folder = install(few, root, local=copies)
    assert "unchanged" in verify(few, root)
    next(folder.glob(next(iter(entry.expect)))).unlink()
    with pytest.raises(DownloadError, match="incomplete"):
        verify(few, root)
    (copies / entry.files[0].name).write_bytes(b"no archive")
    assert "not a tar, zip" in refused(few, root, local=copies, force=True)


@pytest.mark.parametrize("name", catalogue())
def test_scripts_say_what_the_manifest_says(name):
    text = " ".join((ROOT / "data_scripts" / f"{name}.py").read_text().split())
    entry = find(name)
    for words in (entry.title, entry.layout, f"Used by: {', '.join(entry.used_by)}.", f'"{name}"'):
        assert words in text


def test_every_data_set_that_a_chapter_reads_has_an_entry():
    known = {*catalogue(), "none", "digits", "tinytown"}
    for chapter in chapters.names():
        for tasks in getattr(chapters.load(chapter), "PRESETS", {}).values():
            assert {plan.data for plan in tasks.values()} <= known, chapter


@pytest.mark.parametrize("name", ["mnist", "cityscapes", "all"])
def test_scripts_run(name, tmp_path):
    script = ROOT / "data_scripts" / f"{name}.py"
    environment = {**os.environ, "MINILIB_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script, "--list"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "not here" in done.stdout
    assert find("mnist").local is not None


def test_publishers_are_asked_without_downloading(server):
    fine = server.serve("/online/fine", b"x" * 5000)
    page = server.serve("/online/page", b"<!DOCTYPE html><p>moved")
    empty, xml = (
        server.serve("/online/0", b""),
        server.serve("/online/xml", b"\xef\xbb\xbf<?xml ?>"),
    )
    gone = server.serve("/online/gone", (404, b"", None))
    nowhere = "http://127.0.0.1:1/none"
    sets = [
        data_set(fine, name="good", size=5000),
        data_set(gone, fine, name="mirror", size=5000),
        data_set(fine, name="grown", size=4000, hash="sha256:00"),
        data_set(fine, name="rounded", size=4000),
        data_set(fine, name="tiny", size=90_000),
        data_set(empty, name="empty"),
        data_set(xml, name="xml"),
        data_set(gone, nowhere, name="dead"),
        data_set(page, name="page"),
        data_set(name="account"),
    ]
    found = sources.online(sets, timeout=5)
    lines = {key.split(":")[0]: value for key, value in found.items()}
    assert {key: served for key, (served, _) in lines.items()} == {
        "good": True, "mirror": True, "grown": False, "dead": False, "page": False,
        "rounded": True, "tiny": False, "empty": False, "xml": False,
    }  # fmt: skip
    assert "404" in lines["mirror"][1]
    assert "5,000 bytes instead of 4,000" in lines["grown"][1]
    assert "no connection" in lines["dead"][1]
    assert "web page" in lines["page"][1]
    assert "5,000 bytes instead of about 90,000" in lines["tiny"][1]
    assert "an empty file" in lines["empty"][1]
