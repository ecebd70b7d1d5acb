"""Train an evaluator on Cityscapes, as the thesis trained DRN-D-22 for CUT's table.

    python -m minilib.evaluator_training runs/drn-d-22

leaves ``weights.pt`` there, for ``minilib.evaluators.load``.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilib import evaluators, labelled, processes, released, training
from minilib.config import ConfigError, fingerprint
from minilib.data import DataError, DataMissing
from minilib.drn import DRN
from minilib.evaluators import UNKNOWN, Evaluator
from minilib.folders import holds_training
from minilib.objectives import descend_on
from minilib.parameters import pick_device
from minilib.released_names import Layout, by_rules
from minilib.score_folders import TRAIN_IDS, pixels, to_train_ids

RATE, MOMENTUM, DECAY = 0.01, 0.99, 1e-4  # thesis; DRN's command line; its default
BATCH, EPOCHS, DROP = 32, 250, 100  # thesis, thesis; epochs after which the rate is a tenth
SIZE = "128x256"  # height x width; the thesis writes "256x128"
IMAGENET_FILE = "drn_d_22-4bd2f8ea.pth"  # as the authors released it

Batches = Callable[[int], tuple[Tensor, Tensor]]


def cityscapes_batches(
    photos: labelled.LabelledPhotos, batch: int, seed: int, device: torch.device | str = "cpu"
) -> Batches:
    """step -> images (B, 3, H, W) in [-1, 1] and classes (B, H, W), mirrored at random."""

    def at(step: int) -> tuple[Tensor, Tensor]:
        indices = training.batch_indices(len(photos), batch, step, seed)
        labels, _, images = photos.load(indices, flip=True, seed=seed, step=step)
        return images.to(device), to_train_ids(labels).to(device)

    return at


def start_from_imagenet(network: DRN, source: str | Path) -> DRN:
    """Fill all but the scores of a DRN-D with the authors' ImageNet weights.

    Raises:
        ConfigError: no such file.
        ReleasedError: the weights of another depth; the network stays as it was.
    """
    tensors = released.tensors(evaluators.find_weights(source))
    tensors = {k: t for k, t in tensors.items() if not k.startswith("fc.")}  # ImageNet's classes
    layout = Layout("DRN-D", lambda ours, theirs: by_rules((r"(\d)\.(.+)", r"layer\1.\2")))
    evaluators.fill(network.base, tensors, "this DRN-D", layout)
    return network


def make_step(
    judge: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches
) -> training.StepFunction:
    """One step of classifying every pixel; 255 does not count."""

    def step(i: int) -> dict[str, Tensor]:
        images, labels = batches(i)
        loss = F.cross_entropy(judge(images), labels, ignore_index=UNKNOWN)
        descend_on(loss, optimizer)
        return {"cross_entropy": loss.detach()}

    return step


def train(
    judge: Evaluator, batches: Batches, steps: int, folder: Path, *, drop_every: int,
    seed: int = 0, rate: float = RATE, momentum: float = MOMENTUM, decay: float = DECAY,
    resume: bool = False,
) -> training.Fitted:  # fmt: skip
    """Train with momentum; the rate falls to a tenth every so many steps.

    Leaves ``checkpoint.pt`` (to resume, to the bit) and ``weights.pt`` (to load) in ``folder``.

    Args:
        judge: from ``evaluators.load``, on the device of the batches.
        batches: step -> images (B, 3, H, W) in [-1, 1], labels (B, H, W) with 255 = unknown.
        steps: in all.
        folder: of the run.
        drop_every: steps after which the rate is divided by 10.
        seed: of the run.
        rate, momentum, decay: of stochastic gradient descent; decay is that of the weights.
        resume: go on from the folder's checkpoint.

    Source: Park 2021, section 3.3 (batch, rate, epochs, size); the rest is what the DRN code
    recommends.

    Raises:
        TrainingError: a loss is not finite, a checkpoint does not fit.
    """
    learned = [p for p in judge.network.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(learned, lr=rate, momentum=momentum, weight_decay=decay)
    schedules = {"network": lambda step: 0.1 ** (step // drop_every)}
    state = training.State({"network": judge.network}, {"network": sgd}, schedules=schedules)
    settings = (judge.name, judge.classes, seed, rate, momentum, decay, drop_every)
    fitted = training.fit(
        make_step(judge, sgd, batches), state, steps, folder=folder, seed=seed,
        identity=fingerprint(*settings), resume=resume, description=judge.name,
    )  # fmt: skip
    judge.eval()
    if processes.world().first:
        torch.save(judge.network.state_dict(), folder / "weights.pt")
    return fitted


def parser() -> argparse.ArgumentParser:
    """The command's options; their defaults are the thesis's."""
    top = argparse.ArgumentParser(prog="python -m minilib.evaluator_training", description=__doc__)
    top.add_argument("folder", type=Path, help="where checkpoint.pt and weights.pt go")
    top.add_argument("--evaluator", default="drn-d-22")
    top.add_argument(
        "--start", default=IMAGENET_FILE, help="ImageNet weights of its depth, or 'none'"
    )
    top.add_argument("--epochs", type=int, default=EPOCHS)
    top.add_argument("--batch", type=int, default=BATCH)
    top.add_argument("--size", default=SIZE, metavar="HEIGHTxWIDTH")
    top.add_argument("--device", default="auto", help="auto, cpu or cuda")
    top.add_argument("--weights-folder", type=Path, help="default: $MINILIB_WEIGHTS")
    top.add_argument("--resume", action="store_true")
    return top


def run(options: argparse.Namespace) -> None:
    """Train on the training split of Cityscapes.

    Raises:
        ConfigError, DataMissing, ReleasedError, TrainingError: one line each.
    """
    evaluators.weights_folder(options.weights_folder)
    if holds_training(options.folder) and not options.resume:
        raise ConfigError(f"{options.folder} already holds a training: --resume, or another folder")
    photos = labelled.LabelledPhotos(labelled.find("cityscapes"), pixels(options.size))
    device = pick_device(options.device)
    judge = evaluators.load(options.evaluator, len(TRAIN_IDS)).to(device)
    if options.start != "none" and isinstance(judge.network, DRN):
        start_from_imagenet(judge.network, options.start)
    batches = cityscapes_batches(photos, options.batch, 0, device)
    epoch = max(1, len(photos) // options.batch)
    train(
        judge, batches, options.epochs * epoch, options.folder, drop_every=DROP * epoch,
        resume=options.resume,
    )  # fmt: skip
    print(f"weights  {options.folder / 'weights.pt'}")


def main(arguments: list[str] | None = None) -> int:
    """Train; what cannot be done is one line and status 2."""
    try:
        run(parser().parse_args(arguments))
    except (
        ConfigError, DataError, DataMissing, released.ReleasedError, training.TrainingError
    ) as error:  # fmt: skip
        print(f"minilib: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
