"""Two records side by side: ``python -m minilib compare RECORD RECORD``."""

import json
from functools import cache

import pytest

from minilib import __main__ as cli
from minilib import compare, results


@pytest.fixture(autouse=True)
def hashed_once(monkeypatch):
    """Hashing a chapter's code takes a moment; nothing changes it here."""
    monkeypatch.setattr(results, "code_hashes", HASHES)


HASHES = cache(results.code_hashes)
CODE = {"chapters/cinn.md": "0" * 12, "minilib/runs.py": "1" * 12}


def record(**changes):
    """A whole record of a small run."""
    plain = {
        "chapter": "cinn", "preset": "small", "task": "mnist", "overrides": {}, "seed": 0,
        "config": {"steps": 10, "rate": 0.001, "variants": ["a", "b"]}, "commit": "c" * 40,
        "lock": "", "code": CODE, "data": {"mnist": "d" * 64}, "device": "a CPU", "torch": "2",
        "python": "3", "sittings": [{"started": "2026-01-01T00:00:00"}],
        "started": "2026-01-01T00:00:00", "finished": "2026-01-01T00:10:00", "seconds": 600.0,
        "training": {"cinn": {"steps": 10, "seconds": 500.0}}, "peak_memory_mb": 100.0,
        "parameters": {"cinn": 5}, "metrics": {"x": 1.0}, "checks": {"ok": True},
        "targets": {"x": {"value": 1.0, "target": ">= 2", "met": False}}, "protocol": ["how"],
        "status": "finished",
    }  # fmt: skip
    results.validate(plain | changes)
    return plain | changes


def tables(a, b):
    return {table.header[0]: table for table in compare.compare(a, b)}


def row(table, name):
    return next(line[1:] for line in table.body if line[0] == name)


def test_only_settings_that_differ_are_shown():
    b = record(config={"steps": 2000, "rate": 0.001, "variants": ["a"]}, data={"usps": "e" * 64})
    found = tables(record(), b)
    assert found["setting"].body == [
        ["steps", "10", "2,000"],
        ["variants", "a, b", "a"],
        ["data.mnist", "dddddddddddd…", "–"],
        ["data.usps", "–", "eeeeeeeeeeee…"],
    ]
    assert "setting" not in tables(record(), record())


def test_code_that_differs_is_named_and_code_that_is_older_is_counted():
    a, b = record(), record(code=CODE | {"minilib/runs.py": "2" * 12})
    found = tables(a, b)["run"]
    assert found.caption == "Code: differs in minilib/runs.py."
    assert row(found, "code since") == ["changed in 2 files"] * 2
    assert tables(a, a)["run"].caption == "Code: the same in both."
    today = record(code=results.code_hashes("cinn"))
    assert row(tables(today, a)["run"], "code since")[0] == "unchanged"
    gone = record(chapter="nowhere")
    assert row(tables(gone, a)["run"], "code since")[0] == "no such chapter now"


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ({"x": 1.0, "x.std": 0.3}, {"x": 1.8, "x.std": 0.4}, "within the spread"),
        ({"x": 1.0, "x.std": 0.3}, {"x": 2.5, "x.deviation": 0.4}, "3.0 deviations"),
        ({"x": 1.0, "x.std": 0.0}, {"x": 1.0, "x.std": 0.0}, "within the spread"),
        ({"x": 1.0, "x.std": 0.0}, {"x": 1.5, "x.std": 0.0}, "differ"),
        ({"x": 1.0, "x.std": 0.3}, {"x": 9.0}, ""),
        ({"x": None, "x.std": 0.3}, {"x": 9.0, "x.std": 1.0}, ""),
    ],
)
def test_metrics_are_judged_by_their_spread(a, b, apart):
    found = tables(record(metrics=a), record(metrics=b))["metric"]
    assert [line[0] for line in found.body] == ["x"]
    assert row(found, "x")[3] == apart


def test_values_spreads_and_differences_are_shown():
    a, b = record(metrics={"x": 1.0, "x.std": 0.25}), record(metrics={"x": 0.5, "y": 3.0})
    found = tables(a, b)["metric"]
    assert row(found, "x")[:3] == ["1 ± 0.25", "0.5", "-0.5"]
    assert row(found, "y")[:3] == ["–", "3", "–"]


def test_checks_and_targets_stand_beside_each_other():
    found = tables(record(), record(checks={"ok": False, "new": True}, targets={}))
    assert found["check or target"].body == [
        ["new", "–", "held"],
        ["ok", "held", "failed"],
        ["target x", "not met (>= 2)", "–"],
    ]


def test_command_line_takes_files_and_run_folders(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text(json.dumps(record(seed=7)))
    (tmp_path / "b.json").write_text(json.dumps(record()))
    assert cli.main(["compare", str(tmp_path / "run"), str(tmp_path / "b.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("A  ")
    assert lines[0].endswith("run")
    assert [line.split() for line in lines if line.startswith("seed")] == [["seed", "7", "0"]]


@pytest.mark.parametrize(
    "content",
    [None, b"\xff\xfe\x00", b"{", b"[]", b'"text"', b'{"chapter": 3}', "folder"],
    ids=["none", "binary", "cut", "list", "text", "lacking", "folder"],
)
def test_what_is_no_record_is_one_line_that_names_the_file(content, tmp_path, capsys):
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    good.write_text(json.dumps(record()))
    if content == "folder":
        bad.mkdir()
    elif content is not None:
        bad.write_bytes(content)
    assert cli.main(["compare", str(good), str(bad)]) == 2
    error = capsys.readouterr().err
    assert "bad.json" in error
    assert "is not a record" in error
    assert error.count("\n") == 1
