"""Segmentation networks of the papers' tables, loaded or trained, and the scores they give.

    judge = load("drn-d-22", 19, "runs/drn-d-22/weights.pt")
    scores(judge, images, labels)

``python -m minilib.evaluators IMAGES LABELS`` scores folders (``minilib.score_folders``);
``minilib.evaluator_training`` trains, as the thesis trained DRN-D-22.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilib import released
from minilib.config import ConfigError, nearest
from minilib.drn import drn_d
from minilib.released_names import Layout, same
from minilib.segmentation import IGNORED, FCN8s, confusion, drn26, segmentation_scores

UNKNOWN = 255  # label of pixels that count nowhere, in label maps on disk
VARIABLE = "MINILIB_WEIGHTS"  # environment variable: the folder of weights
AUXILIARY = "aux_classifier."  # a head of torchvision's DeepLab that only training uses
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # mean, deviation: leaves pictures in [-1, 1]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CITYSCAPES = (  # from the code of Yu et al. 2017
    (0.29010095, 0.32808145, 0.28696394), (0.18295405, 0.18656561, 0.18447509),
)  # fmt: skip


def deeplab(classes: int) -> nn.Module:
    """DeepLabV3 on ResNet-101 from torchvision, freshly initialised.

    The table that names DeepLab means DeepLabV2 (Chen et al. 2018: four dilated heads added up,
    trained on COCO-Stuff), which torchvision does not have; V3 has one more module over the same
    backbone, so scores of the two are not interchangeable.
    """
    from torchvision.models.segmentation import deeplabv3_resnet101  # slow to import

    net: nn.Module = deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=classes, aux_loss=False
    )
    return net


def upernet(classes: int) -> nn.Module:
    """UperNet on ResNet-101 from ``segmentation_models_pytorch``, freshly initialised.

    That package is no dependency of this book.  The released UperNet101 (Xiao et al. 2018) begins
    with three 3 x 3 convolutions and names its tensors in another way, so that its weights do not
    fit this one.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        library = importlib.import_module("segmentation_models_pytorch")
    except ImportError:
        raise ConfigError(
            "upernet wants the package segmentation-models-pytorch, which is not installed: "
            "without it there is no mIoU on ADE20K; all other evaluators work"
        ) from None
    net: nn.Module = library.UPerNet("resnet101", encoder_weights=None, classes=classes)
    return net


@dataclass(frozen=True, slots=True)
class Kind:
    """One evaluator.

    Attributes:
        build: number of classes -> a fresh network.
        normal: mean and deviation of pictures in [0, 1], subtracted and divided out.
        tables: what the source papers measure with it.
        difference: what differs from theirs; shown beside every score.
        multiple: height and width are filled up to multiples of this.
    """

    build: Callable[[int], nn.Module]
    normal: tuple[tuple[float, ...], tuple[float, ...]]
    tables: str
    difference: str
    multiple: int = 1


NO_TABLE = "no table"
EVALUATORS = {
    "fcn8s": Kind(
        FCN8s, HALF, "CycleGAN's FCN scores, Tables 3.2 and 3.4; CyCADA, Tables 3.7 and 3.8 A",
        "CycleGAN's tables use the Caffe weights that came with pix2pix, which do not fit; "
        "CyCADA trains its own, as its chapter does",
    ),
    "drn-c-26": Kind(
        drn26, HALF, "CyCADA, Table 3.8 B", "trained in CyCADA's chapter; no released weights fit"
    ),
    "drn-d-22": Kind(
        lambda classes: drn_d(22, classes), CITYSCAPES, "CUT, Table 3.6, Cityscapes at 256 x 128",
        "the thesis's weights are not released: train it, or take the authors' weights for whole "
        "pictures; 'mAP' is what the DRN code calls mean IoU",
    ),
    "drn-d-38": Kind(lambda classes: drn_d(38, classes), CITYSCAPES, NO_TABLE, "none"),
    "drn-d-54": Kind(lambda classes: drn_d(54, classes), CITYSCAPES, NO_TABLE, "none"),
    "drn-d-105": Kind(
        lambda classes: drn_d(105, classes), CITYSCAPES,
        "SPADE, Tables 2.1 and 2.3 to 2.5, Cityscapes",
        "none with the authors' weights; the thesis does not say to which size pictures were "
        "enlarged, and the weights expect 2048 x 1024",
    ),
    "deeplab": Kind(
        deeplab, IMAGENET, "SPADE, Tables 2.1 and 2.3 to 2.5, COCO-Stuff",
        "DeepLabV3 of torchvision, where the tables use DeepLabV2; its weights are other ones",
    ),
    "upernet": Kind(
        upernet, IMAGENET, "SPADE, Tables 2.1 and 2.3 to 2.5, ADE20K",
        "UperNet on a plain ResNet-101 (segmentation-models-pytorch); the released weights of "
        "UperNet101 have another first level and do not fit", 32,
    ),
}  # fmt: skip


