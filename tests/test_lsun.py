import io
import struct

import numpy as np
import pytest
import torch
from data_trees import lmdb_file, lsun
from PIL import Image

from minilib import lsun as reader
from minilib.data import DataError, DataMissing


def written(path, values):
    path.write_bytes(lmdb_file(values))
    return reader.Database(path)


def picture(width, height):
    """Black, white and black, each a third of the width."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, width // 3 : 2 * width // 3] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("values", [[], [b"x"], [bytes([i]) * (3000 * i + 1) for i in range(30)]])
def test_values_come_in_the_order_of_their_keys(values, tmp_path):
    database = written(tmp_path / "data.mdb", values)
    assert len(database) == len(values)
    assert [database[i] for i in range(len(database))] == values


def test_the_newer_of_the_two_meta_pages_counts(tmp_path):
    path = tmp_path / "data.mdb"
    path.write_bytes(lmdb_file([b"old"]))
    whole = bytearray(path.read_bytes())
    root, changes = 16 + 24 + 48 + 40, 16 + 24 + 2 * 48 + 8
    whole[4096 + root : 4096 + root + 8] = b"\xff" * 8  # the second, newer, has an empty tree
    path.write_bytes(whole)
    assert len(reader.Database(path)) == 0
    whole[changes] = 9  # now the first is the newer one
    path.write_bytes(whole)
    assert len(reader.Database(path)) == 1


def page_of(number, flags, nodes):
    """A page with these nodes, 50 bytes each, from byte 200 on."""
    places = [200 + 50 * i for i in range(len(nodes))]
    head = struct.pack("<QHHHH", number, 0, flags, 16 + 2 * len(nodes), 200)
    head += struct.pack(f"<{len(nodes)}H", *places)
    return (head.ljust(200, b"\0") + b"".join(n.ljust(50, b"\0") for n in nodes)).ljust(4096, b"\0")


def test_branches_lead_to_leaves_and_values_may_lie_in_the_leaf(tmp_path):
    leaves = {3: [b"c"], 4: [b"a", b"bb"]}
    pages = [page_of(2, 1, [struct.pack("<HHHH", number, 0, 0, 0) for number in (4, 3)])]
    for number, values in leaves.items():
        nodes = [struct.pack("<HHHH", len(v), 0, 0, 2) + b"kk" + v for v in values]
        pages.append(page_of(number, 2, nodes))
    path = tmp_path / "data.mdb"
    path.write_bytes(lmdb_file([])[:8192] + b"".join(pages))
    database = reader.Database(path)
    assert [database[i] for i in range(3)] == [b"a", b"bb", b"c"]


@pytest.mark.parametrize("damage", [lambda b: b[:5000], lambda b: b"no" + b[18:], lambda b: b""])
def test_a_damaged_file_is_refused_in_one_line(damage, tmp_path):
    path = tmp_path / "data.mdb"
    path.write_bytes(damage(lmdb_file([b"y" * 9000, b"z" * 9000])))
    with pytest.raises(DataError) as caught:
        reader.Database(path)
    assert "data.mdb" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_lost_its_last_values_is_refused(tmp_path):
    path = tmp_path / "data.mdb"
    path.write_bytes(lmdb_file([b"y" * 9000, b"z" * 9000])[:-9000])
    with pytest.raises(DataError, match="cut off"):
        reader.Database(path)


def test_photographs_are_the_middle_square_resized(tmp_path):
    database = written(tmp_path / "data.mdb", [picture(60, 20), b"not a picture"])
    photos = reader.Photographs(database, (10, 10))
    assert photos[0].shape == (3, 10, 10)
    assert (photos[0][..., 1:-1] == 255).all()
    assert photos[0].min() > 200  # the filter reaches a little over the edge of the square
    batch = photos.batch(torch.tensor([0, 0]))
    torch.testing.assert_close(batch[1, ..., 1:-1], torch.ones(3, 10, 8))
    with pytest.raises(DataError, match="photograph 1"):
        photos[1]


def test_database_and_exported_folder_give_the_same_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    with pytest.raises(DataMissing):
        reader.photographs("lsun_bedroom", "train", (8, 8))
    lsun(tmp_path / "lsun_bedroom")
    found = reader.photographs("lsun_bedroom", "train", (8, 8))
    assert len(found) == 8
    exported = tmp_path / "lsun_church" / "train" / "a" / "b"
    exported.mkdir(parents=True)
    for i in range(8):
        (exported / f"{i:05d}.webp").write_bytes(found.encoded[i])
    folder = reader.photographs("lsun_church", "train", (8, 8))
    assert len(folder) == 8
    assert all(torch.equal(folder[i], found[i]) for i in range(8))
