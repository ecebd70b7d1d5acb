"""Scores of the papers' tables for folders of images.

    python -m minilib.evaluators IMAGES LABELS --weights runs/drn-d-22/weights.pt --size 128x256
    python -m minilib.evaluators IMAGES --against REAL_IMAGES

The first reads label maps back with a segmentation network, the second compares two sets of images
through Inception's features (FID, KID); both can be asked for at once.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from minilib import evaluators, images, labelled, sample_metrics, tables
from minilib.config import ConfigError, nearest
from minilib.data import DataError, DataMissing
from minilib.evaluators import EVALUATORS, UNKNOWN, Evaluator
from minilib.parameters import pick_device
from minilib.released import ReleasedError

# Cityscapes' label numbers of its 19 classes, in the order in which networks number them
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
FID_DIFFERENCE = (
    "Inception's weights are those of the tables, resized as TensorFlow does (torch-fidelity); "
    "the thesis's FID resizes as PyTorch does (pytorch-fid)"
)
Size = tuple[int, int]
Device = torch.device | str


def to_train_ids(labels: Tensor) -> Tensor:
    """Cityscapes' label numbers (0 to 33) as classes 0 to 18; all others become 255."""
    table = torch.full((256,), UNKNOWN)
    table[torch.tensor(TRAIN_IDS)] = torch.arange(len(TRAIN_IDS))
    return table.to(labels.device)[labels.clamp(0, 255)]


LABEL_IDS: Mapping[str, Callable[[Tensor], Tensor]] = {  # how label maps number classes
    "classes": lambda labels: labels,
    "cityscapes": to_train_ids,
    "ade20k": lambda labels: (labels - 1).masked_fill(labels == 0, UNKNOWN),
}


def pixels(text: str) -> Size:
    """ "128x256" as (128, 256).

    Raises:
        ConfigError: anything else.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size '{text}': wanted HEIGHTxWIDTH in pixels, as in 128x256")
    return int(height), int(width)


def listed(folder: Path, ending: str = "") -> dict[str, Path]:
    """Images of a folder, at any depth: {name without its ending: file}, in order of the names.

    Raises:
        DataMissing: no such folder, or nothing in it.
        DataError: a name occurs twice.
    """
    if not folder.is_dir():
        raise DataMissing(f"no folder '{folder}'")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob(f"*{ending}")):
        if path.is_file() and path.suffix.lower() in images.SUFFIXES:
            key = path.name.removesuffix(ending or path.suffix)
            if key in files:
                raise DataError(f"'{key}' occurs twice in '{folder}'")
            files[key] = path
    if not files:
        raise DataMissing(f"no images '*{ending}' in '{folder}'")
    return files


def pairs(
    image_folder: Path, label_folder: Path, endings: tuple[str, str] = ("", "")
) -> list[tuple[Path, Path]]:
    """Images with their label maps: files whose names are equal but for their endings.

    Raises:
        DataError: an image or a label map without its partner.
        DataMissing: no such folder, or nothing in it.
    """
    pictures, maps = listed(image_folder, endings[0]), listed(label_folder, endings[1])
    for what, found, others in (("label map", pictures, maps), ("image", maps, pictures)):
        alone = [key for key in found if key not in others]
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            hint = "; --endings says how names end" if len(alone) == len(found) else ""
            raise DataError(f"no {what} for '{found[alone[0]].name}'{more}{hint}")
    return [(path, maps[key]) for key, path in pictures.items()]


def size_of(path: Path) -> Size:
    """(height, width) of an image file.

    Raises:
        DataError: not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError:
        raise DataError(f"{path.name}: damaged or not an image") from None