class Evaluator(nn.Module):
    """A segmentation network for pictures in [-1, 1]: (B, 3, H, W) -> scores (B, L, H, W)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, network: nn.Module, classes: int) -> None:
        """``name``: one of ``EVALUATORS``; ``classes``: L."""
        super().__init__()
        self.name, self.network, self.classes = name, network, classes
        mean, deviation = (torch.tensor(n)[:, None, None] for n in EVALUATORS[name].normal)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """See the class."""
        (height, width), side = y.shape[-2:], EVALUATORS[self.name].multiple
        y = ((y + 1) / 2 - self.mean) / self.deviation
        if height % side or width % side:
            y = F.pad(y, (0, -width % side, 0, -height % side), mode="replicate")
        found = self.network(y)
        found = found["out"] if isinstance(found, dict) else found  # torchvision's way
        scores: Tensor = found[..., :height, :width]
        return scores


def load(name: str, classes: int, weights: str | Path | None = None) -> Evaluator:
    """An evaluator, with weights where a file is named and freshly initialised otherwise.

    Args:
        name: one of ``EVALUATORS``.
        classes: labels it tells apart; 19 for Cityscapes.
        weights: a state dict, as the authors release it or as training here leaves it; a name
            that is no file is looked for in ``weights_folder()``.

    Raises:
        ConfigError: no such evaluator or too few classes; a package or a file is missing.
        ReleasedError: a checkpoint that does not fit; the line lists what is missing or left over.
    """
    if name not in EVALUATORS:
        raise ConfigError(nearest(name, EVALUATORS, "evaluator"))
    if classes < 2:
        raise ConfigError(f"an evaluator tells at least 2 classes apart, not {classes}")
    network = EVALUATORS[name].build(classes)
    if weights is not None:
        tensors = released.tensors(find_weights(weights))
        title = f"{name} with {classes} classes"
        fill(network, {k: t for k, t in tensors.items() if not k.startswith(AUXILIARY)}, title)
    return Evaluator(name, network, classes).eval()


def fill(
    network: nn.Module, tensors: dict[str, Tensor], title: str, layout: Layout | None = None
) -> None:
    """Load tensors by name; a network that they do not fit exactly stays as it was.

    Raises:
        ReleasedError: one line with what is missing, left over, or of another shape.
    """
    found = released.fit(network, tensors, layout or Layout(title, same))
    kinds = {"missing": found.missing, "left over": found.left_over, "other shapes": found.shapes}
    if found.misfits:
        lists = [
            f"{kind} ({len(names)}): {', '.join(names[: released.SHOWN])}"
            + (f" and {len(names) - released.SHOWN} more" if len(names) > released.SHOWN else "")
            for kind, names in kinds.items() if names
        ]  # fmt: skip
        line = f"the weights do not fit {title}; {'; '.join(lists)}"
        raise released.ReleasedError(line, found.missing, found.left_over, found.shapes)
    network.load_state_dict(found.found)


def weights_folder(folder: str | Path | None = None) -> Path:
    """The folder of weights: the argument, ``$MINILIB_WEIGHTS``, or torch's cache.

    Where one of the first two is given, it is to torch what ``$TORCH_HOME`` is: backbones (of FID,
    LPIPS, VGG-19) are from now on found in its ``hub/checkpoints`` and put there.

    Raises:
        ConfigError: the folder does not exist.
    """
    chosen = folder or os.environ.get(VARIABLE)
    if chosen:
        if not Path(chosen).is_dir():
            raise ConfigError(f"no folder of weights '{chosen}' (--weights-folder or ${VARIABLE})")
        torch.hub.set_dir(str(Path(chosen).resolve() / "hub"))
    return Path(torch.hub.get_dir()).parent


def find_weights(name: str | Path) -> Path:
    """A file of weights: the path itself, or that name in the folder of weights.

    Raises:
        ConfigError: there is none.
    """
    folder = weights_folder()
    places = (Path(name), folder / name, folder / "hub" / "checkpoints" / name)
    for place in places:
        if place.is_file():
            return place
    where = f"neither here nor in the folder of weights; ${VARIABLE} or --weights-folder names one"
    raise ConfigError(f"no weights '{name}': {where}")


@torch.no_grad()
def answers(judge: Evaluator, images: Tensor, size: tuple[int, int]) -> Tensor:
    """The labels that it sees: (B, 3, H, W) in [-1, 1] -> (B, *size) int64, nearest pixel."""
    seen = judge.eval()(images).argmax(dim=1)  # (B, H, W)
    if seen.shape[-2:] == size:
        return seen
    return F.interpolate(seen[:, None].double(), size, mode="nearest-exact")[:, 0].long()


def counted(judge: Evaluator, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Confusion matrix (L, L) over batches of images (B, 3, H, W) and labels (B, h, w).

    Raises:
        ConfigError: a label that is neither a class nor 255.
    """
    counts = torch.zeros(judge.classes, judge.classes, dtype=torch.int64)
    device = judge.mean.device
    for images, labels in batches:
        wrong = labels[(labels != UNKNOWN) & ((labels < 0) | (labels >= judge.classes))]
        if len(wrong):
            raise ConfigError(
                f"label {int(wrong[0])} where the evaluator has {judge.classes} classes "
                "(255 = unknown); maps as Cityscapes or ADE20K number them want --label-ids"
            )
        wanted = labels.masked_fill(labels == UNKNOWN, IGNORED).to(device)
        size = (labels.shape[1], labels.shape[2])
        counts += confusion(answers(judge, images.to(device), size), wanted, judge.classes).cpu()
    return counts


