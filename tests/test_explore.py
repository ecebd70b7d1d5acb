"""The explorers' Python side: export, frames, packing, and what they refuse."""

import gzip
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from explorer_cases import (
    Conv,
    Encoder,
    FlowInverse,
    Generator,
    Grid,
    Mlp,
    Renderer,
    cases,
    matching,
)
from PIL import Image
from torch import Tensor, nn

from minilib import explore
from minilib.config import ConfigError
from minilib.explore import interpolator, pack, painter, widget
from minilib.explore.export import export, frozen

ROOT = Path(__file__).resolve().parent.parent
LABELS = [("a", "#000000"), ("b", "#ffffff"), ("c", "#ff0000"), ("d", "#00ff00")]


def inputs(kind: str, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    if kind == "mlp":
        return [torch.randn(count, n, generator=generator) for n in (6, 3)]
    if kind == "flow":
        return [torch.randn(count, 64, generator=generator), torch.arange(count)]
    return [torch.randn(count, 8, generator=generator)]


def network(kind: str) -> nn.Module:
    torch.manual_seed(1)
    return {"mlp": Mlp, "flow": FlowInverse, "conv": lambda: Conv(32)}[kind]().eval()


def run_onnx(graph: bytes, names: list[str], values: list[Tensor]) -> Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {name: value.numpy() for name, value in zip(names, values, strict=True)}
    return torch.from_numpy(session.run(None, feeds)[0])


class Steps(nn.Module):
    """Its arange, of an int and a float, is an int64 tensor in PyTorch 2.15's graphs."""

    def forward(self, z: Tensor) -> Tensor:
        return (z - torch.arange(-1, 2.0)).square()


def test_a_graph_that_no_browser_would_take_is_not_handed_out():
    z = torch.randn(2, 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        exported = export(frozen(Steps()), ["z"], (z,))
    if exported.graph:  # once the exporter is mended
        assert torch.allclose(run_onnx(exported.graph, ["z"], [z]), Steps()(z), atol=1e-5)
    else:
        assert "cannot be exported" in exported.trouble
        assert "without a live network" in str(said[-1].message)


@pytest.mark.parametrize("kind", ["mlp", "flow", "conv"])
@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("float16", 3e-3)])
def test_export_equals_torch_at_every_batch_size(kind, weights, tolerance):
    net = network(kind)
    names = ["z", "c"][: len(inputs(kind, 2))]
    exported = export(frozen(net), names, inputs(kind, 2), weights)
    assert exported.trouble == ""
    assert exported.batch == "any"
    for count in (1, 2, 5):
        values = inputs(kind, count)
        difference = run_onnx(exported.graph, names, values) - net(*values)
        assert difference.abs().max() < tolerance


def test_float16_halves_the_graph_and_local_paths_stay_out_of_it():
    net = frozen(network("flow"))
    single, half = (export(net, ["z", "c"], inputs("flow", 2), w) for w in ("float32", "float16"))
    assert len(half.graph) < 0.62 * len(single.graph)
    for exported in (single, half):
        assert str(ROOT).encode() not in exported.graph
        assert b"stack_trace" not in exported.graph


class OneAtATime(nn.Module):
    """Written for a batch of one."""

    def forward(self, z: Tensor) -> Tensor:
        return z.reshape(1, 1, 2, 2) * 2


def test_a_network_for_one_input_is_exported_for_one():
    exported = export(frozen(OneAtATime()), ["z"], [torch.randn(2, 4)])
    assert exported.batch == "one"
    z = torch.randn(1, 4)
    assert torch.equal(run_onnx(exported.graph, ["z"], [z]), 2 * z.view(1, 1, 2, 2))


