"""Every chapter, top to bottom, at its smallest."""

import json
import os

import nbformat
import papermill
import pytest

from minilib import chapters, notebooks, paths, results
from minilib.config import ConfigError

TRAINED = [name for name in chapters.names() if "PRESETS" in chapters.source(name)]
HARDWARE = [  # chapters that have the settings of minilib.speed; one for every day
    name
    for name in TRAINED
    if hasattr(next(iter(chapters.load(name).PRESETS["smoke"].values())).config, "precision")
]
CHOSEN = HARDWARE if os.environ.get("MINILIB_SPEED_ALL") == "1" else ["cgml_spectral"]
WIDER = {"swapping_autoencoder": {"batch": 8}}  # each of two parts must be a multiple of four
UNCOMPILED = ("swapping_autoencoder", "cinn_colorization", "cut")  # for reasons that they give
PAGES = [name for name in chapters.names() if name not in TRAINED]


@pytest.mark.chapter
@pytest.mark.parametrize("chapter", TRAINED)
def test_chapter_runs_at_smoke_and_leaves_a_record(chapter, tmp_path):
    folder = notebooks.run(chapter, {"preset": "smoke", "device": "cpu"}, tmp_path / "run")
    record = results.read(folder / "record.json")
    assert (record["chapter"], record["preset"], record["status"]) == (chapter, "smoke", "finished")
    assert record["metrics"]
    assert record["parameters"]
    assert all(record["checks"].values())
    executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code" and c.source)


@pytest.mark.chapter
@pytest.mark.parametrize(
    "changed",
    [{"precision": "bfloat16", "micro_batches": 2}, {"compiled": True}],
    ids=["half-in-parts", "compiled"],
)
@pytest.mark.parametrize("chapter", CHOSEN)
def test_chapter_runs_with_the_settings_of_the_hardware(chapter, changed, tmp_path):
    """``MINILIB_SPEED_ALL=1`` takes every chapter, and compiles, which takes minutes."""
    if "compiled" in changed and CHOSEN != HARDWARE and chapter not in UNCOMPILED:
        pytest.skip("compiling takes minutes: MINILIB_SPEED_ALL=1 does it")
    changed = changed | WIDER.get(chapter, {})
    given = {"preset": "smoke", "device": "cpu", "overrides": changed}
    if "compiled" in changed and chapter in UNCOMPILED:
        with pytest.raises(ConfigError, match=r"'compiled' .*: leave it out"):
            notebooks.run(chapter, given, tmp_path / "run")
        return
    record = results.read(notebooks.run(chapter, given, tmp_path / "run") / "record.json")
    assert record["status"] == "finished"
    assert record["overrides"] == changed
    assert all(value is not None for value in record["metrics"].values())


@pytest.mark.chapter
@pytest.mark.parametrize("page", PAGES)
def test_page_without_presets_runs(page, tmp_path):
    notebooks.quiet_kernels(tmp_path / "ipython")
    out = tmp_path / "page.ipynb"
    papermill.execute_notebook(
        f"chapter://{page}", str(out), kernel_name="python3", cwd=str(paths.CHAPTERS),
        progress_bar=False,
    )  # fmt: skip
    outputs = [o for c in json.loads(out.read_text())["cells"] for o in c.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error"]
