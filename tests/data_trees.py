"""Data sets of three images in their real layouts, for the tests that run ``full``.

``plant(root, name)`` writes one, with the record that the data scripts leave, so that a run finds
it as it would find the downloaded one.
"""

import bz2
import gzip
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from minilib.catalogue import RECORD
from minilib.installed import tree_checksum

COUNT = 3
SIDE = 48  # pixels of the photographs; they are resized when they are read
PAIRS = {
    "facades": ("train", "val", "test"),
    "maps": ("train", "val"),
    "edges2shoes": ("train", "val"),
    "edges2handbags": ("train", "val"),
    "night2day": ("train", "val", "test"),
    "edges_shoes_bags": ("train", "val"),
    "own_pairs": ("train", "val"),
}
DOMAINS = ("horse2zebra", "apple2orange", "summer2winter_yosemite", "monet2photo")
PALETTE = [(128, 64, 128), (70, 70, 70), (107, 142, 35), (70, 130, 180)]  # Cityscapes' colours


def pixels(seed: int, *shape: int, high: int = 256) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def save(array: np.ndarray, path: Path) -> None:
    """Write an image, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def photos(folder: Path, names: list[str], seed: int = 0) -> None:
    """Random photographs with these names."""
    for i, name in enumerate(names):
        save(pixels(seed + i, SIDE, SIDE, 3), folder / name)


def numbered(ending: str) -> list[str]:
    """Names of three files."""
    return [f"{i:05d}{ending}" for i in range(COUNT)]


def coloured(seed: int) -> np.ndarray:
    """A label map in Cityscapes' colours."""
    return np.array(PALETTE, np.uint8)[pixels(seed, SIDE, SIDE, high=len(PALETTE))]


def pairs(root: Path, splits: tuple[str, ...]) -> None:
    """Two pictures side by side in each file."""
    for split in splits:
        for i in range(COUNT):
            save(pixels(i, SIDE, 2 * SIDE, 3), root / split / f"{i + 1}.jpg")


def domains(root: Path) -> None:
    """trainA, trainB, testA, testB."""
    for k, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        photos(root / folder, numbered(".jpg"), 10 * k)


def cityscapes(root: Path) -> None:
    """leftImg8bit and gtFine, by split and city."""
    for split, city in (("train", "ulm"), ("val", "lindau"), ("test", "bonn")):
        for i in range(COUNT):
            stem = f"{city}_{i:06d}_000019"
            save(pixels(i, SIDE, 2 * SIDE, 3), root / "leftImg8bit" / split / city
                 / f"{stem}_leftImg8bit.png")  # fmt: skip
            fine = root / "gtFine" / split / city
            save(pixels(i, SIDE, 2 * SIDE, high=34), fine / f"{stem}_gtFine_labelIds.png")
            save(pixels(i, SIDE, 2 * SIDE, high=34), fine / f"{stem}_gtFine_instanceIds.png")
            save(coloured(i), fine / f"{stem}_gtFine_color.png")


def labelled(root: Path, folders: dict[str, str], labels: int, unknown: bool) -> None:
    """Photographs, label maps and instance maps: {folder: "photo", "labels" or "instances"}."""
    for folder, kind in folders.items():
        for i in range(COUNT):
            array = (
                pixels(i, SIDE, SIDE, 3) if kind == "photo" else pixels(i, SIDE, SIDE, high=labels)
            )
            if kind == "labels" and unknown:
                array[0] = 255
            save(array, root / folder / f"{i:012d}.{'jpg' if kind == 'photo' else 'png'}")


def coco_like(root: Path, instances: bool) -> None:
    """COCO-Stuff after its preparation; Flickr landscapes are the same without instances."""
    maps = ("labels/{}2017" if instances else "{}_label",)
    for split in ("train", "val"):
        kinds = {f"{split}_img": "photo", maps[0].format(split): "labels"}
        kinds |= {f"{split}_inst": "instances"} if instances else {}
        if instances:
            objects = root / "annotations" / f"instances_{split}2017.json"
            objects.parent.mkdir(parents=True, exist_ok=True)
            objects.write_text(json.dumps({"annotations": []}))
        labelled(root, kinds, 182, unknown=True)


def ade20k(root: Path) -> None:
    """images and annotations, training and validation."""
    for split in ("training", "validation"):
        kinds = {f"images/{split}": "photo", f"annotations/{split}": "labels"}
        labelled(root, kinds, 151, unknown=False)


def gta5(root: Path) -> None:
    """images and labels, the labels in Cityscapes' colours."""
    for i in range(COUNT):
        save(pixels(i, SIDE, 2 * SIDE, 3), root / "images" / f"{i + 1:05d}.png")
        save(coloured(i), root / "labels" / f"{i + 1:05d}.png")


def bdd100k(root: Path) -> None:
    """The 10k images and their segmentation masks."""
    for split in ("train", "val"):
        kinds = {f"images/10k/{split}": "photo", f"labels/sem_seg/masks/{split}": "labels"}
        labelled(root, kinds, 19, unknown=True)


