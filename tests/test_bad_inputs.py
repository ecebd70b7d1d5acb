"""What people hand to the data scripts: own archives and folders, odd names, broken records."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import test_download
from test_download import FILES, GOOD, NOISE, data_set, left_behind, refused, tar, zipped

from minilib import install as installer
from minilib.catalogue import RECORD, find, kept, read_record, status
from minilib.download import PINS, DownloadError, read_pins, sha256, write_pin
from minilib.install import command, install
from minilib.installed import adopt, in_words, verify
from minilib.paths import ROOT

server, quick = test_download.server, test_download.quick  # the same fixtures


def by_hand(root: Path, name="sample", files=FILES) -> Path:
    """A folder that nobody installed."""
    for file, body in files.items():
        path = root / name / file.removeprefix("set/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root / name


# --- what is not the file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "an empty file"),
        (b"<?xml version='1.0'?><Error/>", "web page"),
        (b"<!-- moved --><html>", "web page"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "web page"),
        ("<html>".encode("utf-16"), "web page"),
    ],
)
def test_pages_and_nothing_are_refused_and_not_learned(body, words, server, tmp_path):
    entry = data_set(server.serve("/page", body), file="a.txt", inside=None)
    assert words in refused(entry, tmp_path / "data")
    assert left_behind(tmp_path) == []


def test_a_wrong_learned_hash_says_how_to_forget_it(server, tmp_path):
    write_pin(tmp_path / PINS, "sample/a.txt", "0" * 64)
    entry = data_set(server.serve("/other", b"right"), file="a.txt", inside=None)
    message = refused(entry, tmp_path)
    assert "delete the line '00000000...  sample/a.txt'" in message
    assert str(tmp_path / PINS) in message


def test_a_hash_is_not_glued_to_a_line_without_its_end(tmp_path):
    (tmp_path / PINS).write_text("1" * 64 + "  a")
    write_pin(tmp_path / PINS, "b", "2" * 64)
    assert read_pins(tmp_path / PINS) == {"a": "1" * 64, "b": "2" * 64}


def test_hashes_that_are_no_text_are_one_line(server, tmp_path):
    copies, root = tmp_path / "copies", tmp_path / "data"
    copies.mkdir()
    (copies / "sample.tar.gz").write_bytes(GOOD)
    (copies / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")
    assert "SHA256SUMS' is not a text file" in refused(data_set(), root, local=copies)
    (root / PINS).parent.mkdir()
    (root / PINS).write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refused(data_set(server.serve("/x", GOOD)), root)


# --- folders that somebody put there -------------------------------------------------------------


def test_force_does_not_delete_what_was_put_there_by_hand(server, tmp_path):
    folder = by_hand(tmp_path)
    entry = data_set(server.serve("/hand", GOOD))
    for _ in ("unknown", "adopted"):
        message = refused(entry, tmp_path, force=True)
        assert "move it away to replace it, or keep it:" in message
        assert "--adopt" in message
        assert (folder / "a.txt").read_bytes() == b"first"
        adopt(entry, tmp_path)
    assert "/hand" not in server.asked


def test_an_adopted_folder_says_so(tmp_path, capsys, monkeypatch):
    entry = data_set()
    by_hand(tmp_path)
    monkeypatch.setattr(installer, "find", lambda name: entry)
    root = ["--root", str(tmp_path)]
    assert command("sample", ["--list", *root]) == 0
    assert "python data_scripts/sample.py --adopt" in capsys.readouterr().out
    assert command("sample", ["--check", *root]) == 1
    assert "python data_scripts/sample.py --adopt" in capsys.readouterr().err
    assert command("sample", ["--adopt", *root]) == 0
    assert "here: 2 files, 0.0 MB, put there by hand" in capsys.readouterr().out
    assert command("sample", ["--check", *root]) == 0
    assert "2 files, unchanged, put there by hand" in capsys.readouterr().out
    (tmp_path / "sample/c.txt").write_text("more")
    with pytest.raises(DownloadError, match="have changed"):
        verify(entry, tmp_path)
    adopt(entry, tmp_path)  # once more, with the new file
    assert left_behind(tmp_path) == ["sample"]


@pytest.mark.parametrize(
    ("files", "fields", "words"),
    [
        ({"b.txt": b""}, {}, "incomplete: 0 files 'a.txt'"),
        (
            {"a.txt": b""},
            {"file": "a.txt", "inside": None, "hash": "md5:00"},
            "a.txt has the wrong",
        ),
        ({"a.txt": b"", "train/._1.jpg": b""}, {}, r"'train/\._1\.jpg' is no data but macOS's"),
        ({}, {}, "no folder '.*' to adopt"),
    ],
)
def test_what_is_not_the_data_set_is_not_adopted(files, fields, words, tmp_path):
    by_hand(tmp_path, files=files)
    with pytest.raises(DownloadError, match=f"^sample: {words}"):
        adopt(data_set(**fields), tmp_path)
    assert not (tmp_path / "sample" / RECORD).exists()


def test_what_a_script_installed_is_not_adopted(server, tmp_path):
    entry = data_set(server.serve("/own", GOOD))
    install(entry, tmp_path)
    with pytest.raises(DownloadError, match="was not put there by hand, but from http"):
        adopt(entry, tmp_path)


def test_linked_folders_count(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "big/1.jpg").write_bytes(b"x")
    folder = by_hand(tmp_path)
    (folder / "train").symlink_to(tmp_path / "big")
    (folder / "again").symlink_to(folder)  # leads back
    adopt(data_set(expect={"train/*.jpg": 1}), tmp_path)
    assert read_record(folder)["files"] == 3


def test_a_linked_data_set_stays_a_link(server, tmp_path):
    big, root = tmp_path / "big", tmp_path / "data"
    (big / "there").mkdir(parents=True)
    root.mkdir()
    (root / "sample").symlink_to(big / "there")
    for _ in range(2):  # into an empty folder, then over an installed one
        install(data_set(server.serve("/linked", GOOD)), root, force=True)
        assert (root / "sample").is_symlink()
        assert (big / "there/a.txt").read_bytes() == b"first"
    assert left_behind(big) == ["there"]
    assert left_behind(root) == [PINS, "sample"]


def test_a_link_to_nowhere_and_a_file_are_one_line(tmp_path):
    (tmp_path / "sample").symlink_to(tmp_path / "gone")
    for force in (False, True):
        assert "gone', which is no folder" in refused(data_set(), tmp_path, force=force)
    assert "gone" in status(data_set(), tmp_path)
    (tmp_path / "sample").unlink()
    (tmp_path / "sample").write_text("")
    assert "is a file: move it away" in refused(data_set(), tmp_path)


@pytest.mark.parametrize("text", ["3", "null", "[[1,2]]", '{"name":1}', "[" * 9999, "\0", "{"])
def test_records_of_any_kind_are_read(text, tmp_path, capsys):
    folder = by_hand(tmp_path, "facades")
    (folder / RECORD).write_text(text)
    assert read_record(folder) == {}
    root = ["--root", str(tmp_path)]
    assert command("facades", ["--list", *root]) == 0
    assert "without a sound SOURCE.json" in capsys.readouterr().out
    assert command("facades", ["--check", *root]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    (folder / RECORD).write_text('{"checksum": "0", "files": 1, "bytes": 1, "sources": 3}')
    assert "from an unknown place" in status(find("facades"), tmp_path)


# --- archives that people make -------------------------------------------------------------------


def packed(folder: Path, body: bytes, name="own_photos.tar") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(body)
    return folder


def test_own_photos_need_the_space_that_they_take(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    files = {"train/1.jpg": NOISE, "val/1.jpg": NOISE}
    for k, body in enumerate((tar(files, "w"), tar(files), zipped(files))):
        root = tmp_path / str(k)
        install(find("own_photos"), root, packed(tmp_path / "copies", body))
    large = tar({**files, "train/2.jpg": bytes(2_000_000)}, "w")
    message = refused(find("own_photos"), root, local=packed(tmp_path, large), force=True)
    assert "needs 2.0 MB of disk" in message


def test_endings_in_capitals_and_the_folders_own_name(tmp_path):
    files = {"own_photos/train/IMG_1.JPG": b"x", "own_photos/val/2.Png": b"x"}
    folder = install(find("own_photos"), tmp_path / "data", packed(tmp_path, tar(files, "w")))
    assert (folder / "train/IMG_1.JPG").exists()
    assert "unchanged" in verify(find("own_photos"), tmp_path / "data")


def test_what_is_missing_is_said_in_words(tmp_path):
    copies = packed(tmp_path, tar({"mine/train/1.jpg": b"x", "mine/val/1.jpg": b"x"}, "w"))
    message = refused(find("own_photos"), tmp_path / "data", local=copies)
    assert "0 files that end in .jpg, .jpeg or .png in train/, at least 1 expected" in message
    assert "all files lie in a folder 'mine', which should be the top" in message
    assert in_words("train/*/*.jpg") == "files that end in .jpg in train/.../"
    assert in_words("val/*") == "files in val/"
    assert "*" not in in_words("annotations/instances_*2017.json")


def test_what_macos_adds_is_no_photograph(tmp_path):
    files = {"train/._1.jpg": b"x", "train/1.jpg": b"x", "val/._1.jpg": b"x", ".DS_Store": b"x"}
    copies = packed(tmp_path, tar(files, "w"))
    assert "in val/" in refused(find("own_photos"), tmp_path / "data", local=copies)
    packed(tmp_path, tar({**files, "val/1.jpg": b"x", "__MACOSX/val/._1.jpg": b"x"}, "w"))
    folder = install(find("own_photos"), tmp_path / "data", copies)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert names == [RECORD, "train/1.jpg", "val/1.jpg"]


def test_hidden_files_do_not_change_a_data_set(server, tmp_path):
    entry = data_set(server.serve("/hidden", GOOD))
    folder = install(entry, tmp_path)
    (folder / "deep/.b.4242.tmp.jpg").write_bytes(b"half")
    assert "2 files, unchanged" in verify(entry, tmp_path)


def test_names_that_are_not_utf8(tmp_path):
    name = b"train/caf\xe9.jpg".decode(errors="surrogateescape")
    copies = packed(tmp_path, tar({name: b"x", "val/1.jpg": b"x"}, "w"))
    folder = install(find("own_photos"), tmp_path / "data", copies)
    assert os.listdir(os.fsencode(folder / "train")) == [b"caf\xe9.jpg"]
    assert "unchanged" in verify(find("own_photos"), tmp_path / "data")


@pytest.mark.parametrize("make", [lambda files: tar(files, "w"), zipped])
@pytest.mark.parametrize("start", ["../", "/", ""])
def test_hostile_names_do_not_reach_the_terminal(start, make, tmp_path):
    name = start + "a\nerror: \x1b[2Jb"
    body = make({name: b"x"})
    if not start:  # a name that is fine, of a link
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "x\n\x1b"
        body = zipped({name: b"x"}, 0o120777) if make is zipped else tar({}, "w", [link])
    copies = packed(tmp_path, body, "sample.tar.gz")
    message = refused(data_set(), tmp_path / "data", local=copies)
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "files", [{"set/" + "x" * 300: b""}, {"set/a.txt": b"x", "set/a.txt/b": b"x"}]
)
def test_names_that_the_disk_cannot_hold(files, tmp_path):
    copies = packed(tmp_path, tar(files, "w"), "sample.tar.gz")
    message = refused(data_set(), tmp_path / "data", local=copies)
    assert ".partial" not in message
    assert message.startswith("sample: sample.tar.gz: ")
    assert len(message) < 150


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    body = tar({"set/a.txt": b"x", "set/z.zip": zipped({"set/evil.txt": b"x"})}, "w")
    copies = packed(tmp_path, body, "sample.tar.gz")
    assert zipfile.is_zipfile(copies / "sample.tar.gz")
    folder = install(data_set(), tmp_path / "data", copies)
    assert sorted(p.name for p in folder.iterdir()) == [RECORD, "a.txt", "z.zip"]


# --- where it comes from -------------------------------------------------------------------------


def test_from_a_file_or_from_nowhere(tmp_path, capsys):
    root = tmp_path / "data"
    (tmp_path / "s.tar").write_bytes(GOOD)
    assert "s.tar' is a file; --from wants" in refused(data_set(), root, local=tmp_path / "s.tar")
    by_hand(root, "facades")
    arguments = ["--from", str(tmp_path / "nowhere"), "--root", str(root)]
    assert command("facades", arguments) == 0
    said = capsys.readouterr().out
    assert "already here" in said
    assert "--force" not in said  # which would be refused
    record = {"checksum": "0", "files": 1, "bytes": 1, "sources": [{"from": "local copy"}]}
    (root / "facades" / RECORD).write_text(json.dumps(record))
    assert command("facades", arguments) == 0
    assert "already here; --force gets it again" in capsys.readouterr().out


def test_a_refused_data_folder_leaves_no_folders(tmp_path):
    refused(data_set(account=("Ask.",)), tmp_path / "a/b/c")
    assert left_behind(tmp_path) == []


def all_sets(*arguments) -> subprocess.CompletedProcess:
    script = ROOT / "data_scripts/all.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


def test_all_from_nowhere_is_an_error(tmp_path):
    done = all_sets("--from", tmp_path / "nowhere", "--root", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: no folder '{tmp_path}/nowhere' to take it from\n"


def test_all_lists_broken_records(tmp_path):
    (by_hand(tmp_path, "facades") / RECORD).write_text("3")
    assert all_sets("--root", tmp_path).returncode == 0


ALL = """
import runpy, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from minilib import install
def unpack(*_):
    print("busy", flush=True)
    threading.Event().wait(30)
