"""Small networks for the explorers' tests, and one explorer of each kind made from them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from minilib import explore


class Mlp(nn.Module):
    """z (B, 6), c (B, 3) -> (B, 1, 8, 8) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 48), nn.Tanh(), nn.Linear(48, 64), nn.Tanh())

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.net(torch.cat([z, c], 1)).unflatten(1, (1, 8, 8))


class Conv(nn.Module):
    """z (B, 8) -> (B, 3, size, size) in [-1, 1]."""

    def __init__(self, size: int, channels: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(8, channels, 4), nn.ReLU()]
        for _ in range(int(size).bit_length() - 3):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [nn.Upsample(scale_factor=2), conv, nn.GroupNorm(4, channels), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z[:, :, None, None])


class FlowInverse(nn.Module):
    """A small conditional flow run backwards: z (B, 64), label (B,) -> (B, 1, 8, 8)."""

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        subnet = lambda: nn.Sequential(nn.Linear(40, 48), nn.ReLU(), nn.Linear(48, 64))  # noqa: E731
        self.subnets = nn.ModuleList(subnet() for _ in range(blocks))
        self.register_buffer("order", torch.stack([torch.randperm(64) for _ in range(blocks)]))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h = self.embed(c)
        for subnet, order in zip(self.subnets, self.order, strict=True):
            a, b = z[:, :32], z[:, 32:]
            s, t = subnet(torch.cat([a, h], 1)).chunk(2, 1)
            z = torch.cat([a, (b - t) * torch.exp(-torch.tanh(s))], 1)[:, order]
        return z.unflatten(1, (1, 8, 8))


