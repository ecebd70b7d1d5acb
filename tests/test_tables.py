import pytest

from minilib import chapters, results, tables


def test_a_table_is_aligned_text_and_escaped_html():
    table = tables.Table(["name", "value"], [["a<b", 1], ["longer", 2.5]], "What & why")
    lines = repr(table).splitlines()
    assert lines[0] == "What & why"
    assert [line.index(v) for line, v in zip(lines[1:], ("value", "1", "2.5"), strict=True)] == [
        8
    ] * 3
    markup = table._repr_html_()
    assert "<code>a&lt;b</code>" in markup
    assert "<td>2.5</td>" in markup
    assert "What &amp; why" in markup


@pytest.mark.parametrize(
    ("value", "text"),
    [(1500, "1,500"), (0.001, "0.001"), (True, "True"), ("x", "x"), (12.34, "12.34")],
)
def test_numbers_read_well(value, text):
    assert tables.number(value) == text


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.2, "12 s"), (4.5, "4.5 min"), (90, "90 min"), (192, "3.2 h"), (6600, "110 h"),
        (5930, "99 h"), (5990, "100 h"), (15_000, "10 days"),
    ],
)  # fmt: skip
def test_durations_read_well(minutes, text):
    assert tables.duration(minutes) == text


def test_presets_have_a_row_per_task():
    module = chapters.load("bicyclegan")
    body = tables.presets("bicyclegan").body
    assert [row[:2] for row in body] == [[p, t] for p in module.PRESETS for t in module.PRESETS[p]]
    facades = next(row for row in body if row[:2] == ["full", "facades"])
    assert facades[3] == f"{54_794_627 + 2 * 3_458_978 + 2_590_032:,}"


def record(preset, overrides, metrics):
    return {
        "chapter": "c", "preset": preset, "task": "t", "overrides": overrides, "metrics": metrics,
        "device": "a CPU", "seconds": 90.0,
    }  # fmt: skip


def test_records_on_real_data_show_settings_dashes_and_older_code(monkeypatch):
    made = [
        record("small", {"steps": 1500}, {"a": 0.12345}),
        record("toy", {}, {"a": 1.0}),
        record("full", {}, {"b": None}),
    ]
    monkeypatch.setattr(results, "committed", lambda chapter: made)
    monkeypatch.setattr(results, "stale", lambda r: ["x"] if r["preset"] == "full" else [])
    table = tables.records("c", {"A": "a", "B": "b"})
    assert table.header == ["run", "changed settings", "A", "B", "on"]
    assert table.body == [
        ["small t", "steps 1,500", "0.123", "–", "a CPU, 1.5 min"],
        ["full t", "as set", "–", "–", "a CPU, 1.5 min (of older code)"],
    ]


def test_what_only_shows_numbers_does_not_age_a_record():
    code = results.code_hashes("mode_collapse")
    assert "minilib/tables.py" in code  # it is noted all the same
    assert results.stale({"chapter": "mode_collapse", "code": code}) == []
    older = dict.fromkeys(code, "0" * 12)
    aged = results.stale({"chapter": "mode_collapse", "code": older})
    assert "minilib/training.py" in aged
    assert "chapters/mode_collapse.md" in aged
    assert not {"minilib/tables.py", "minilib/plots.py"} & set(aged)
