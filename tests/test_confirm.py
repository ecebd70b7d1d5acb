"""Confirming an older record: the code of then and of today, run side by side."""

import json
import os
import subprocess

import pytest

from minilib import __main__, chapters, confirm, ledger, notebooks, results


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with two commits of a "method", 1 and 2, and the first one's hash."""
    root = tmp_path / "clone"
    root.mkdir()

    def git(*command):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(root), *identity, *command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    for text in ("1", "2"):
        (root / "method").write_text(text)
        git("add", ".")
        git("commit", "-qm", text)
    monkeypatch.setattr(confirm, "ROOT", root)
    return root, git("rev-parse", "HEAD~1")


def record_of(commit: str, **changes):
    """A committed record, as if that commit had made it."""
    found = next(r for r in results.committed("cinn") if r["preset"] == "small")
    return {**found, "commit": commit, "code": {"chapters/cinn.md": "old"}, **changes}


def saved(record, folder):
    """The file of a record."""
    results.write(record, folder / "record.json")
    return folder / "record.json"


@pytest.fixture
def runs(monkeypatch):
    """Short runs replaced by ones that measure what ``measure`` makes of the method's text."""
    asked = []

    def replace(measure):
        def execute(root, chapter, settings, folder):
            asked.append((root, chapter, settings))
            metrics = measure((root / "method").read_text(), len(asked))
            return {"metrics": metrics, "commit": "new", "code": results.code_hashes("cinn")}

        monkeypatch.setattr(confirm, "execute", execute)
        return asked

    return replace


def test_the_old_commit_runs_beside_today_s_and_the_record_is_fresh_again(clone, runs, tmp_path):
    root, first = clone
    seen = []
    asked = runs(lambda text, i: seen.append(text) or {"loss": 0.5, "seconds": i})
    path = saved(record_of(first), tmp_path)
    assert results.stale(results.read(path)) == ["chapters/cinn.md"]
    assert ledger.age(results.read(path)).startswith("of older code")
    confirm.confirm(path)
    assert seen == ["1", "2", "2"]
    assert [settings for _, _, settings in asked] == [
        {"preset": "smoke", "task": next(iter(chapters.load("cinn").PRESETS["smoke"])), "seed": 0}
    ] * 3
    fresh = results.read(path)
    (entry,) = fresh["confirmed"]
    assert (entry["metrics"], entry["unsteady"], entry["commit"]) == (1, ["seconds"], "new")
    assert results.stale(fresh) == []
    assert ledger.age(fresh) == f"confirmed {entry['date'][:10]}"
    assert not asked[0][0].exists()
    listed = subprocess.run(["git", "-C", str(root), "worktree", "list"], capture_output=True)
    assert len(listed.stdout.splitlines()) == 1


def test_one_number_that_differs_in_the_last_digit_is_named(clone, runs, tmp_path):
    runs(lambda text, i: {"loss": 0.1 + 0.2 if text == "1" else 0.3})
    path = saved(record_of(clone[1]), tmp_path)
    before = path.read_text()
    with pytest.raises(confirm.NotConfirmed, match=r"'loss' was 0\.30000000000000004 and is 0\.3:"):
        confirm.confirm(path)
    assert path.read_text() == before


def test_a_metric_that_is_new_does_not_count_and_one_that_is_gone_does():
    same = {"a": 1.0, "new": 2.0}
    assert confirm.agreement({"a": 1.0}, same, same) == (1, [])
    with pytest.raises(confirm.NotConfirmed, match=r"'b' was 3\.0 and is None"):
        confirm.agreement({"a": 1.0, "b": 3.0}, same, same)


def test_nothing_but_clocks_confirms_nothing():
    with pytest.raises(confirm.NotConfirmed, match="measures nothing"):
        confirm.agreement({"seconds": 1.0}, {"seconds": 2.0}, {"seconds": 3.0})


def test_a_setting_that_changed_is_named_before_anything_runs(runs):
    asked = runs(lambda text, i: {"loss": 0.5})
    old = record_of("0" * 40)
    old["config"] = {**old["config"], "steps": 1234567}
    with pytest.raises(confirm.NotConfirmed, match="setting 'steps' was 1234567 and is"):
        confirm.same_settings(old)
    with pytest.raises(confirm.NotConfirmed, match="setting 'momenta' was 1 and is gone"):
        confirm.same_settings({**old, "config": {"momenta": 1}})
    with pytest.raises(confirm.NotConfirmed, match="no 'small moons' any more"):
        confirm.same_settings({**old, "task": "moons"})
    assert asked == []


def test_committed_records_have_the_settings_of_today_s_presets():
    for record in results.committed():
        confirm.same_settings(record)


def test_its_own_run_can_be_cut_short():
    old = record_of("0" * 40, overrides={"batch": 2}, seed=5)
    run = confirm.short_run(old, {"steps": 3})
    wanted = {"preset": "small", "task": old["task"], "seed": 5}
    assert run == {**wanted, "overrides": {"batch": 2, "steps": 3}}


@pytest.mark.parametrize(
    ("commit", "words"),
    [
        ("0" * 40, "commit 000000000000 is not in this clone"),
        ("0" * 40 + "+changes", "files that were not committed"),
        ("", "made from no commit"),
    ],
)
def test_what_cannot_be_brought_back_is_said_in_one_line(commit, words, clone, tmp_path, capsys):
    path = saved(record_of(commit), tmp_path)
    assert __main__.main(["confirm", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_overrides_must_name_settings(tmp_path, capsys):
    path = saved(record_of("0" * 40), tmp_path)
    assert __main__.main(["confirm", str(path), "--overrides", "3"]) == 2
    assert "name the settings" in capsys.readouterr().err


def test_a_short_run_that_fails_shows_its_last_line(tmp_path):
    words = "today.s code failed: .*unknown preset .smock"
    with pytest.raises(confirm.NotConfirmed, match=words):
        confirm.execute(confirm.ROOT, "cinn", {"preset": "smock"}, tmp_path / "run")


def test_kernels_import_the_library_that_runs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    notebooks.own_library()
    notebooks.own_library()
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(results.LIBRARY), "elsewhere"]


def test_the_schema_holds_a_confirmation_to_its_form():
    record = record_of("c" * 40)
    record["confirmed"] = [{"date": "2026-01-01"}]
    with pytest.raises(results.RecordError, match="commit"):
        results.validate(json.loads(json.dumps(record)))