def mnist(root: Path, count: int = 1100) -> None:
    """The four official files; more than three digits, as the first 1,024 are held back."""
    root.mkdir(parents=True)
    for stem, n in (("train", count), ("t10k", 8)):
        for kind, array in (
            ("images-idx3", pixels(0, n, 28, 28)), ("labels-idx1", pixels(1, n, high=10)),
        ):  # fmt: skip
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes([0, 0, 8, array.ndim]) + sizes
            (root / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


def usps(root: Path) -> None:
    """Two compressed text files: a label from 1 to 10, then 256 numbered pixels."""
    root.mkdir(parents=True)
    for name, n in (("usps.bz2", 200), ("usps.t.bz2", 8)):
        values, labels = pixels(0, n, 256) / 127.5 - 1, pixels(1, n, high=10) + 1
        lines = [
            " ".join([str(label), *(f"{k}:{v:.3f}" for k, v in enumerate(row, 1))])
            for label, row in zip(labels, values, strict=True)
        ]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def svhn(root: Path) -> None:
    """Two MATLAB files; the zero is called 10."""
    root.mkdir(parents=True)
    for split, n in (("train", 200), ("test", 8)):
        digits = {"X": pixels(0, 32, 32, 3, n), "y": pixels(1, n, 1, high=10) + 1}
        savemat(root / f"{split}_32x32.mat", digits)


def classes(root: Path) -> None:
    """AFHQ: train and val, a folder for each kind."""
    for split in ("train", "val"):
        for k, kind in enumerate(("cat", "dog", "wild")):
            photos(root / split / kind, numbered(".jpg"), 10 * k)


def ffhq(root: Path, count: int = 210) -> None:
    """A thousand faces a folder; more than three, as the last 200 are for measuring."""
    for i in range(count):
        save(pixels(i, 16, 16, 3), root / "images1024x1024" / "00000" / f"{i:05d}.png")


def camvid(root: Path) -> None:
    """Frames and label maps of drives by day and (0001TP) at dusk."""
    for split, day in (("train", "0006R0"), ("val", "0016E5"), ("test", "Seq05VD")):
        for drive in (day, "0001TP"):
            for i in range(COUNT):
                name = f"{drive}_f{i:05d}.png"
                save(pixels(i, SIDE, SIDE * 4 // 3, 3), root / split / name)
                save(pixels(i, SIDE, SIDE * 4 // 3, high=12), root / f"{split}annot" / name)


def single_images(root: Path) -> None:
    """The small samples, as far as the single-image translation reads them."""
    for domain in "AB":
        folder = root / "single_image_monet_etretat" / f"train{domain}"
        save(pixels(ord(domain), 300, 400, 3), folder / f"{domain}.jpg")


def natural_scenes(root: Path, count: int = 24) -> None:
    """Photographs with tags in a table, as the scenes come; more than three, for some are kept."""
    photos(root / "train", [f"{i}.jpg" for i in range(1, count + 1)])
    rows = [f"{i},{i % 2},0,1,{(i + 1) % 2},0" for i in range(1, count + 1)]
    (root / "train.csv").write_text("\n".join(["image,desert,mountain,sea,sunset,trees", *rows]))


def encoded(seed: int) -> bytes:
    """A WebP file of random pixels, wider than high as LSUN's."""
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, SIDE, SIDE * 4 // 3, 3)).save(stream, "WEBP")
    return stream.getvalue()


def lmdb_file(values: list[bytes], page: int = 4096) -> bytes:
    """An LMDB file: two meta pages, one leaf with all keys, each value on pages of its own."""
    nodes, apart, number = [], b"", 3
    for i, value in enumerate(values):
        count = -(-(16 + len(value)) // page)
        apart += (struct.pack("<QHHI", number, 0, 4, count) + value).ljust(count * page, b"\0")
        low, high, key = len(value) & 0xFFFF, len(value) >> 16, f"{i:040d}".encode()
        nodes.append(struct.pack("<HHHH", low, high, 1, len(key)) + key + struct.pack("<Q", number))
        number += count
    ends = [page - sum(map(len, nodes[:i])) for i in range(len(nodes) + 1)]
    head = struct.pack("<QHHHH", 2, 0, 2, 16 + 2 * len(nodes), ends[-1])
    leaf = (head + struct.pack(f"<{len(nodes)}H", *ends[1:])).ljust(ends[-1], b"\0")
    leaf += b"".join(reversed(nodes))
    free = struct.pack("<IHHQQQQQ", page, 8, 0, 0, 0, 0, 0, 2**64 - 1)
    main = struct.pack("<IHHQQQQQ", 0, 0, 1, 0, 1, len(apart) // page, len(nodes), 2)
    metas = [
        struct.pack("<QHHI", i, 0, 8, 0) + struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 2**20)
        + free + main + struct.pack("<QQ", number - 1, i)
        for i in range(2)
    ]  # fmt: skip
    return b"".join(meta.ljust(page, b"\0") for meta in metas) + leaf + apart


def lsun(root: Path, count: int = 8) -> None:
    """Two databases; more than three photographs, as the first of the training set are held out."""
    for split, n in (("train", count), ("val", COUNT)):
        path = root / f"{split}_lmdb" / "data.mdb"
        path.parent.mkdir(parents=True)
        path.write_bytes(lmdb_file([encoded(i) for i in range(n)]))


def png16(numbers: np.ndarray) -> bytes:
    """A PNG with 16-bit RGB, the numbers (H, W) in its first channel."""
    height, width = numbers.shape
    wide = np.zeros((height, width, 3), ">u2")
    wide[..., 0] = numbers
    wide[..., 1] = 777  # the instance, which nobody asked for
    rows = b"".join(b"\0" + row.tobytes() for row in wide)

    def chunk(kind: bytes, body: bytes) -> bytes:
        length, check = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(kind + body))
        return length + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def synthia(root: Path) -> None:
    """Three drives, pictures and maps of 16 bits a channel."""
    for drive in ("04-FALL", "04-WINTER", "05-WINTER"):
        folder = root / f"SYNTHIA-SEQS-{drive}"
        for i, name in enumerate(numbered(".png")):
            save(pixels(i, SIDE, SIDE, 3), folder / "RGB/Stereo_Left/Omni_F" / name)
            path = folder / "GT/LABELS/Stereo_Left/Omni_F" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png16(pixels(i, SIDE, SIDE, high=13)))


def imagenet(root: Path) -> None:
    """A folder for each class."""
    for split in ("train", "val"):
        for k, kind in enumerate(("n01440764", "n01443537")):
            photos(root / split / kind, numbered(".JPEG"), 10 * k)


def stl10(root: Path) -> None:
    """Binary files of 96 pixels a side, columns first, and their labels."""
    root.mkdir(parents=True)
    for split in ("train", "test", "unlabeled"):
        (root / f"{split}_X.bin").write_bytes(pixels(0, COUNT, 3, 96, 96).tobytes())
    for split in ("train", "test"):
        (root / f"{split}_y.bin").write_bytes(pixels(1, COUNT, high=10).tobytes())


def paris_streetview(root: Path) -> None:
    """Two folders of the paper's authors."""
    photos(root / "paris_train_original", numbered(".JPG"))
    photos(root / "paris_eval_gt", numbered(".png"), 10)


def solid(path: Path, seed: int) -> None:
    """A random tetrahedron around the origin, .off (with ModelNet's missing line break) or .obj."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    corners = corners + np.random.default_rng(seed).uniform(-0.3, 0.3, (4, 3))
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    if path.suffix == ".off":
        rows = ["OFF4 4 0", *("{} {} {}".format(*v) for v in corners)]
        rows += ["3 {} {} {}".format(*f) for f in faces]
    else:
        rows = ["v {} {} {}".format(*v) for v in corners]
        rows += ["f {} {} {}".format(*f) for f in faces + 1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def modelnet(root: Path) -> None:
    """CLASS/{train,test}/CLASS_0001.off."""
    for kind in ("bathtub", "night_stand"):
        for split, first in (("train", 0), ("test", COUNT)):
            for i in range(first, first + COUNT):
                solid(root / kind / split / f"{kind}_{i + 1:04d}.off", i)


def shapenet(root: Path) -> None:
    """CATEGORY/MODEL/model.obj."""
    for k, category in enumerate(("02691156", "02747177")):
        for i in range(COUNT):
            solid(root / category / f"{10 * k + i:032x}" / "model.obj", 10 * k + i)


def local_meshes(root: Path) -> None:
    """Two folders of files, and one of folders."""
    for i in range(COUNT):
        solid(root / "common_3d_test_models" / f"solid{i}.obj", i)
        solid(root / "libigl_tutorial_data" / f"shape{i}.off", 10 + i)
    solid(root / "modelnet_samples" / "bed" / "bed_0001.off", 20)


WRITERS = {
    **{name: lambda root, name=name: pairs(root, PAIRS[name]) for name in PAIRS},
    **dict.fromkeys(DOMAINS, domains),
    "cityscapes": cityscapes,
    "coco_stuff": lambda root: coco_like(root, instances=True),
    "landscapes": lambda root: coco_like(root, instances=False),
    "ade20k": ade20k,
    "gta5": gta5,
    "bdd100k": bdd100k,
    "mnist": mnist,
    "camvid": camvid,
    "usps": usps,
    "svhn": svhn,
    "afhq": classes,
    "ffhq": ffhq,
    "small_samples": single_images,
    "natural_scenes": natural_scenes,
    "lsun_bedroom": lsun,
    "lsun_church": lsun,
    "synthia": synthia,
    "imagenet": imagenet,
    "stl10": stl10,
    "celeba_hq": lambda root: photos(root, numbered(".jpg")),
    "paris_streetview": paris_streetview,
    "modelnet10": modelnet,
    "modelnet40": modelnet,
    "shapenet": shapenet,
    "meshes": local_meshes,
}


def plant(root: Path, name: str) -> None:
    """Write the data set ``name`` under the data folder ``root``, with its record."""
    WRITERS[name](root / name)
    checksum, files, size = tree_checksum(root / name)
    record = {"name": name, "checksum": checksum, "files": files, "bytes": size}
    (root / name / RECORD).write_text(json.dumps(record))
