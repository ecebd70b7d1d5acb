"""The loaders: digits, MNIST, USPS, folders of images and pairs; real data where it is at hand."""

import bz2
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minilib import data, images
from minilib.catalogue import find
from minilib.data import DataError, DataMissing
from minilib.install import FROM, holds, install
from minilib.paths import ROOT

COPIES = Path(os.environ.get(FROM, ROOT.parent / "shared" / "data"))


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_mnist(root) -> Path:
    """Six random images in MNIST's own layout."""
    folder = root / "mnist"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28))
    for stem in ("train", "t10k"):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(idx(pixels))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(6)))
    return folder


@pytest.fixture
def pairs(root) -> Path:
    """Three pairs of 32x32 images: left red gets stronger to the right, right half is blue."""
    folder = root / "toy" / "train"
    folder.mkdir(parents=True)
    for n in (1, 2, 10):
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32, 0] = np.arange(32) * 8
        pixels[:, 32:, 2] = 20 * n
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Real data sets, unpacked once from local copies into a temporary data folder."""
    folder = tmp_path_factory.mktemp("real")

    def get(name: str) -> Path:
        entry = find(name)
        if not COPIES.is_dir() or not holds(entry, COPIES):
            pytest.skip(f"no copy of {name} at hand (${FROM} names a folder with one)")
        return install(entry, folder, COPIES)

    return get


def test_importing_the_loaders_loads_no_data_and_no_heavy_library():
    code = "import sys, minilib.data, minilib.images; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_digits_are_split_by_class_and_complete():
    train, test = data.digits("train"), data.digits("test")
    assert train.x.shape == (1442, 1, 8, 8)
    assert test.x.shape == (355, 1, 8, 8)
    for part in (train, test):
        assert part.x.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert (part.x.min(), part.x.max()) == (0, 1)
        assert torch.equal(part.x * 16, (part.x * 16).round())
    share = test.labels.bincount() / (test.labels.bincount() + train.labels.bincount())
    assert share.shape == (10,)
    assert ((share - 0.2).abs() < 0.006).all()
    rows = torch.cat([train.x, test.x]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)  # so no image is on both sides


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    both = [data.digits(split) for split in data.SPLITS]
    ours = torch.cat([part.x.flatten(1) * 16 for part in both]).sum(0)
    assert torch.equal(ours, torch.from_numpy(bundle.data).sum(0).float())


def test_unknown_split():
    with pytest.raises(DataError, match="unknown split 'tran': did you mean 'train'"):
        data.digits("tran")


def test_missing_data_names_the_command(root):
    for name, load in (("mnist", data.mnist), ("usps", data.usps)):
        with pytest.raises(DataMissing) as caught:
            load("train")
        assert str(caught.value).endswith(f"python data_scripts/{name}.py")
    with pytest.raises(DataMissing, match=r"python data_scripts/facades\.py$"):
        images.paired_folder("facades", "train", size=(8, 8), condition="right")
    with pytest.raises(DataMissing, match=r"python data_scripts/mnist\.py$"):
        data.checksum("mnist")


def test_mnist_reads_pixels_and_labels(small_mnist):
    x, labels = data.mnist("train")
    assert x.shape == (6, 1, 28, 28)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28))
    assert torch.equal((x * 255).round().int()[:, 0], torch.from_numpy(pixels).int())


def test_labels_and_images_must_agree(small_mnist):
    (small_mnist / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(5)))
    with pytest.raises(DataError, match="5 labels for images of shape"):
        data.mnist("train")
    (small_mnist / "t10k-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((6, 28, 29))))
    with pytest.raises(DataError, match="28, 29"):
        data.mnist("test")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda raw: raw[:-30], "damaged or truncated"),
        (lambda raw: b"", "not an idx file"),
        (lambda raw: b"text", "damaged or truncated"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-7]), "4697 values, its header says 4704"),
        (lambda raw: gzip.compress(b"\0\0\x0d\x03" + bytes(20)), "not an idx file"),
        (lambda raw: gzip.compress(b"\0\0\x08\x03\0\0"), "not an idx file"),
    ],
)
def test_damaged_files_are_named_in_one_line(damage, expected, small_mnist):
    path = small_mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=expected) as caught:
        data.mnist("train")
    assert str(caught.value).startswith("mnist/train-images-idx3-ubyte.gz")
    assert "\n" not in str(caught.value)


def test_a_single_missing_file(small_mnist):
    (small_mnist / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataMissing, match=r"missing; run: python data_scripts/mnist\.py --force"):
        data.mnist("train")


def test_usps_must_be_libsvm_digits(root):
    (root / "usps").mkdir()
    for text in (
        "1 1:0.5 2:0.5\n",
        "label\n",
        "3 " + " ".join(f"{i}:0" for i in range(256)) + "\n",
    ):
        (root / "usps/usps.bz2").write_bytes(bz2.compress(text.encode()))
        with pytest.raises(DataError, match="not the libsvm digits"):
            data.usps("train")


def test_checksum(small_mnist):
    assert data.checksum("digits") == data.checksum("digits")
    assert len(data.checksum("digits")) == 64
    with pytest.raises(DataError, match=r"SOURCE\.json is missing or damaged"):
        data.checksum("mnist")


def test_pairs_are_read_sorted_and_split(pairs):
    both = images.paired_folder("toy", "train", size=(32, 32), condition="right")
    assert [path.stem for path in both.paths] == ["1", "2", "10"]
    x, y = both.pairs(torch.tensor([2, 0]))
    assert x.shape == y.shape == (2, 3, 32, 32)
    assert x.dtype == torch.float32
    assert torch.allclose(x[:, 2, 0, 0], torch.tensor([200.0, 20.0]) / 127.5 - 1)
    assert (y[:, 0, 0, 0] == -1).all()
    swapped = images.paired_folder("toy", "train", size=(32, 32), condition="left")
    assert torch.equal(swapped.pairs(torch.tensor([2, 0]))[0], y)
    assert len(images.paired_folder("toy", "train", size=(8, 8), condition="left", limit=2)) == 2


def test_condition_must_be_a_side(pairs):
    with pytest.raises(DataError, match="unknown side of the condition 'rigth': did you mean"):
        images.paired_folder("toy", "train", size=(8, 8), condition="rigth")


def test_images_are_kept_and_the_cache_has_a_limit(pairs):
    paths = images.list_images("toy", "train")
    kept = images.ImageSet(paths, (16, 32))
    first = kept[0]
    assert first.dtype == torch.uint8
    assert first.shape == (3, 16, 32)
    assert kept[0] is first
    tight = images.ImageSet(paths, (16, 32), cache_bytes=2 * first.numel())
    seen = [tight[n] for n in range(3)]
    assert [tight[n] is seen[n] for n in range(3)] == [True, True, False]
    assert torch.equal(tight[2], seen[2])


def test_augmentation_is_a_pure_function_of_seed_step_and_image(pairs):
    both = images.paired_folder("toy", "train", size=(32, 32), condition="right")
    options = {"crop": 16, "flip": True, "seed": 3}
    indices = torch.tensor([0, 1, 2])
    first = both.batch(indices, step=7, **options)
    both.batch(indices, step=8, **options)
    assert torch.equal(both.batch(indices, step=7, **options), first)
    assert torch.equal(both.batch(indices[1:], step=7, **options), first[1:])
    batches = {both.batch(indices, step=n, **options).numpy().tobytes() for n in range(20)}
    assert len(batches) == 20
    assert not torch.equal(both.batch(indices, step=7, crop=16, flip=True, seed=4), first)


def test_pairs_are_cropped_and_flipped_together(root):
    folder = root / "same" / "train"
    folder.mkdir(parents=True)
    half = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(np.concatenate([half, half], axis=1)).save(folder / "1.png")
    both = images.paired_folder("same", "train", size=(24, 24), condition="left")
    for step in range(8):
        x, y = both.pairs(torch.tensor([0]), crop=16, flip=True, step=step)
        assert torch.equal(x, y)
        assert x.shape == (1, 3, 16, 16)


def test_crops_and_flips_cover_what_they_should():
    image = torch.arange(5 * 6).reshape(1, 5, 6)
    seen, flips = set(), 0
    for n in range(400):
        out = images.augment(image, 4, True, images.generator_for(n))
        flips += bool(out[0, 0, 0] > out[0, 0, 1])
        seen.add(int(out.min()))
    assert seen == {0, 1, 2, 6, 7, 8}  # the top left corners of all six crops
    assert 160 <= flips <= 240
    assert torch.equal(images.augment(image, 0, False, images.generator_for(1)), image)


def test_flip_does_not_depend_on_the_crop():
    image = torch.arange(36).reshape(1, 6, 6)
    for n in range(20):
        whole = images.augment(image, 0, True, images.generator_for(n))
        crop = images.augment(image, 4, True, images.generator_for(n))
        assert (whole[0, 0, 0] > whole[0, 0, 1]) == (crop[0, 0, 0] > crop[0, 0, 1])


def test_bad_images_give_one_line(pairs):
    Image.new("RGB", (50, 32)).save(pairs / "1.png")
    broken = (pairs / "2.png").read_bytes()
    (pairs / "2.png").write_bytes(broken[: len(broken) // 2])
    (pairs / "10.png").write_bytes(b"no image")
    both = images.paired_folder("toy", "train", size=(32, 32), condition="right")
    expected = ["is 50x32, but a pair is twice as wide as high"] + ["damaged or not an image"] * 2
    for n, words in enumerate(expected):
        with pytest.raises(DataError, match=words) as caught:
            both.batch(torch.tensor([n]))
        assert str(caught.value).startswith("toy/train/")
        assert "\n" not in str(caught.value)
        assert str(pairs) not in str(caught.value)
    with pytest.raises(DataError, match="a crop of 7 does not fit into an image of 6x6"):
        images.augment(torch.zeros(1, 6, 6), 7, False, images.generator_for(0))


def test_unknown_split_or_pattern(pairs):
    with pytest.raises(DataMissing, match="unknown split of 'toy' 'tran': did you mean 'train'"):
        images.image_folder("toy", "tran", size=(8, 8))
    with pytest.raises(DataMissing, match=r"no images '\*.webp' in toy/train"):
        images.image_folder("toy", "train", size=(8, 8), pattern="*.webp")


@pytest.mark.parametrize(
    ("name", "sizes", "width", "first"),
    [
        ("mnist", (60000, 10000), 28, [5, 0, 4, 1, 9, 2, 1, 3]),
        ("usps", (7291, 2007), 16, [6, 5, 4, 7, 3, 6, 3, 1]),
    ],
)
def test_real_digits(name, sizes, width, first, real, monkeypatch):
    folder = real(name)
    monkeypatch.setenv("MINILIB_DATA", str(folder.parent))
    load = {"mnist": data.mnist, "usps": data.usps}[name]
    for split, size in zip(data.SPLITS, sizes, strict=True):
        x, labels = load(split)
        assert x.shape == (size, 1, width, width)
        assert (x.min(), x.max()) == (0, 1)
        assert labels.unique().tolist() == list(range(10))
        if split == "train":
            assert labels[:8].tolist() == first
    assert len(data.checksum(name)) == 64


def test_real_facades(real, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(real("facades").parent))
    both = images.paired_folder("facades", "train", size=(64, 64), condition="right")
    assert len(both) == 400
    x, y = both.pairs(torch.arange(16))
    flat = [(half[:, :, 1:] == half[:, :, :-1]).float().mean() for half in (x, y)]
    assert flat[0] > 2 * flat[1]  # label maps have flat areas, photos do not


def test_real_small_samples_decode(real, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(real("small_samples").parent))
    some = images.image_folder(
        "small_samples", "afhq_samples", size=(32, 32), pattern="**/*", limit=6
    )
    batch = some.batch(torch.arange(6))
    assert batch.shape == (6, 3, 32, 32)
    assert batch.std() > 0.3