def table_scores(counts: Tensor) -> dict[str, float]:
    """``miou``, ``fwiou``, ``pixel_accuracy`` and ``class_accuracy`` of a confusion matrix (L, L).

    Class accuracy is the mean share of right pixels over the labels that occur in the truth.

    Raises:
        ConfigError: no pixel was counted.
    """
    found = segmentation_scores(counts)
    share = counts.diagonal().double() / counts.sum(1)  # 0 / 0 is NaN
    return found | {"class_accuracy": float(share.nanmean())}


def scores(judge: Evaluator, images: Tensor, labels: Tensor, batch: int = 8) -> dict[str, float]:
    """Whether the labels can be read back from images; see ``table_scores``.

    What is seen is resized to the labels' size by the nearest pixel.

    Args:
        judge: from ``load``.
        images: (N, 3, H, W) in [-1, 1].
        labels: (N, h, w) int64 below ``judge.classes``; 255 counts nowhere.
        batch: images at a time.

    Raises:
        ConfigError: other shapes, a label that is no class, no pixel to count.
    """
    if images.ndim != 4 or labels.ndim != 3 or len(images) != len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise ConfigError(f"scores want images (N, 3, H, W) and labels (N, h, w), not {shapes}")
    return table_scores(counted(judge, zip(images.split(batch), labels.split(batch), strict=True)))


if __name__ == "__main__":
    from minilib.score_folders import main

    sys.exit(main())