install.unpack = unpack
sys.argv = ["all.py", "--from", {copies!r}, "--root", {root!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_cleans_up_when_it_is_stopped(how, tmp_path):
    copies = packed(tmp_path / "copies", GOOD, "facades.tar.gz")
    root, script = tmp_path / "data", ROOT / "data_scripts/all.py"
    code = ALL.format(copies=str(copies), root=str(root), script=str(script))
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
    while process.stdout.readline() not in ("busy\n", ""):
        pass
    process.send_signal(how)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + how
    assert "Traceback" not in said
    assert left_behind(root) == []


# --- several files -------------------------------------------------------------------------------


def two_files(first: str, second: str, **fields):
    entry = data_set(first, **fields)
    other = replace(entry.files[0], name="second.tar.gz", urls=(second,), to="second")
    return replace(entry, files=(*entry.files, other))


def test_complete_downloads_wait_for_the_others(server, tmp_path):
    first = server.serve("/first", GOOD)
    entry = two_files(first, server.serve("/second", (404, b"", None)))
    for _ in range(2):
        assert "cannot download second.tar.gz" in refused(entry, tmp_path)
        assert left_behind(tmp_path) == [".sample.downloads"]
        assert "1 of 2 files wait in .sample.downloads" in status(entry, tmp_path)
    server.serve("/second", GOOD)
    folder = install(entry, tmp_path)
    assert server.asked.count("/first") == 1
    assert read_record(folder)["sources"][0]["from"] == first
    assert left_behind(tmp_path) == [PINS, "sample"]


def test_a_waiting_download_that_was_damaged_is_fetched_again(server, tmp_path):
    entry = two_files(server.serve("/1st", GOOD), server.serve("/2nd", (404, b"", None)))
    refused(entry, tmp_path)
    (kept(tmp_path / "sample") / "sample.tar.gz").write_bytes(GOOD[:-1])
    server.serve("/2nd", GOOD)
    install(entry, tmp_path)
    assert server.asked.count("/1st") == 2


@pytest.mark.parametrize("known", ["manifest", "learned"])
def test_a_waiting_download_with_another_hash_is_fetched_again(known, server, tmp_path):
    entry = two_files(server.serve("/h1", GOOD), server.serve("/h2", (404, b"", None)))
    refused(entry, tmp_path)
    other = tar({"set/a.txt": b"new"})
    (tmp_path / "new").write_bytes(other)
    new = sha256(tmp_path / "new")
    if known == "learned":
        write_pin(tmp_path / PINS, "sample/sample.tar.gz", new)
    else:
        first = replace(entry.files[0], hash=f"sha256:{new}")
        entry = replace(entry, files=(first, entry.files[1]))
    server.serve("/h1", other)
    server.serve("/h2", GOOD)
    assert (install(entry, tmp_path) / "a.txt").read_bytes() == b"new"


def test_downloads_that_prove_bad_do_not_wait(server, tmp_path):
    entry = two_files(server.serve("/fine", GOOD), server.serve("/noise", NOISE))
    assert "not a tar" in refused(entry, tmp_path / "data")
    assert left_behind(tmp_path / "data") == []