class Curve(nn.Module):
    """z (B, 4), and perhaps a shift c (B, 3) -> points (B, 40, depth)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.phase = nn.Linear(4, depth)
        self.register_buffer("t", torch.linspace(0, 6.28, 40))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        curve = torch.cos(self.t[None, :, None] + 2 * self.phase(z)[:, None])
        return curve if c is None else curve + c[:, None]


class Grid(nn.Module):
    """z (B, 6) -> four pictures (B, 4, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Mlp()
        self.register_buffer("codes", torch.randn(4, 3))

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([self.one(z, c.expand(len(z), 3)) for c in self.codes], 1)


class Renderer(nn.Module):
    """x one-hot (B, 4, 32, 32), z (B, 5) -> (B, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(9, 12, 3, padding=1)
        self.out = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        style = z[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.tanh(2 * self.out(torch.relu(self.into(torch.cat([x, style], 1)))))


class Encoder(nn.Module):
    """(B, 3, 32, 32) -> structure (B, 3, 8, 8), texture (B, 3)."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.avg_pool2d(images, 4), images.mean((2, 3))


class Generator(nn.Module):
    """structure (B, 3, 8, 8), texture (B, 3) -> (B, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, structure: Tensor, texture: Tensor) -> Tensor:
        large = nn.functional.interpolate(structure, scale_factor=4.0)
        wide = texture[:, :, None, None].expand(-1, -1, 32, 32)
        return torch.tanh(2 * self.conv(torch.cat([large, wide], 1)))


@dataclass(frozen=True)
class Case:
    """One explorer, and what its page must do.

    Args:
        make: builds the explorer.
        expected: the page's state -> what PyTorch answers, shaped as the network's output.
        control: CSS of the control that the tests move.
        tolerance: largest difference of the raw output (the range is 2 wide: 2/255 is 4/255).
        median: milliseconds an update may take.
    """

    make: Callable[[], Any]
    expected: Callable[[dict], Tensor]
    control: str
    tolerance: float = 4 / 255
    median: float = 20.0
    frames_move: bool = True  # without a network, the control still changes the picture


def _z(state: dict, count: int = 1) -> Tensor:
    return torch.tensor(state["z"])[None].expand(count, -1)


def parts() -> SimpleNamespace:
    """The networks and inputs of all cases; the same every time."""
    torch.manual_seed(0)
    mlp, grid, flow = Mlp().eval(), Grid().eval(), FlowInverse().eval()
    conv32, conv64 = Conv(32).eval(), Conv(64, 32).eval()
    flat, solid, renderer, generator = Curve(2), Curve(3), Renderer(), Generator()
    eye, ring = torch.eye(3), torch.linspace(0, 6.28, 50)
    circle = torch.stack([ring.cos(), ring.sin()], 1)
    named = {f"class {i}": eye[i] for i in range(3)}
    labels = {str(i): torch.tensor(i) for i in range(10)}
    turn = torch.linalg.qr(torch.randn(64, 64))[0][:4]
    layout = torch.zeros(32, 32, dtype=torch.long)
    layout[16:], layout[8:16, 4:14], layout[22:26] = 1, 2, 3
    paints = [("sky", "#8ecae6"), ("field", "#90be6d"), ("house", "#d95d39"), ("road", "#777777")]
    styles = torch.randn(2, 5)
    views = nn.functional.interpolate(torch.rand(4, 3, 8, 8) * 2 - 1, size=32)
    z4, z5, z6, z8, z64 = (torch.randn(n) for n in (4, 5, 6, 8, 64))
    other6, other8 = torch.randn(6), torch.randn(8)
    path = torch.stack([torch.lerp(z8, other8, t) for t in torch.linspace(0, 1, 6)])
    return SimpleNamespace(**locals())


def latent_cases(p: SimpleNamespace) -> dict[str, Case]:
    """Explorers of a latent, for every kind of answer."""
    pad, explorer = ".mx-pad", explore.LatentExplorer

    def condition(state: dict) -> Tensor:
        return p.eye[state["condition"]][None]

    return {
        "image": Case(
            lambda: explorer(
                p.mlp,
                p.z6,
                conditions=p.named,
                condition_images=torch.rand(3, 1, 8, 8),
                caption="Digits",
            ),
            lambda s: p.mlp(_z(s), condition(s)),
            pad,
        ),
        "images": Case(
            lambda: explorer(p.grid, p.z6, output="images"), lambda s: p.grid(_z(s)), pad
        ),
        "row": Case(
            lambda: explorer(
                p.flow,
                p.z64,
                directions=p.turn,
                conditions=p.labels,
                output="row",
                weights="float32",
            ),
            lambda s: p.flow(_z(s, 10), torch.arange(10)),
            pad,
            tolerance=1e-4,
        ),
        "conv32": Case(lambda: explorer(p.conv32, p.z8), lambda s: p.conv32(_z(s)), pad),
        "conv64": Case(
            lambda: explorer(p.conv64, p.z8), lambda s: p.conv64(_z(s)), pad, median=50.0
        ),
        "points": Case(
            lambda: explorer(p.flat, p.z4, output="points", background={"circle": p.circle}),
            lambda s: p.flat(_z(s)),
            pad,
        ),
        "points3": Case(
            lambda: explorer(
                p.solid, p.z4, conditions=p.named, output="points", point_style="lines"
            ),
            lambda s: p.solid(_z(s), condition(s)),
            pad,
        ),
    }


def other_cases(p: SimpleNamespace) -> dict[str, Case]:
    """Between two latents, along a training, by painting, by swapping."""
    slider = ".mx-slider input"

    def condition(state: dict) -> Tensor:
        return p.eye[state["condition"]][None]

    def painted(state: dict) -> Tensor:
        x = nn.functional.one_hot(torch.tensor(state["layout"]).view(1, 32, 32), 4)
        return p.renderer(x.permute(0, 3, 1, 2).float(), _z(state))

    def swapped(state: dict) -> Tensor:
        structure = Encoder()(p.views)[0][state["structure"]][None]
        return p.generator(structure, torch.tensor(state["code"])[None])

    return {
        "interpolate": Case(
            lambda: explore.Interpolator(
                p.mlp, p.z6, p.other6, conditions=p.named, mode="spherical"
            ),
            lambda s: p.mlp(_z(s), condition(s)),
            slider,
        ),
        "steps": Case(
            lambda: explore.StepExplorer(decoder=p.conv32, zs=p.path),
            lambda s: p.conv32(_z(s)),
            slider,
        ),
        "paint": Case(
            lambda: explore.LayoutPainter(
                p.renderer,
                p.layout,
                p.paints,
                p.z5,
                style_images=p.views[:2],
                style_latents=p.styles,
            ),
            painted,
            ".mx-paper",
            frames_move=False,
        ),
        "swap": Case(
            lambda: explore.SwapExplorer(Encoder(), p.generator, p.views, directions=p.eye[:2]),
            swapped,
            ".mx-slider input",
            frames_move=False,
        ),
    }


def cases() -> dict[str, Case]:
    """All kinds; the same networks and inputs every time."""
    p = parts()
    return latent_cases(p) | other_cases(p)


def matching() -> Any:
    """A StepExplorer over drawn scenes, in two variants."""
    generator = torch.Generator().manual_seed(3)
    data = torch.randn(12, 2, generator=generator)
    samples = 0.2 * torch.randn(12, 2, generator=generator)
    near = torch.cdist(data, samples).argmin(1)
    far = torch.cdist(samples, data).argmin(1)
    imle, gan = [], []
    for step in range(5):
        pulled = torch.lerp(samples[near], data, step / 4)
        ours = {"data": data, "samples": pulled}
        imle.append(explore.Scene(points=ours, arrows={"match": (pulled, data)}, text=f"{step}"))
        moved = torch.lerp(samples, data[far], step / 4)
        theirs = {"data": data, "samples": moved}
        gan.append(explore.Scene(points=theirs, arrows={"match": (moved, data[far])}))
    return explore.StepExplorer(
        {"IMLE": imle, "GAN": gan}, step_names=[0, 10, 20, 30, 40], variant="Direction of matching"
    )


def real_or_fake() -> Any:
    """A short test of two methods, fast enough to take in a test."""
    generator = torch.Generator().manual_seed(4)
    real = torch.rand(6, 3, 16, 16, generator=generator) * 2 - 1
    fakes = {"bright": 0.2 * real + 0.8, "dark": 0.2 * real - 0.8}
    return explore.RealOrFake(real, fakes, paired=True, practice=2, counted=6, seconds=0.03)
