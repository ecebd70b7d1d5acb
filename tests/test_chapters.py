import ast
import inspect
import json
import os
import pickle
import subprocess
import sys
import textwrap

import nbformat
import pytest
import torch

from minilib import chapters, paths, results
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
    os.utime(tiny, ns=(1, 1))
    assert chapters.load("tiny").Config().width == 4


def test_definitions_pickle(tiny):
    module = chapters.load("tiny")
    assert isinstance(pickle.loads(pickle.dumps(module.Thing())), module.Thing)


def test_a_worker_that_unpickles_and_then_loads_has_one_module(tiny):
    pickled = pickle.dumps(chapters.load("tiny").Thing())
    del sys.modules["minilib_chapter_tiny"]  # as in a fresh process
    thing = pickle.loads(pickled)
    assert isinstance(thing, chapters.load("tiny").Thing)


def test_a_chapter_that_fails_to_load_leaves_nothing(tiny):
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
    assert before["chapters/tiny.md"] == "75384ec62978"  # the same with every version of Python
    tiny.write_text(TINY.replace("class Thing:\n", "class Thing:  # a remark\n\n"))
    assert results.code_hashes("tiny") == before
    shows = "\n```{code-cell} ipython3\n:tags: [record]\n\nprint('of records')\n```\n"
    tiny.write_text(TINY + shows)
    assert results.code_hashes("tiny") == before
    tiny.write_text(TINY + shows.replace("record]", "hide-input]"))
    assert results.code_hashes("tiny") != before
    tiny.write_text(TINY.replace(", 2)}", ", 3)}"))
    assert results.code_hashes("tiny") != before


LOOP = """\
for name in "ab":
    total = f"{name!r:#>8} # not a remark"  # a remark
    steps = 1

    print("# neither")
"""


def test_code_text_drops_remarks_and_keeps_indentation():
    plain = chapters.code_text(LOOP)
    assert plain.splitlines() == [
        'for name in "ab":',
        '    total = f"{name!r:#>8} # not a remark"',
        "    steps = 1",
        '    print("# neither")',
    ]
    moved = LOOP.replace("    print", "print")
    assert chapters.code_text(moved) != plain


def page(*cells):
    fences = [f"```{{code-cell}} ipython3\n:tags: [definition]\n\n{c}\n```\n" for c in cells]
    return "# Page\n\n" + "\n".join(fences)


def test_a_hash_follows_loaded_chapters_and_packages(tiny):
    tiny.with_name("top.md").write_text(
        page("from minilib import chapters", 'middle = chapters.load("middle")')
    )
    middle = page('from minilib.chapters import load\ntiny = load("tiny")')
    middle += "\n```{code-cell} ipython3\nfrom minilib import images\n```\n"
    tiny.with_name("middle.md").write_text(middle)
    before = results.code_hashes("top")
    assert {"chapters/top.md", "chapters/middle.md", "chapters/tiny.md"} <= before.keys()
    assert {"minilib/chapters.py", "minilib/results.py", "minilib/config.py"} <= before.keys()
    assert "minilib/images.py" not in before  # load() runs the definitions only
    tiny.write_text(TINY.replace(", 2)}", ", 3)}"))
    after = results.code_hashes("top")
    assert [name for name in before if before[name] != after[name]] == ["chapters/tiny.md"]


def test_packages_are_followed_and_relative_imports():
    assert "minilib/explore/__init__.py" in results._module_files("minilib.explore.Interpolator")
    assert results._module_files("torch.nn") == set()
    inside = results._imports(
        "minilib/explore/latent.py", "from . import pack\nfrom ..config import a"
    )
    assert {"minilib.explore.pack", "minilib.config"} <= inside


def test_reached_modules_are_followed(tiny):
    tiny.write_text(page("import torch\n%matplotlib inline"))
    assert set(results.reached("tiny")) == {"chapters/tiny.md"}
    tiny.write_text(page("from minilib import explore"))
    reached = set(results.reached("tiny"))
    assert {"minilib/explore/__init__.py", "minilib/explore/export.py"} <= reached
    assert "minilib/plots.py" in reached


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ('chapters.load("spade")', {"spade"}),
        ("x = [load('a'), chapters.load('b').Config]", {"a", "b"}),
        ('"""Like load("cinn")."""\nload(name)\n# load("cinn")', set()),
    ],
)
def test_loaded_chapters(code, names):
    assert chapters.loaded_chapters(code) == names


FORMS = """\
---
claim: 'It''s so: one line,
  and a second.'
---

```{code-cell} ipython3
:tags: [hide-input, definition]
:other: true

a = 1
```

````{note}
```{code-cell} ipython3
nested = True
```
````

Text with ```code``` in it.

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-a
tags: [definition,
  hide-input]
---
b = \'\'\'
~~~
\'\'\'
```

```python
c = 1
```

`````{code-cell} ipython3
---
tags:
- definition
- remove-cell
---

d = "```"


`````

```{code-cell} ipython3

```

~~~{code-cell} ipython3

:e
~~~
"""


def jupytext_cells(name):
    code = [c for c in chapters.read(name).cells if c.cell_type == "code"]
    return [(c.source.rstrip("\n"), tuple(c.metadata.get("tags", ()))) for c in code]