class Bessel(nn.Module):
    """Holds an operator that ONNX does not have."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.special.bessel_j0(z).reshape(-1, 1, 2, 2)


class Branching(nn.Module):
    """Decides on the data."""

    def forward(self, z: Tensor) -> Tensor:
        return (z if z.sum() > 0 else -z).reshape(-1, 1, 2, 2)


@pytest.mark.parametrize(("net", "named"), [(Bessel(), "bessel_j0"), (Branching(), "branch")])
def test_what_cannot_be_exported_is_named_in_one_line_and_shown_as_frames(net, named):
    with pytest.warns(UserWarning, match=named) as caught:
        explorer = explore.LatentExplorer(net, torch.zeros(4))
    ours = [str(w.message) for w in caught if "explorer" in str(w.message)]
    assert len(ours) == 1
    assert "\n" not in ours[0]
    assert named in explorer.payload.spec["trouble"]
    assert explorer.payload.network == b""
    assert explorer.payload.spec["sheet"]["count"] == 26


def test_the_readers_network_is_left_alone():
    net = Conv(32).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    explore.LatentExplorer(net, torch.zeros(8))
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_frames_are_what_torch_answers_at_the_cells_centres():
    net, z = network("mlp"), torch.tensor([0.3, -0.2, 1.0, 0.0, 0.5, -1.0])
    conditions = {"a": torch.eye(3)[0], "b": torch.eye(3)[1]}
    payload = explore.LatentExplorer(net, z, conditions=conditions, grid=3).payload
    frames = cut(payload.frames, payload.spec["sheet"])
    assert len(frames) == 2 * (9 + 1)
    moved = z.clone()
    moved[0], moved[1] = -2.0, 2.0  # top left: cells are 2 wide on [-3, 3]
    for position, latent in ((0, moved), (9, z)):
        for i, c in enumerate(conditions.values()):
            picture = pack.pictures(net(latent[None], c[None]))[0]
            assert np.abs(frames[10 * i + position].astype(int) - picture).max() <= 1


def test_the_poster_of_a_grid_is_its_first_picture_at_z_itself():
    net, z = Grid(), torch.tensor([0.3, -0.2, 1.0, 0.0, 0.5, -1.0])
    poster = explore.LatentExplorer(net, z, output="images", grid=2).payload.poster
    wanted = pack.pictures(net(z[None])[0])[0]
    assert np.abs(poster.astype(int) - wanted).max() <= 1


def cut(data: bytes, spec: dict) -> list[np.ndarray]:
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    h, w, columns = spec["height"], spec["width"], spec["columns"]
    corners = [(i // columns * h, i % columns * w) for i in range(spec["count"])]
    return [image[y : y + h, x : x + w] for y, x in corners]


def test_sheets_and_arrays_come_back_as_they_were():
    pictures = np.random.default_rng(0).integers(0, 255, (7, 5, 9, 3), dtype=np.uint8)
    data, spec = pack.sheet(pictures)
    assert all(np.array_equal(a, b) for a, b in zip(cut(data, spec), pictures, strict=True))

    arrays = {
        "x": torch.randn(3, 2),
        "u": torch.arange(3, dtype=torch.uint8),
        "c": torch.arange(4),
        "frames": torch.randn(5),
    }
    block, index = pack.pack(arrays, half=("frames",))
    raw = gzip.decompress(block)
    types = {name: (kind, dims, offset) for name, kind, dims, offset in index}
    assert [kind for kind, _, _ in types.values()] == ["float32", "uint8", "int64", "float16"]
    for name, (kind, dims, offset) in types.items():
        assert offset % 8 == 0
        back = np.frombuffer(raw, kind, int(np.prod(dims)), offset).reshape(dims)
        assert np.allclose(back, arrays[name].numpy(), atol=2e-3 if name == "frames" else 0)


def test_pictures_clip_and_round():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 9.0]).view(5, 1, 1, 1)
    assert pack.pictures(values)[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert pack.pictures(values, (0, 1))[:, 0, 0, 0].tolist() == [0, 0, 0, 255, 255]


def test_spherical_interpolation_stays_on_the_sphere():
    za, zb = (nn.functional.normalize(torch.randn(16), dim=0) for _ in range(2))
    t = torch.linspace(0, 1, 9)
    path = interpolator.between(za, zb, t, spherical=True)
    assert torch.allclose(path.norm(dim=1), torch.ones(9), atol=1e-5)
    angles = torch.acos((path[:-1] * path[1:]).sum(1).clamp(-1, 1))
    assert torch.allclose(angles, angles[:1].expand(8), atol=1e-3)  # equal steps
    straight = interpolator.between(za, zb, t, spherical=False)
    assert torch.allclose(straight[4], (za + zb) / 2, atol=1e-6)
    assert straight.norm(dim=1)[4] < 0.99
    assert torch.allclose(interpolator.between(za, 2 * za, t, True)[4], 1.5 * za)


def test_one_hot_layouts():
    layout = torch.tensor([[0, 2], [1, 1]])
    x = painter.encode(layout, 3, "onehot")
    assert x.shape == (3, 2, 2)
    assert torch.equal(x.argmax(0), layout)
    assert torch.equal(x.sum(0), torch.ones(2, 2))
    assert torch.equal(painter.encode(layout, 3, "index"), layout)


Z = torch.zeros(6)
EYE = torch.eye(3)
GIVEN = {"a": EYE[0], "b": EYE[1]}
VIEWS = torch.zeros(3, 3, 32, 32)
LAYOUT = torch.zeros(32, 32, dtype=torch.long)
REFUSED = {
    "latent width": (
        lambda: explore.LatentExplorer(Mlp(), torch.zeros(5), conditions=GIVEN),
        "network refused inputs",
    ),
    "latent shape": (lambda: explore.LatentExplorer(Conv(32), torch.zeros(1, 8)), r"\(Z,\)"),
    "not a module": (lambda: explore.LatentExplorer(lambda z: z, Z), "torch.nn.Module"),
    "directions": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), directions=torch.eye(7)),
        r"\(D, 8\)",
    ),
    "one direction": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), directions=torch.eye(8)[:1]),
        "two directions",
    ),
    "dependent": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), directions=torch.ones(2, 8)),
        "depend",
    ),
    "spans": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), spans=(3.0, -3.0)),
        "low < high",
    ),
    "direction names": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), direction_names=["a"]),
        "1 direction_names for 8",
    ),
    "output": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), output="imges"),
        "did you mean 'images'",
    ),
    "weights": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), weights="int8"),
        "Allowed: float16, float32",
    ),
    "row of nothing": (
        lambda: explore.LatentExplorer(Conv(32), torch.zeros(8), output="row"),
        "give conditions",
    ),
    "no conditions": (
        lambda: explore.LatentExplorer(Mlp(), Z, conditions={}),
        "conditions is empty",
    ),
    "conditions of two shapes": (
        lambda: explore.LatentExplorer(Mlp(), Z, conditions={"a": EYE[0], "b": EYE[0, :2]}),
        "one shape",
    ),
    "thumbnails": (
        lambda: explore.LatentExplorer(Mlp(), Z, conditions=GIVEN, condition_images=VIEWS),
        "3 condition_images for 2",
    ),
    "other end": (
        lambda: explore.Interpolator(Mlp(), Z, torch.zeros(7), conditions=GIVEN),
        "zb has width 7, it must be 6",
    ),
    "mode": (lambda: explore.Interpolator(Conv(32), Z, Z, mode="spheric"), "'spherical'"),
    "lengths": (
        lambda: explore.StepExplorer({"a": VIEWS, "b": VIEWS[:2]}),
        "equal lengths",
    ),
    "step names": (lambda: explore.StepExplorer(VIEWS, step_names=[1]), "1 step_names for 3"),
    "nothing to show": (lambda: explore.StepExplorer(), "either frames, or decoder"),
    "label": (
        lambda: explore.LayoutPainter(Renderer(), LAYOUT + 4, LABELS, torch.zeros(5)),
        "labels 4 to 4, 4 are named",
    ),
    "style width": (
        lambda: explore.LayoutPainter(
            Renderer(), LAYOUT, LABELS, torch.zeros(5), style_latents=torch.zeros(2, 6)
        ),
        r"\(S, 5\)",
    ),
    "painter's latent": (
        lambda: explore.LayoutPainter(Renderer(), LAYOUT, LABELS, torch.zeros(6)),
        "LayoutPainter: the network refused",
    ),
    "texture directions": (
        lambda: explore.SwapExplorer(Encoder(), Generator(), VIEWS, directions=torch.eye(4)),
        r"\(D, 3\)",
    ),
    "sizes": (
        lambda: explore.RealOrFake(VIEWS, {"a": VIEWS[:, :, :16]}),
        "images of 'a' are",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_one_line(what):
    call, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_scenes_store_equal_coordinates_once():
    payload = matching().payload
    names = {layer["array"] for scene in payload.spec["scenes"] for layer in scene["layers"]}
    assert len(payload.spec["scenes"]) == 10
    assert len(names) < 30  # the data's points are shared by all ten
    assert payload.spec["variants"] == ["IMLE", "GAN"]


def test_every_kind_is_small_and_json():
    for name in ("image", "row", "points", "interpolate", "paint", "swap"):
        payload = cases()[name].make().payload
        json.dumps(payload.spec)
        size = len(payload.network) + len(payload.frames) + len(payload.arrays)
        assert size < 300_000, name


def test_the_runtime_is_sent_only_when_asked_for(tmp_path, monkeypatch):
    runtime = tmp_path / "runtime.bin"
    runtime.write_bytes(b"wasm")
    monkeypatch.setattr(widget, "RUNTIME", runtime)
    sent = []

    class Recorder:
        def send(self, content, buffers):
            sent.append((content, buffers))

    widget._send_runtime(Recorder(), {"type": "other"}, [])
    widget._send_runtime(Recorder(), "runtime", [])
    assert sent == []
    widget._send_runtime(Recorder(), {"type": "runtime"}, [])
    assert sent == [({"type": "runtime"}, [b"wasm"])]


WITHOUT_JUPYTER = """
import importlib.util, torch
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "anywidget" else real(name, *a)
from minilib import explore
shown = explore.StepExplorer(torch.zeros(3, 3, 8, 8))
print(repr(shown), shown._repr_png_()[:4])
"""


def test_without_jupyter_the_first_picture_stands_in():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_JUPYTER], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert "anywidget is not installed here" in run.stdout
    assert "PNG" in run.stdout
