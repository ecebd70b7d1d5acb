"""The ledger of results: nothing in it but what the records say."""

import json

import pytest
from test_compare import hashed_once, record  # noqa: F401 (a fixture)

from minilib import chapters, ledger, results
from minilib.paths import RESULTS, ROOT


def commit(monkeypatch, *records):
    """Let these be the committed records."""
    monkeypatch.setattr(
        results,
        "committed",
        lambda chapter="": [r for r in records if chapter in ("", r["chapter"])],
    )


def test_the_schema_in_the_repository_is_the_one_that_records_are_held_to():
    stored = json.loads((ledger.SCHEMAS / "run.json").read_text())
    assert stored == json.loads(json.dumps(results.SCHEMA)), (
        "write it again: json.dumps(results.SCHEMA, indent=1)"
    )


def test_every_committed_record_has_its_row():
    files = sorted(RESULTS.glob("*.json"))
    assert files
    body = ledger.runs().body
    assert sorted(row[0] for row in body) == sorted(
        json.loads(f.read_text())["chapter"] for f in files
    )


def test_a_row_says_what_ran_and_whether_its_code_is_old():
    fresh = record(code=results.code_hashes("cinn"), overrides={"steps": 10})
    rows = [row for r in (fresh, record()) for row in ledger.runs([r]).body]
    named = [dict(zip(ledger.runs([]).header, row, strict=True)) for row in rows]
    assert named[0] == {
        "chapter": "cinn", "run": "small mnist, seed 0", "changed settings": "steps 10",
        "cost": "10 steps, 10 min, 100 MB; a CPU", "checks held": "1 of 1",
        "targets met": "0 of 1", "made": "2026-01-01, cccccccc", "code": "as today",
    }  # fmt: skip
    assert named[1]["changed settings"] == "none"
    assert named[1]["code"] == "of older code: chapters/cinn.md, minilib/runs.py"
    assert ledger.age(record(chapter="nowhere")) == "of a chapter that is gone"


def test_long_lists_are_counted():
    assert ledger.few(["a"]) == "a"
    assert ledger.few(list("abcde")) == "a, b, c, d, e"
    assert ledger.few(list("abcdef")) == "a, b, c, d and 2 more"


def test_the_record_nearest_to_the_paper_is_shown_and_the_newest_of_those(monkeypatch):
    runs = [record(preset=p, commit=c * 40, metrics={"x": v}) for p, c, v in (
        ("toy", "1", 1.0), ("small", "2", 2.0), ("small", "3", 3.0), ("study", "4", 4.0),
        ("full", "5", None))]  # fmt: skip
    commit(monkeypatch, *runs)
    assert ledger.best_record("cinn", {"ours": "x"})["commit"][0] == "3"
    assert ledger.best_record("cinn", {"ours": "y"}) is None
    assert ledger.best_record("cinn", {"ours": ""}) is None
    assert ledger.best_record("spade", {"ours": "x"}) is None
    assert ledger.best_record("cinn", {"ours": "x", "preset": "study"})["commit"][0] == "4"


def test_rivals_come_from_one_run_where_they_can(monkeypatch):
    rows = [{"chapter": "cinn", "ours": name} for name in ("x", "y")]
    monkeypatch.setattr(ledger, "paper_numbers", lambda: rows)
    both = record(commit="1" * 40, metrics={"x": 1.0, "y": 2.0})
    commit(monkeypatch, both, record(commit="2" * 40, metrics={"x": 3.0}))
    assert [ledger.best_record("cinn", row)["commit"][0] for row in rows] == ["1", "1"]
    chosen = {"chapter": "cinn", "ours": "x", "overrides": {"batch": 7}}
    commit(monkeypatch, both, record(commit="3" * 40, metrics={"x": 4.0}, overrides={"batch": 7}))
    assert ledger.best_record("cinn", chosen)["commit"][0] == "3"