def batches(
    files: Sequence[tuple[Path, Path]], size: Size | None, label_ids: str, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, H, W) in [-1, 1] and classes (B, H, W).

    With ``size`` images are resized bicubically and label maps to the nearest pixel, as the thesis
    does for CUT's table; without, one image comes at a time, at its own size.

    Raises:
        DataError: an image and its label map differ in size, or a damaged file.
    """
    step = batch if size else 1
    for start in range(0, len(files), step):
        shown, wanted = [], []
        for picture, labels in files[start : start + step]:
            own = size or size_of(picture)
            if size is None and own != size_of(labels):
                (h, w), (height, width) = own, size_of(labels)
                raise DataError(
                    f"{picture.name} is {h}x{w} and {labels.name} {height}x{width} (height x "
                    "width): --size resizes both"
                )
            shown.append(images.read_image(picture, own))
            wanted.append(labelled.read_numbers(labels, own)[0].long())
        yield images.to_float(torch.stack(shown)), LABEL_IDS[label_ids](torch.stack(wanted))


def score_folder(
    judge: Evaluator, image_folder: Path, label_folder: Path, *, size: Size | None = None,
    endings: tuple[str, str] = ("", ""), label_ids: str = "classes", batch: int = 8,
) -> dict[str, float]:  # fmt: skip
    """Whether label maps can be read back from images; see ``evaluators.table_scores``.

    Args:
        judge: from ``evaluators.load``.
        image_folder, label_folder: searched to any depth; partners have equal names.
        size: (height, width) to which both are resized.
        endings: how the names of images and label maps end, if not by their suffix only.
        label_ids: how label maps number classes, one of ``LABEL_IDS``.
        batch: images at a time, where ``size`` makes them equal.

    Raises:
        ConfigError: an unknown numbering, labels that are no class, a size that stands upright.
        DataError, DataMissing: files that are not there or do not belong together.
    """
    if label_ids not in LABEL_IDS:
        raise ConfigError(nearest(label_ids, LABEL_IDS, "numbering of labels"))
    files = pairs(image_folder, label_folder, endings)
    height, width = size_of(files[0][1])
    if size and (height - width) * (size[0] - size[1]) < 0:
        raise ConfigError(
            f"--size {size[0]}x{size[1]} is height x width, and label maps are "
            f"{height}x{width}: did you mean {size[1]}x{size[0]}?"
        )
    counts = evaluators.counted(judge, batches(files, size, label_ids, batch))
    return evaluators.table_scores(counts)


def inception(device: Device = "cpu") -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Inception's last pooled features: (B, 3, H, W) uint8 -> one tensor (B, 2048) in a tuple.

    Raises:
        ConfigError: its weights are not here and cannot be had.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as library  # slow to import

    try:
        net: torch.nn.Module = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    except (OSError, RuntimeError) as error:  # no network; another file under that name
        reason, file = " ".join(str(error).split())[:120], Path(library.URL_INCEPTION_V3).name
        raise ConfigError(
            f"no FID and no KID: Inception's weights cannot be had ({reason}); put {file} "
            f"into hub/checkpoints of the folder of weights (${evaluators.VARIABLE})"
        ) from None
    return net.to(device)


def write_images(y: Tensor, folder: Path, names: Sequence[str]) -> None:
    """Images (B, 3, H, W) in [-1, 1] as ``folder/NAME.png``, to be scored.

    Raises:
        ConfigError: not as many names as images.
    """
    if len(names) != len(y):
        raise ConfigError(f"{len(y)} images want as many names, not {len(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    whole = y.detach().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    for name, image in zip(names, whole, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}.png")


@torch.no_grad()
def features(
    net: Callable[[Tensor], tuple[Tensor, ...]],
    folder: Path,
    device: Device = "cpu",
    batch: int = 16,
) -> Tensor:
    """Features of every image of a folder, each at its own size: (N, F).

    Raises:
        DataError, DataMissing: no such folder, nothing in it, a damaged file.
    """
    rows = []
    for _, some in itertools.groupby(listed(folder).values(), size_of):
        equal = list(some)  # neighbours of one size
        for start in range(0, len(equal), batch):
            files = equal[start : start + batch]
            shown = torch.stack([images.read_image(path, size_of(path)) for path in files])
            rows.append(net(shown.to(device))[0].cpu())
    return torch.cat(rows)


def distances(
    net: Callable[[Tensor], tuple[Tensor, ...]], fake: Path, real: Path, device: Device = "cpu"
) -> dict[str, float]:
    """``fid`` and ``kid`` of two folders of images; see ``sample_metrics``.

    Raises:
        ConfigError: fewer than two images.
        DataError, DataMissing: no such folder, nothing in it, a damaged file.
    """
    both = features(net, fake, device), features(net, real, device)
    try:
        fid, kid = sample_metrics.frechet_distance(*both), sample_metrics.kernel_distance(*both)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return {"fid": fid, "kid": kid}


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    top = argparse.ArgumentParser(
        prog="python -m minilib.evaluators", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = top.add_argument
    add("images", type=Path, help="folder of generated images")
    add("labels", type=Path, nargs="?", help="folder of the label maps they were made from")
    add("--against", type=Path, metavar="REAL", help="folder of real images: FID and KID")
    add("--evaluator", default="drn-d-22", help=f"one of {', '.join(EVALUATORS)}")
    add("--weights", help="its weights; a bare name is looked for in the folder of weights")
    add("--weights-folder", type=Path, help=f"default: ${evaluators.VARIABLE}, or torch's cache")
    add("--classes", type=int, default=len(TRAIN_IDS))
    add("--size", metavar="HEIGHTxWIDTH", help="resize images and label maps")
    add("--label-ids", default="classes", help=f"one of {', '.join(LABEL_IDS)}")
    add("--endings", nargs=2, default=("", ""), metavar=("IMAGES", "LABELS"))
    add("--batch", type=int, default=8)
    add("--device", default="auto", help="auto, cpu or cuda")
    return top


def segmentation(options: argparse.Namespace, device: torch.device) -> tuple[dict[str, float], str]:
    """Scores of the labels, and what differs from the tables'."""
    if options.evaluator in EVALUATORS and not options.weights:
        raise ConfigError(
            f"no --weights for {options.evaluator}: the authors' file, or train with python -m "
            "minilib.evaluator_training"
        )
    judge = evaluators.load(options.evaluator, options.classes, options.weights)
    found = score_folder(
        judge.to(device), options.images, options.labels, endings=tuple(options.endings),
        size=pixels(options.size) if options.size else None, label_ids=options.label_ids,
        batch=max(1, options.batch),
    )  # fmt: skip
    return found, f"{options.evaluator}: {EVALUATORS[options.evaluator].difference}"


def report(options: argparse.Namespace) -> int:
    """Print what was asked for; status 2 if nothing of it could be measured."""
    if not options.labels and not options.against:
        raise ConfigError("nothing to measure: give a folder of label maps, or --against REAL")
    evaluators.weights_folder(options.weights_folder)
    device = pick_device(options.device)
    found: dict[str, float] = {}
    notes = []
    if options.labels:
        measured, note = segmentation(options, device)
        found |= measured
        notes.append(note)
    if options.against:
        listed(options.images), listed(options.against)  # before anything is downloaded
        try:
            net = inception(device)
        except ConfigError as error:
            print(f"minilib: {error}", file=sys.stderr)
        else:
            found |= distances(net, options.images, options.against, device)
            notes.append(f"fid: {FID_DIFFERENCE}")
    if not found:
        return 2
    print(tables.Table(["measure", "value"], [[k, f"{v:.4f}"] for k, v in found.items()]))
    print("\n".join(f"difference  {note}" for note in notes))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Measure; what cannot be done is one line and status 2."""
    try:
        return report(parser().parse_args(arguments))
    except (ConfigError, DataError, DataMissing, ReleasedError) as error:
        print(f"minilib: {error}", file=sys.stderr)
        return 2
