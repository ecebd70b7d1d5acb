"""Meshes: reading, ray casting, and what the spectral chapter makes of their radial functions."""

import numpy as np
import pytest
import torch
from data_trees import plant
from scipy.spatial.transform import Rotation
from torch import nn

from minilib import chapters, data, meshes

spectral = chapters.load("cgml_spectral")
R = Rotation.from_euler("zyx", [0.7, -0.4, 1.9]).as_matrix()
CUBE = spectral.boxes(((-1, -1, -1), (1, 1, 1)))


def directions(degree=8):
    return spectral.towards(*spectral.sphere_grid(degree)[:2])


def ellipsoid(axes, rings=180):
    """A closed mesh whose vertices lie on an ellipsoid around the origin."""
    theta, phi = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij"
    )
    number = np.arange(theta.size).reshape(theta.shape)
    a, b, c, d = (n.ravel() for n in (number[:-1, :-1], number[1:, :-1],
                                      number[1:, 1:], number[:-1, 1:]))  # fmt: skip
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    points = spectral.towards(theta.ravel(), phi.ravel())
    return meshes.Mesh(points * axes, faces)


def one_line(error):
    text = str(error.value)
    return "\n" not in text and len(text) < 250


def test_rays_find_an_ellipsoid():
    axes = np.array([0.5, 1.0, 1.7])
    u = directions(12)
    exact = ((u / axes) ** 2).sum(axis=1) ** -0.5
    np.testing.assert_allclose(meshes.radial(ellipsoid(axes), u), exact, rtol=1e-3)
    coarse = meshes.radial(ellipsoid(axes, rings=8), u)
    assert np.abs(coarse / exact - 1).max() > 1e-2  # the bound above can fail


def test_rays_meet_corners_edges_and_faces_of_a_cube():
    u = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [-1, -1, 1], [0, -1, 0], [0.3, -1, 0.2]])
    length = np.linalg.norm(u, axis=1)
    np.testing.assert_allclose(meshes.radial(CUBE, u / length[:, None]), length, rtol=1e-12)


def test_the_farthest_hit_counts_and_no_hit_is_zero():
    nested = spectral.boxes(((-1, -1, -1), (1, 1, 1)), ((-2, -2, -2), (2, 2, 2)))
    np.testing.assert_allclose(
        meshes.radial(nested, directions()), 2 * meshes.radial(CUBE, directions())
    )
    above = spectral.boxes(((-1, -1, 1), (1, 1, 2)))  # none of it is below the origin
    r = meshes.radial(above, directions())
    assert (r[directions()[:, 2] < 0] == 0).all()
    up = meshes.radial(above, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(up, [2, 0, 0])


def test_narrowing_down_loses_no_hit(monkeypatch):
    body = ellipsoid(np.array([1.0, 0.4, 0.7]), rings=5)  # triangles of all sizes and shapes
    shifted = meshes.Mesh(body.vertices + np.array([0.3, 0.1, -0.2]), body.faces)
    some = meshes.radial(shifted, directions())
    monkeypatch.setattr(meshes, "WIDE", 0.0)  # every ray with every triangle
    np.testing.assert_array_equal(some, meshes.radial(shifted, directions()))
    monkeypatch.setattr(meshes, "AT_ONCE", 7)
    np.testing.assert_array_equal(some, meshes.radial(shifted, directions()))


def test_a_turned_mesh_has_the_turned_radial_function():
    body = meshes.Mesh(CUBE.vertices * [0.5, 1, 2] + [0.1, 0.2, 0], CUBE.faces)
    turned = meshes.Mesh(body.vertices @ R.T, body.faces)
    u = directions()
    np.testing.assert_allclose(meshes.radial(turned, u @ R.T), meshes.radial(body, u), rtol=1e-9)
    assert not np.allclose(meshes.radial(turned, u), meshes.radial(body, u), rtol=0.1)


def test_normalised_meshes_forget_place_size_and_density():
    far = meshes.Mesh(CUBE.vertices * 5 + [10, -3, 2], CUBE.faces)
    normal = meshes.normalise(far)
    assert np.abs(normal.vertices.mean(axis=0)).max() < 1e-12
    # the mean square distance of a cube's surface [-1, 1]^3 from its centre is 1 + 2/3
    np.testing.assert_allclose(np.abs(normal.vertices), (5 / 3) ** -0.5)
    a, b, c = far.vertices[far.faces[0]]
    middle = len(far.vertices)  # one triangle is cut into three
    i, j, k = far.faces[0]
    finer = meshes.Mesh(
        np.vstack([far.vertices, (a + b + c) / 3]),
        np.vstack([far.faces[1:], [[i, j, middle], [j, k, middle], [k, i, middle]]]),
    )
    np.testing.assert_allclose(meshes.normalise(finer).vertices[:8], normal.vertices)
    with pytest.raises(data.DataError, match="without area"):
        meshes.normalise(meshes.Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])))


