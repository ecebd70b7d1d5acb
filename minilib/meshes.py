"""Triangle meshes and their radial functions: how far a surface lies from its centre.

A mesh becomes a function on the sphere by ray casting: from the centre a ray goes in each
direction, and the farthest place where it meets the surface counts.  Reading is trimesh's (.off,
.obj); the chapter that uses it is ``cgml_spectral``.
"""

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from minilib.config import nearest
from minilib.data import DataError, DataMissing, dataset_folder
from minilib.paths import data_root
from minilib.prepare import once

Array = np.ndarray[Any, np.dtype[Any]]
SUFFIXES = (".off", ".obj", ".mesh")
PATTERNS = {  # where a data set keeps its meshes; {} is the split
    "meshes": ("*/*", "modelnet_samples/*/*"),
    "modelnet10": ("*/{}/*",),
    "modelnet40": ("*/{}/*",),
    "shapenet": ("*/*/*",),
}
HELD_OUT = 50  # ShapeNet names no split: each 50th of its models is a test model
BROKEN = 0.01  # so large a share of unreadable files is passed over, in large data sets
WIDE = 1.0  # radians; triangles that look wider from the centre are tried with every ray
AT_ONCE = 4096  # triangles
VERSION = 1  # of what is kept on disk; another number casts all rays again


class Mesh(NamedTuple):
    """vertices: (V, 3) float64.  faces: (F, 3) int64, corners of triangles."""

    vertices: Array
    faces: Array


class MeshFile(NamedTuple):
    """A mesh on disk, and the name of its class."""

    path: Path
    kind: str


def read_mesh(path: Path) -> Mesh:
    """One .off, .obj or (Medit) .mesh file; polygons are cut into triangles.

    ModelNet's files that lack the line break after OFF are read, too.

    Raises:
        DataError: another kind of file, damaged, without triangles, or with a vertex that is no
            finite number or is named and not there.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path.name}: {nearest(path.suffix, SUFFIXES, 'kind of mesh')}")
    read = _read_medit if path.suffix.lower() == ".mesh" else _read_trimesh
    try:
        vertices, faces = read(path)
    except Exception as error:  # the readers raise anything on a damaged file
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path.name}: damaged or not a mesh ({reason})") from None
    mesh = Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))
    if not len(mesh.faces):
        raise DataError(f"{path.name}: no triangles")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise DataError(f"{path.name}: a triangle names a vertex that is not there")
    if not np.isfinite(mesh.vertices).all():
        raise DataError(f"{path.name}: a vertex is not finite")
    return mesh


def _read_trimesh(path: Path) -> tuple[Array, Array]:
    import trimesh  # slow to import: only where it is used

    options = {"skip_materials": True} if path.suffix.lower() == ".obj" else {}
    loaded = trimesh.load_mesh(path, process=False, **options)
    return loaded.vertices, loaded.faces


def _read_medit(path: Path) -> tuple[Array, Array]:
    """Vertices and Triangles of Medit's text format; each row ends with a number of no use here."""
    words = path.read_text(encoding="ascii").split()
    parts = []
    for name in ("Vertices", "Triangles"):
        at = words.index(name) + 1
        count = int(words[at])
        numbers = np.array(words[at + 1 : at + 1 + 4 * count], np.float64)
        parts.append(numbers.reshape(count, 4)[:, :3])
    return parts[0], parts[1].astype(np.int64) - 1


def normalise(mesh: Mesh) -> Mesh:
    """The mesh around its centre of area, scaled to a root mean square distance of 1 from it.

    Both are integrals over the surface, so they do not depend on how finely it is cut.

    Raises:
        DataError: it has no area.
    """
    corners = mesh.vertices[mesh.faces]  # (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    if not area.sum() > 0:
        raise DataError("a mesh without area has no centre")
    share = area / area.sum()
    centre = share @ corners.mean(axis=1)
    away = corners - centre
    squares = ((away**2).sum(axis=(1, 2)) + (away.sum(axis=1) ** 2).sum(axis=1)) / 12
    return Mesh((mesh.vertices - centre) / np.sqrt(share @ squares), mesh.faces)


def radial(mesh: Mesh, directions: Array) -> Array:
    """Distance of the farthest hit of a ray from the origin in each direction.

    A ray along u meets the plane of a triangle (a, b, c) where u = t^-1 (w_a a + w_b b + w_c c);
    it meets the triangle itself if no weight is negative.  Triangles whose plane holds the origin
    are seen from the edge and skipped.

    Args:
        mesh: centred, see ``normalise``.
        directions: (P, 3), of length 1.

    Returns:
        (P,) distances; 0 where there is no surface at all in that direction.
    """
    corners = mesh.vertices[mesh.faces]  # (F, 3, 3)
    a, b, c = corners.swapaxes(0, 1)
    volume = np.einsum("fi,fi->f", a, np.cross(b, c))  # (F,)
    seen = np.abs(volume) > 1e-12
    corners, volume = corners[seen], volume[seen, None]
    a, b, c = corners.swapaxes(0, 1)
    inverse = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)  # (F, 3, 3)
    r = np.zeros(len(directions))
    for triangle, ray in candidates(corners, directions):
        weights = np.einsum("nij,nj->ni", inverse[triangle], directions[ray]) / volume[triangle]
        total = weights.sum(axis=1)  # 1 / t
        hit = (total > 0) & (weights.min(axis=1) >= -1e-9 * total)  # an edge belongs to both
        np.maximum.at(r, ray[hit], 1 / total[hit])
    return r


