import inspect
import pickle
import textwrap

import nbformat
import pytest
import torch

from minilib import chapters, results
from minilib.config import ConfigError
from minilib.notebooks import ChapterHandler

TINY = textwrap.dedent(
    """\
    ---
    claim: A claim.
    kernelspec:
      display_name: Python 3
      language: python
      name: python3
    ---

    # Tiny

    ```{code-cell} ipython3
    :tags: [definition]

    from dataclasses import dataclass

    from torch import nn

    from minilib.config import Plan, option


    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        width: int = option(3, "units", "ours", low=1)


    PRESETS = {"toy": {"line": Plan(Config(), "none", "CPU", 1.0)}}
    ```

    ```{code-cell} ipython3
    raise RuntimeError("an untagged cell is not a definition")
    ```

    ```{code-cell} ipython3
    :tags: [definition]

    def networks(config):
        return {"line": nn.Linear(config.width, 2)}


    class Thing:
        pass
    ```
    """
)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "CHAPTERS", tmp_path)
    file = tmp_path / "tiny.md"
    file.write_text(TINY)
    yield file
    import sys

    sys.modules.pop("minilib_chapter_tiny", None)


def test_only_tagged_cells_are_loaded(tiny):
    module = chapters.load("tiny")
    assert module.networks(module.Config())["line"].in_features == 3
    assert chapters.claim("tiny") == "A claim."


def test_definitions_keep_their_line_numbers(tiny):
    module = chapters.load("tiny")
    lines, first = inspect.getsourcelines(module.networks)
    assert lines[0] == "def networks(config):\n"
    assert TINY.splitlines()[first - 1] == "def networks(config):"


def test_a_chapter_is_loaded_once_and_again_when_it_changed(tiny):
    first = chapters.load("tiny")
    assert chapters.load("tiny") is first
    tiny.write_text(TINY.replace("option(3,", "option(4,"))
    import os

    os.utime(tiny, ns=(1, 1))
    assert chapters.load("tiny").Config().width == 4


def test_definitions_pickle(tiny):
    module = chapters.load("tiny")
    assert isinstance(pickle.loads(pickle.dumps(module.Thing())), module.Thing)


def test_a_chapter_that_fails_to_load_leaves_nothing(tiny):
    import sys

    tiny.write_text(TINY.replace("from torch import nn", "from torch import nnn"))
    with pytest.raises(ImportError):
        chapters.load("tiny")
    assert "minilib_chapter_tiny" not in sys.modules


def test_describe_counts_on_the_meta_device(tiny):
    (item,) = chapters.describe("tiny", "toy")
    assert item.parameters == {"line": 8}
    assert (item.task, item.minutes, item.measured) == ("line", 1.0, False)


def test_unknown_chapter_names_the_nearest(tiny):
    with pytest.raises(ConfigError, match=r"unknown chapter 'tinny': did you mean 'tiny'\?"):
        chapters.load("tinny")


def test_papermill_reads_a_chapter_as_a_notebook(tiny):
    notebook = nbformat.reads(ChapterHandler.read("chapter://tiny"), as_version=4)
    assert notebook.metadata.kernelspec.language == "python"
    assert sum(cell.cell_type == "code" for cell in notebook.cells) == 3
    with pytest.raises(ConfigError):
        ChapterHandler.write("", "chapter://tiny")


def test_a_code_hash_ignores_comments_and_layout_and_nothing_else(tiny):
    before = results.code_hashes("tiny")
    assert set(before) == {"chapters/tiny.md", "minilib/config.py"}
    tiny.write_text(TINY.replace("class Thing:\n", "class Thing:  # a remark\n\n"))
    assert results.code_hashes("tiny") == before
    tiny.write_text(TINY.replace("in_features", "x").replace(", 2)}", ", 3)}"))
    assert results.code_hashes("tiny") != before


def test_reached_modules_are_followed():
    assert "results" in results.reached(["from minilib import runs"])
    assert results.reached(["import torch\n%matplotlib inline"]) == set()


@pytest.mark.parametrize("chapter", chapters.names())
def test_every_chapter_has_a_claim_and_one_parameters_cell_or_none(chapter):
    assert 20 < len(chapters.claim(chapter)) < 200
    tags = [t for cell in chapters.read(chapter).cells for t in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == hasattr(chapters.load(chapter), "PRESETS")


@pytest.mark.parametrize(
    "chapter", [c for c in chapters.names() if "PRESETS" in chapters.source(c)]
)
def test_every_preset_of_every_chapter_can_be_described(chapter):
    for preset in chapters.load(chapter).PRESETS:
        for item in chapters.describe(chapter, preset):
            assert item.parameters
            assert min(item.parameters.values()) > 0


def test_nothing_stands_twice_across_chapters():
    seen = {}
    for chapter in chapters.names():
        module = chapters.load(chapter)
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "") == module.__name__
            if not own or name == "Config" or not inspect.isfunction(value):
                continue
            source = inspect.getsource(value)
            if source.count("\n") > 4:
                assert source not in seen, f"{name} stands in {seen[source]} and {chapter}"
                seen[source] = chapter


def test_meta_device_needs_no_memory():
    with torch.device("meta"):
        module = chapters.load("cinn")
        net = module.networks(module.FULL)["cinn"]
    assert next(net.parameters()).is_meta