def test_paper_and_book_stand_in_one_row(monkeypatch):
    entry = {
        "chapter": "cinn", "measure": "m", "paper": ".1", "place": "Table 1", "protocol": "theirs",
        "ours": "x", "gap": "why",
    }  # fmt: skip
    monkeypatch.setattr(ledger, "paper_numbers", lambda: [entry, entry | {"ours": "y"}])
    made = record(metrics={"x": 0.25, "x.std": 0.01}, code=results.code_hashes("cinn"))
    commit(monkeypatch, made)
    first, second = ledger.paper("cinn").body
    assert first == [
        "m", ".1", "Table 1", "theirs", "0.25 ± 0.01", "small mnist, no settings changed", "how",
        "why",
    ]  # fmt: skip
    assert second[4:7] == ["–", "–", "–"]
    monkeypatch.setattr(ledger, "paper_numbers", lambda: [entry | {"unit": "%"}])
    assert ledger.paper("cinn").body[0][4] == "25 ± 1 %"
    monkeypatch.setattr(ledger, "paper_numbers", lambda: [entry])
    commit(monkeypatch, made | {"code": {"chapters/cinn.md": "0"}})
    assert ledger.paper("cinn").body[0][5].endswith("(of older code)")
    assert ledger.paper("spade").body == []


def test_every_number_of_a_paper_says_where_it_is_printed_and_why_ours_differs():
    for entry in ledger.paper_numbers():
        assert all(entry[field] for field in ledger.FIELDS if field != "ours"), entry
        assert any(word in entry["place"] for word in ("Table", "table", "Fig.")), entry
    named = [(e["chapter"], e["measure"]) for e in ledger.paper_numbers()]
    assert len(set(named)) == len(named)


def test_our_measures_are_those_that_the_chapters_record():
    for entry in ledger.paper_numbers():
        if entry["ours"] and entry["chapter"] in chapters.names():
            text = chapters.path_of(entry["chapter"]).read_text()
            stem = entry["ours"].split(".")[0].removesuffix("_0_0")
            assert stem in text, entry


def test_a_paper_number_without_a_place_is_refused(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"chapter": "cinn", "measure": "m"}]))
    with pytest.raises(
        ledger.LedgerError, match=r"p\.json: 'm': gap, ours, paper, place, protocol"
    ):
        ledger.paper_numbers(tmp_path / "p.json")


def test_chapters_that_lack_a_record_of_real_data_are_named(monkeypatch):
    commit(monkeypatch)
    assert {"cinn", "bicyclegan"} <= set(ledger.without_records())
    assert not {"mode_collapse", "tinytown", "cgml"} & set(ledger.without_records())
    commit(monkeypatch, record())
    assert "cinn" not in ledger.without_records()


COST = {
    "chapter": "cinn", "preset": "full", "task": "mnist", "parameters": 1234567, "batch": 8,
    "shape": [1, 28, 28], "seconds": 0.5, "peak_memory_mb": 1500.4, "steps": 3, "note": "",
    "code": {"chapters/cinn.md": "0"},
}  # fmt: skip
COSTS = {
    "device": "a CPU", "torch": "2", "python": "3", "commit": "", "lock": "",
    "started": "2026-01-01T00:00:00", "finished": "2026-01-01T00:10:00", "rows": [COST],
}  # fmt: skip


def test_costs_become_a_table(tmp_path):
    skipped = COST | {"seconds": None, "peak_memory_mb": None, "note": "needs 90 GB"}
    (tmp_path / "cpu.json").write_text(json.dumps(COSTS | {"rows": [COST, skipped]}))
    (table,) = ledger.costs(tmp_path)
    assert table.body[0][2:] == [
        "1,234,567", "8", "1x28x28", "0.5", "16", "1,500", "of older code: chapters/cinn.md",
    ]  # fmt: skip
    assert table.body[1][-1] == "needs 90 GB"
    assert "a CPU" in table.caption


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a record of costs"),
        (json.dumps(COSTS | {"rows": [COST | {"seconds": -1}]}), "rows.0.seconds"),
        (json.dumps({"rows": []}), "record: device, .* missing"),
    ],
)
def test_costs_that_do_not_fit_are_refused_in_one_line(content, words, tmp_path):
    (tmp_path / "cpu.json").write_text(content)
    with pytest.raises(ledger.LedgerError, match=words) as caught:
        ledger.costs(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_committed_record_of_costs_fits():
    for path in sorted(ledger.COSTS.glob("*.json")):
        assert ledger.read_costs(path)["rows"]


@pytest.mark.chapter
def test_the_page_executes_and_shows_every_record(tmp_path):
    import jupytext
    import nbclient

    page = jupytext.read(ROOT / "book" / "ledger.md", fmt="md:myst")
    nbclient.NotebookClient(page, timeout=300, resources={"metadata": {"path": ROOT}}).execute()
    text = json.dumps(page)
    for file in RESULTS.glob("*.json"):
        assert json.loads(file.read_text())["commit"][:8] in text
    for chapter in ledger.with_numbers():
        assert f"Paper beside this book: {chapter}." in text