def candidates(corners: Array, directions: Array) -> Iterator[tuple[Array, Array]]:
    """Pairs (triangle, ray) that may meet: the rays within a cone around each triangle.

    Args:
        corners: (F, 3, 3), those of triangles around the origin.
        directions: (P, 3), of length 1.

    Yields:
        Two (n,) arrays of indices, for some of the triangles at a time.
    """
    tree = cKDTree(directions)
    unit = corners / np.maximum(np.linalg.norm(corners, axis=2, keepdims=True), 1e-30)
    middle = unit.sum(axis=1)
    middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-30)  # (F, 3)
    cosine = np.einsum("fki,fi->fk", unit, middle).min(axis=1)
    angle = np.arccos(np.clip(cosine, -1, 1))  # (F,)
    reach = np.where(angle < WIDE, 2 * np.sin(angle / 2) + 1e-6, 3.0)  # a chord; 3 reaches all
    for start in range(0, len(corners), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found = tree.query_ball_point(middle[part], reach[part])
        lengths = np.array([len(rays) for rays in found])
        if lengths.sum():
            rays = np.concatenate([np.asarray(rays, np.int64) for rays in found])
            yield start + np.repeat(np.arange(len(found)), lengths), rays


def find(name: str, split: str) -> list[MeshFile]:
    """The meshes of a data set's split, sorted by path.

    A class is the folder that ModelNet and ShapeNet keep it in; each of the few meshes of
    "meshes" is a class of its own, and they are the same in both splits.

    Args:
        name: one of ``PATTERNS``.
        split: "train" or "test".

    Raises:
        DataMissing: it is not here, or holds no meshes.
        DataError: unknown data set.
    """
    if name not in PATTERNS:
        raise DataError(nearest(name, PATTERNS, "data set of meshes"))
    folder = dataset_folder(name)
    every = {p for pattern in PATTERNS[name] for p in folder.glob(pattern.format(split))}
    paths = sorted(p for p in every if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataMissing(f"no meshes in {name} ({split}); get them: python data_scripts/{name}.py")
    kinds = [p.stem if name == "meshes" else p.relative_to(folder).parts[0] for p in paths]
    files = [MeshFile(p, kind) for p, kind in zip(paths, kinds, strict=True)]
    if name == "shapenet":
        files = [f for i, f in enumerate(files) if (i % HELD_OUT == 0) == (split == "test")]
    return files


def load(path: Path) -> Mesh:
    """A mesh of one of the data sets: normalised, and upright along z.

    ModelNet's stand upright along z already, the others along y: there x, y, z become y, z, x.

    Raises:
        DataError: damaged, or without area.
    """
    mesh = read_mesh(path)
    if not any("modelnet" in part for part in path.relative_to(data_root()).parts):
        mesh = Mesh(mesh.vertices[:, [2, 0, 1]], mesh.faces)
    try:
        return normalise(mesh)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from None


def radii(
    name: str, split: str, directions: Array, workers: int = 1
) -> tuple[Array, Array, list[str]]:
    """Radial functions of a whole split, kept in ``data_root()/.radii`` once they are cast.

    Stopped anywhere, it goes on with the meshes that are not done.  Flat meshes, which no ray
    meets, are passed over and counted in a line; so are, in a data set of more than a hundred, up
    to 1% of unreadable files.

    Args:
        name, split: as for ``find``.
        directions: (P, 3), of length 1.
        workers: processes that cast rays.

    Returns:
        (N, P) float32 radii, (N,) int64 classes, and the names of the classes in order.

    Raises:
        DataMissing: not here.
        DataError: too many files are damaged; names the first.
    """
    files = find(name, split)
    digest = hashlib.sha256(np.round(directions, 9).tobytes() + bytes([VERSION])).hexdigest()[:12]
    work = partial(_cast, directions=directions, cache=data_root() / ".radii" / digest)
    paths = [file.path for file in files]
    rows = list(tqdm(_in_order(work, paths, workers), f"{name}/{split}", len(paths), disable=None))
    broken = [row for row in rows if isinstance(row, str)]
    if broken and (len(files) < 100 or len(broken) > BROKEN * len(files)):
        raise DataError(broken[0])
    whole = [
        (file, row)
        for file, row in zip(files, rows, strict=True)
        if not isinstance(row, str) and row.any()
    ]
    if len(whole) < len(files):
        flat = len(files) - len(whole) - len(broken)
        print(f"{name}/{split}: of {len(files)} meshes {flat} are flat, {len(broken)} broken")
    if not whole:
        raise DataError(f"{name}/{split}: all meshes are flat or broken")
    kinds = sorted({file.kind for file, _ in whole})
    labels = np.array([kinds.index(file.kind) for file, _ in whole], np.int64)
    return np.stack([row for _, row in whole]), labels, kinds


def _in_order(work: Any, paths: Sequence[Path], workers: int) -> Iterator[Array | str]:
    if workers == 1:
        yield from map(work, paths)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh) as pool:
        yield from pool.map(work, paths, chunksize=8)


def _cast(path: Path, directions: Array, cache: Path) -> Array | str:
    """The radii of one file, from the cache or cast now; for a broken file the reason."""
    target = (cache / path.relative_to(data_root())).with_suffix(path.suffix + ".npy")
    try:
        once(target, lambda out: np.save(out, radial(load(path), directions).astype(np.float32)))
    except DataError as error:
        return str(error)
    row: Array = np.load(target)
    return row