def test_cells_in_every_form_are_those_of_jupytext(tiny):
    tiny.write_text(FORMS)
    cells = chapters.cells(FORMS)
    assert [(c.source, c.tags) for c in cells] == jupytext_cells("tiny")
    assert len(cells) == 5
    for cell in filter(lambda c: c.source, cells):
        assert FORMS.split("\n")[cell.line] == cell.source.split("\n")[0]
    assert chapters.claim("tiny") == chapters.read("tiny").metadata["claim"]


@pytest.mark.parametrize("chapter", chapters.names())
def test_cells_and_claim_of_every_chapter_are_those_of_jupytext(chapter):
    cells = chapters.cells(chapters.path_of(chapter).read_text("utf-8"))
    assert [(c.source, c.tags) for c in cells] == jupytext_cells(chapter)
    assert chapters.claim(chapter) == chapters.read(chapter).metadata["claim"]


WITHOUT = """
import sys
for name in ("jupytext", "fastjsonschema", "yaml", "nbformat"):
    sys.modules[name] = None
from minilib import chapters, results
print(chapters.claim("cinn"), chapters.load("cinn").__name__, len(results.code_hashes("cinn")))
try:
    results.validate({name: 0 for name in results.SCHEMA["required"] if name != "metrics"})
except results.RecordError as error:
    print(error)
"""


def test_records_and_chapters_need_no_jupyter_on_a_training_machine():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "minilib_chapter_cinn" in done.stdout
    assert done.stdout.endswith("record: metrics missing\n")


def test_only_finished_runs_without_overrides_are_measurements(tiny, tmp_path, monkeypatch):
    numbers = {"integer": 0, "number": 90.0, "object": {}, "array": [{"started": ""}]}
    parts = {n: p.get("type") for n, p in results.SCHEMA["properties"].items()}
    record = {n: None if isinstance(t, list) else numbers.get(t, "") for n, t in parts.items()}
    record |= {"chapter": "tiny", "preset": "toy", "task": "line", "device": "this", "protocol": []}
    record["confirmed"] = []
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for number, changes in enumerate(
        [
            {"status": "finished", "finished": "1"},
            {"status": "failed", "finished": "2", "seconds": 1.0},
            {"status": "finished", "finished": "3", "seconds": 2.0, "overrides": {"width": 2}},
        ]
    ):
        results.write(record | changes, tmp_path / f"{number}.json")
    (item,) = chapters.describe("tiny", "toy")
    assert (item.minutes, item.hardware, item.measured) == (1.5, "this", True)
    (tmp_path / "3.json").write_text(json.dumps({"chapter": "tiny"}))
    with pytest.raises(results.RecordError):
        chapters.describe("tiny", "toy")


def test_outside_a_clone_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "CHAPTERS", tmp_path)
    with pytest.raises(ConfigError, match=r"run from a clone .*, or set MINILIB_ROOT to one"):
        chapters.load("cinn")
    monkeypatch.setenv("MINILIB_ROOT", str(tmp_path))
    assert paths.root() == tmp_path.resolve()
    monkeypatch.delenv("MINILIB_ROOT")
    assert paths.root() == paths.ROOT


def test_the_lock_and_the_commit_are_named_only_where_they_say_what_ran(tmp_path, monkeypatch):
    lock = "".join(f"{n}=={results._installed(n)} \\\n    --hash=x\n" for n in results.NUMERIC)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.lock_hash() == ""
    (tmp_path / "requirements.lock").write_text(lock)
    assert len(results.lock_hash()) == 12
    monkeypatch.setattr(results, "_installed", lambda name: "0.1")
    assert results.lock_hash() == ""
    monkeypatch.setattr(results, "ROOT", paths.CHAPTERS)  # in a repository, but not its top
    assert results.commit() == ""


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


def definitions(text):
    """(name, ast without name and docstrings) of functions and classes of more than 4 lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "Config":
            for part in ast.walk(node):
                if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part):
                    part.body = part.body[1:]
            name, node.name = node.name, ""
            if ast.unparse(node).count("\n") >= 4:
                yield name, ast.dump(node)


def twice(sources):
    seen, found = {}, []
    for file, text in sources.items():
        for name, shape in definitions(text):
            if shape in seen:
                found.append(f"{file}: {name} stands in {seen[shape]} too")
            seen[shape] = f"{file} as {name}"
    return found


def test_nothing_stands_twice_in_chapters_and_library():
    sources = {c: chapters.python(chapters.path_of(c).read_text("utf-8")) for c in chapters.names()}
    library = sorted((paths.ROOT / "minilib").rglob("*.py"))
    sources |= {
        path.relative_to(paths.ROOT).as_posix(): path.read_text("utf-8") for path in library
    }
    assert twice(sources) == []


def test_what_stands_twice_is_found_under_another_name_and_docstring():
    body = "    a = 1\n    b = 2\n    c = 3\n    return a + b + c\n"
    one, other = f"def f():\n{body}", f'def g():\n    """Add."""\n{body}  # numbers'
    assert twice({"one": one, "other": other}) == ["other: g stands in one as f too"]
    assert twice({"one": one, "other": other.replace("2", "4")}) == []


def test_meta_device_needs_no_memory():
    with torch.device("meta"):
        module = chapters.load("cinn")
        net = module.networks(module.FULL)["cinn"]
    assert next(net.parameters()).is_meta