OFF = "{}4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n"
OBJ = "# a comment\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\n"
MEDIT = (
    "MeshVersionFormatted 1\nDimension 3\nVertices\n3\n0 0 0 0\n1 0 0 0\n0 1 0 0\n"
    "Triangles\n1\n1 2 3 0\nTetrahedra\n0\nEnd\n"
)


@pytest.mark.parametrize(
    ("name", "text", "corners", "triangles"),
    [
        ("plain.off", OFF.format("OFF\n"), 4, 4),
        ("modelnet.off", OFF.format("OFF"), 4, 4),  # the line break is missing
        ("quad.obj", OBJ, 4, 2),
        ("octopus.mesh", MEDIT, 3, 1),
    ],
)
def test_meshes_are_read(tmp_path, name, text, corners, triangles):
    (tmp_path / name).write_text(text)
    mesh = meshes.read_mesh(tmp_path / name)
    assert mesh.faces.shape == (triangles, 3)
    assert len(np.unique(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0)) == corners
    assert mesh.vertices.max() == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.off", ""),
        ("cut.off", OFF.format("OFF\n")[:40]),
        ("words.off", OFF.format("OFF\n").replace("1 0 0", "one 0 0")),
        ("beyond.off", OFF.format("OFF\n").replace("3 0 3 2", "3 0 3 9")),
        ("infinite.off", OFF.format("OFF\n").replace("0 0 1\n", "0 0 inf\n")),
        ("points.obj", "v 0 0 0\nv 1 0 0\n"),
        ("cut.mesh", MEDIT[:60]),
        ("mesh.ply", "ply\n"),
    ],
)
def test_broken_files_say_so_in_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(data.DataError) as error:
        meshes.read_mesh(tmp_path / name)
    assert one_line(error)
    assert name in str(error.value)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILIB_DATA", str(tmp_path))
    for name in ("meshes", "modelnet10", "shapenet"):
        plant(tmp_path, name)
    return tmp_path


def test_splits_and_classes_are_those_of_the_folders(planted):
    train, test = (meshes.find("modelnet10", split) for split in ("train", "test"))
    assert {f.kind for f in train} == {"bathtub", "night_stand"}
    assert not {f.path for f in train} & {f.path for f in test}
    every = [f.path for split in ("train", "test") for f in meshes.find("shapenet", split)]
    assert len(set(every)) == len(every) == 6
    assert meshes.find("meshes", "train") == meshes.find("meshes", "test")
    with pytest.raises(data.DataError, match="did you mean 'modelnet10'") as error:
        meshes.find("modelnet1", "train")
    assert one_line(error)
    with pytest.raises(data.DataMissing, match=r"data_scripts/modelnet40\.py"):
        meshes.find("modelnet40", "train")


def test_radii_are_cast_once_by_any_number_of_processes(planted):
    u = directions(3)
    radius, labels, kinds = meshes.radii("modelnet10", "train", u, workers=2)
    assert radius.shape == (6, len(u))
    assert radius.dtype == np.float32
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert kinds == ["bathtub", "night_stand"]
    first = meshes.find("modelnet10", "train")[0].path
    np.testing.assert_allclose(radius[0], meshes.radial(meshes.load(first), u), rtol=1e-6)
    first.write_text("nothing any more")
    np.testing.assert_array_equal(meshes.radii("modelnet10", "train", u)[0], radius)
    with pytest.raises(data.DataError, match=first.name):  # other rays: the file is read again
        meshes.radii("modelnet10", "train", directions(2))


def test_flat_meshes_and_few_broken_ones_are_passed_over(planted, capsys):
    folder = planted / "modelnet10" / "bathtub" / "train"
    (folder / "flat.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    assert len(meshes.radii("modelnet10", "train", directions(2))[0]) == 6
    assert "1 are flat, 0 broken" in capsys.readouterr().out
    good = next(folder.glob("b*.off")).read_text()
    for i in range(150):
        (folder / f"more{i}.off").write_text(good)
    (folder / "broken.off").write_text("OFF\n")
    assert len(meshes.radii("modelnet10", "train", directions(2))[0]) == 156
    assert "1 are flat, 1 broken" in capsys.readouterr().out


def test_models_stand_upright(planted):
    y_up = next(f.path for f in meshes.find("shapenet", "train"))
    raw = meshes.normalise(meshes.read_mesh(y_up))
    np.testing.assert_allclose(meshes.load(y_up).vertices[:, 2], raw.vertices[:, 1])
    z_up = next(f.path for f in meshes.find("modelnet10", "train"))
    raw = meshes.normalise(meshes.read_mesh(z_up))
    np.testing.assert_allclose(meshes.load(z_up).vertices, raw.vertices)


def test_turning_a_spectrum_turns_the_shape():
    degree = 5
    turn = spectral.turning(degree, R)
    np.testing.assert_allclose(turn @ turn.T, np.eye(36), atol=1e-12)
    c = np.random.default_rng(0).normal(size=36)
    theta, phi, _ = spectral.sphere_grid(7)
    u = spectral.towards(theta, phi)
    before = u @ R  # R^-1 u
    polar, azimuth = np.arccos(before[:, 2]), np.arctan2(before[:, 1], before[:, 0])
    expected = spectral.real_harmonics(degree, polar, azimuth) @ c
    shape = spectral.real_harmonics(degree, theta, phi) @ (turn @ c)
    np.testing.assert_allclose(shape, expected, atol=1e-12)


def test_spectra_of_turned_meshes_are_turned_spectra():
    """Rays at a turned mesh and the matrix at its spectrum agree."""
    degree, body = 4, ellipsoid(np.array([0.9, 1.0, 1.2]), rings=90)
    theta, phi, weight = spectral.sphere_grid(16)
    project = weight[:, None] * spectral.real_harmonics(degree, theta, phi)
    u = spectral.towards(theta, phi)
    turned = meshes.Mesh(body.vertices @ R.T, body.faces)
    expected = meshes.radial(turned, u) @ project
    c = spectral.turning(degree, R) @ (meshes.radial(body, u) @ project)
    np.testing.assert_allclose(c, expected, atol=2e-3)
    assert np.abs(meshes.radial(body, u) @ project - expected).max() > 0.1


def test_augmented_shapes_come_from_their_meshes():
    theta, phi, weight = spectral.sphere_grid(8)
    radius = np.stack([meshes.radial(CUBE, spectral.towards(theta, phi)), 2 + 0 * theta])
    plain = radius @ (weight[:, None] * spectral.real_harmonics(4, theta, phi))
    c, which = spectral.turned_and_bent(radius, 5, 4, 0.0, 0.0, 0.0, seed=1)
    assert which.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(c, plain[which], atol=1e-5)
    turned, _ = spectral.turned_and_bent(radius, 4, 4, 180.0, 15.0, 0.0, seed=1)
    np.testing.assert_allclose(turned.norm(dim=1), np.linalg.norm(plain, axis=1)[[0, 1] * 2],
                               rtol=1e-5)  # fmt: skip
    assert not torch.allclose(turned[0], turned[2], atol=1e-2)
    np.testing.assert_allclose(turned[1], plain[1], atol=1e-5)  # a ball does not show it
    bent, _ = spectral.turned_and_bent(radius, 4, 4, 0.0, 0.0, 0.1, seed=1)
    assert 0.02 < float((bent[1] - torch.tensor(plain[1])).norm() / np.linalg.norm(plain[1])) < 0.3
    _, which = spectral.turned_and_bent(radius.repeat(5, 0), 3, 4, 0.0, 0.0, 0.0, seed=1)
    assert which.tolist() == [0, 4, 9]  # 4.5 is rounded to even
    _, which = spectral.turned_and_bent(radius.repeat(5, 0), 0, 4, 0.0, 0.0, 0.0, seed=1)
    assert which.tolist() == list(range(10))


def test_the_map_is_a_square_without_gaps():
    row, column = spectral.places(6)
    assert sorted((row * 7 + column).tolist()) == list(range(49))
    m = torch.from_numpy(spectral.orders(6))
    assert (row[m < 0] < column[m < 0]).all()
    assert row[:4].tolist() == [0, 0, 1, 1]  # (0, 0), (1, -1), (1, 0), (1, 1)
    assert column[:4].tolist() == [0, 1, 0, 1]


def test_patches_are_squares_in_the_middle_of_the_map():
    hidden = spectral.hidden_part(7, "patch", 0.25)
    row, column = (at[hidden] for at in spectral.places(7))
    assert sorted((8 * row + column).tolist()) == [8 * i + j for i in range(2, 6)
                                                   for j in range(2, 6)]  # fmt: skip
    assert spectral.hidden_part(7, "patch", 1.0).all()
    sines = spectral.hidden_part(7, "sines", 0.25)
    assert sines.sum() == 28
    assert torch.equal(sines, torch.from_numpy(spectral.orders(7)) < 0)


def test_what_is_hidden_does_not_leak():
    torch.manual_seed(0)
    hidden = spectral.hidden_part(7, "patch", 0.25)
    y = torch.randn(200, 64)
    other = torch.where(hidden, y + 5, y)
    for corruption in ("sines", "patch"):
        x, answer = spectral.ask(y, hidden, corruption)
        assert x.shape == (200, 48)
        assert torch.equal(answer, y[:, hidden])
        assert torch.equal(x, spectral.ask(other, hidden, corruption)[0])
    x, answer = spectral.ask(y, hidden, "noise")
    assert torch.equal(answer, y[:, hidden])
    assert torch.equal(x[:, ~hidden], y[:, ~hidden])
    assert 0.95 < (x - y)[:, hidden].std() < 1.05


@pytest.mark.parametrize("corruption", spectral.CORRUPTIONS)
def test_batches_fit_the_networks_of_their_corruption(corruption):
    config = spectral.dataclasses.replace(spectral.SMOKE, corruption=corruption, batch=7)
    draw = spectral.make_draw(torch.randn(40, 16), config, seed=3)
    torch.manual_seed(0)
    x, y = draw(2)
    nets = spectral.networks(config)
    z = torch.randn(2, 7, config.latent)
    assert nets["generator"](nets["encoder"](x), z).shape == y.shape
    assert nets["discriminator"](x, y).shape == (2, 7, 1)
    torch.manual_seed(0)
    assert torch.equal(draw(2)[0], x)
    assert not torch.equal(draw(3)[1], y)
    assert not torch.equal(x[0], x[1])  # every run sees other noise


def test_scores_where_one_answer_is_right():
    torch.manual_seed(0)
    y = torch.randn(12, 16)
    exact = spectral.score_spectra(y.expand(2, 3, -1, -1), y, two_sided=False)
    assert exact.keys() == {"error", "map"}
    assert exact["error"].tolist() == [0, 0]
    assert exact["map"].tolist() == [1, 1]
    mirrored = spectral.score_spectra(-y.expand(1, 1, -1, -1), y, two_sided=False)
    torch.testing.assert_close(mirrored["error"], torch.tensor([2.0]))  # no right answer here
    assert spectral.score_spectra(-y.expand(1, 1, -1, -1), y)["error"].item() == 0  # but there
    nothing = spectral.score_spectra(torch.zeros(1, 1, 12, 16), y, two_sided=False)
    torch.testing.assert_close(nothing["error"], torch.ones(1))
    # by hand: the second shape twice; the first comes second for it
    score = spectral.score_spectra(y[[1, 1]].expand(1, 1, -1, -1), y[:2], two_sided=False)
    assert score["map"].item() == pytest.approx(0.75)


def test_the_linear_head_learns_classes_that_are_there_only():
    torch.manual_seed(0)
    labels = torch.arange(120) % 3
    x = torch.randn(120, 6) + 3 * nn.functional.one_hot(labels, 6)
    collapse = spectral.collapse
    encoder = collapse.stacked_mlp(2, 6, 8, width=16, depth=1)
    head = collapse.StackedLinear(2, 8, 3)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
    step = spectral.class_step(encoder, head, optimizer, x, labels, 60, 2, seed=0)
    losses = [float(step(i)["classes"]) for i in range(60)]
    assert losses[-1] < 0.2 < losses[0]
    features = spectral.bottlenecks(encoder, x, 2)
    assert features.shape == (2, 120, 8)
    torch.testing.assert_close(features, encoder(x.expand(2, -1, -1)).detach())
    accuracy = chapters.load("cgml_images").linear_accuracy
    assert accuracy(features[0, :60], labels[:60], features[0, 60:], labels[60:]) > 0.9
    shuffled = labels[torch.randperm(120)]
    assert accuracy(features[0, :60], shuffled[:60], features[0, 60:], shuffled[60:]) < 0.6
