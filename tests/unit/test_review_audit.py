"""The log of the review store: whatever is done to it behind the program's back is found."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_leukocls.cli import main
from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.review import open_store
from napari_leukocls.review.audit import entries, export, verify
from napari_leukocls.review.log import Head
from tests.results import make_result


def filled(file: Path) -> Path:
    """A store with a bit of everything in it."""
    with open_store(file) as store:
        slide = store.add_slide(make_result(shape=(120, 200)))
        for cell, name in ((2, "monocyte"), (4, "blast"), (2, "basophil"), (6, "=1+1;blast")):
            store.correct(slide, cell, name.split(";")[-1], "Ada", name)
        store.undo(slide, "Ada")
        for cell in store.offered(slide):
            store.correct(slide, cell, "artefact", "Ada")
        reading = store.second_read(slide, "Ben")
        for cell in reading.cell_ids:
            reading.classify(cell, "lymphocyte")
        reading.finish()
        store.sign_off(slide, "Ada")
        store.set_goal(slide, 200, "Ben")
        store.sign_off(slide, "Ada")
    return file


def tamper(file: Path, *statements: str) -> None:
    """Change the database as somebody would who knows SQLite: the triggers are gone first."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(statement)


def faults(file: Path, anchor: Head | None = None) -> str:
    with open_store(file) as store:
        return "\n".join(verify(store, anchor).faults)


def test_an_untouched_log_is_whole(tmp_path: Path) -> None:
    file = filled(tmp_path / "r.sqlite3")
    assert faults(file) == ""
    with open_store(file) as store:
        actions = [entry["action"] for entry in entries(store)]
        assert actions[:2] == ["create", "analysis"]
        assert {"correct", "undo", "second_read", "read", "second_read_finished", "sign_off"} <= set(actions)
        said = next(entry for entry in entries(store) if entry["action"] == "correct")
    assert (said["predicted"], said["to_class"], said["actor"]) == ("neutrophil", "monocyte", "Ada")


@pytest.mark.parametrize("table", ["audit", "corrections", "readings", "sign_offs", "lifts"])
@pytest.mark.parametrize("what", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid + 100"])
def test_the_database_itself_refuses_to_rewrite_history(tmp_path: Path, table: str, what: str) -> None:
    file = filled(tmp_path / "r.sqlite3")
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute(what.format(table))
    assert faults(file) == ""


TAMPERING: dict[str, tuple[Callable[[int], list[str]], str]] = {
    "an entry changed": (
        lambda n: ["UPDATE audit SET entry = replace(entry, 'Ada', 'Eve') WHERE seq = 5"],
        "entry 5 is not what was written",
    ),
    "an entry changed and hashed again": (lambda n: ["REHASH 5"], "entry 6 does not follow entry 5"),
    "an entry deleted": (lambda n: ["DELETE FROM audit WHERE seq = 5"], "entry 5 is missing"),
    "the first entry deleted": (lambda n: ["DELETE FROM audit WHERE seq = 1"], "entry 1 is missing"),
    "two entries swapped": (
        lambda n: [
            "UPDATE audit SET seq = -4 WHERE seq = 4",
            "UPDATE audit SET seq = 4 WHERE seq = 5",
            "UPDATE audit SET seq = 5 WHERE seq = -4",
        ],
        "moved",
    ),
    "the end cut off": (lambda n: [f"DELETE FROM audit WHERE seq > {n - 3}"], "its end was cut off"),
    "the end cut off and its record mended": (
        lambda n: [
            f"DELETE FROM audit WHERE seq > {n - 3}",
            "UPDATE audit_head SET seq = (SELECT max(seq) FROM audit), "
            "hash = (SELECT hash FROM audit ORDER BY seq DESC LIMIT 1)",
        ],
        "it was cut",
    ),
    "the record of the end deleted": (lambda n: ["DELETE FROM audit_head"], "end of the log is missing"),
    "the whole log deleted": (lambda n: ["DELETE FROM audit", "DELETE FROM audit_head"], "it was cut"),
    "a correction changed": (
        lambda n: ["UPDATE corrections SET to_class = 'blast' WHERE id = 1"],
        "correction 1 (cell 2) is not what the log says",
    ),
    "a correction deleted": (
        lambda n: ["DELETE FROM corrections WHERE id = 2"],
        "correction 2 is in the log",
    ),
    "a correction slipped in": (
        lambda n: [
            "INSERT INTO corrections SELECT 999, analysis, cell_id, action, revision, from_class, to_class, "
            "'Eve', reason, at, target, before FROM corrections WHERE id = 1"
        ],
        "correction 999 is not in the log",
    ),
    "another correction put in force": (
        lambda n: ["UPDATE cells SET in_force = 1 WHERE cell_id = 2"],
        "cell 2 of analysis 1 has another class",
    ),
    "a prediction changed": (
        lambda n: ["UPDATE cells SET predicted_class = 'blast' WHERE cell_id = 8"],
        "predictions of analysis 1",
    ),
    "another model named": (
        lambda n: ["UPDATE analyses SET classifier_sha256 = 'ef'"],
        "other models or settings",
    ),
    "a second read changed": (lambda n: ["UPDATE readings SET class = 'blast'"], "second reads"),
    "the reason of a lift changed": (lambda n: ["UPDATE lifts SET what = 'nothing'"], "lifted signatures"),
    "another name signed": (lambda n: ["UPDATE sign_offs SET reviewer = 'Eve'"], "signatures"),
}


@pytest.mark.parametrize("name", list(TAMPERING))
def test_tampering_is_found(tmp_path: Path, name: str) -> None:
    file = filled(tmp_path / "r.sqlite3")
    with closing(sqlite3.connect(file)) as connection:
        n = connection.execute("SELECT max(seq) FROM audit").fetchone()[0]
        previous, entry = connection.execute("SELECT previous, entry FROM audit WHERE seq = 5").fetchone()
    changed = entry.replace("Ada", "Eve")
    digest = hashlib.sha256((previous + changed).encode()).hexdigest()
    rehash = f"UPDATE audit SET entry = '{changed}', hash = '{digest}' WHERE seq = 5"
    statements, message = TAMPERING[name]
    tamper(file, *(rehash if text == "REHASH 5" else text for text in statements(n)))
    assert message in faults(file)
    assert message in faults(file), "looking does not mend it"


def test_an_exported_end_proves_a_cut_even_if_every_note_was_mended(tmp_path: Path) -> None:
    file = filled(tmp_path / "r.sqlite3")
    with open_store(file) as store:
        head = export(store, tmp_path / "log.jsonl")
    tamper(
        file,
        f"DELETE FROM audit WHERE seq = {head.seq}",
        "DELETE FROM sign_offs WHERE id = 2",
        "UPDATE audit_head SET seq = (SELECT max(seq) FROM audit), "
        "hash = (SELECT hash FROM audit ORDER BY seq DESC LIMIT 1)",
    )
    file.with_name("r.sqlite3.head").unlink()
    assert faults(file) == "", "the store alone cannot tell"
    assert "it was cut" in faults(file, Head.parse(str(head)))


def test_a_cut_stays_visible_when_work_goes_on(tmp_path: Path) -> None:
    file = filled(tmp_path / "r.sqlite3")
    tamper(
        file,
        "DELETE FROM audit WHERE seq > 3",
        "UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit WHERE seq = 3)",
    )
    with open_store(file) as store:
        slide = store.slides()[0].key
        for _ in range(30):
            store.set_goal(slide, 100)
    assert "noted" in faults(file)


@pytest.mark.parametrize("text", ["", "\0\0\0", "17:"])
def test_a_note_that_a_power_cut_has_emptied_stops_nobody(tmp_path: Path, text: str) -> None:
    file = filled(tmp_path / "r.sqlite3")
    note = file.with_name("r.sqlite3.head")
    note.write_text(text)
    assert faults(file) == ""
    with open_store(file) as store:
        store.set_goal(store.slides()[0].key, 100)
        assert note.read_text().strip() == str(verify(store).head)


def test_a_cut_behind_an_open_store_stays_visible(tmp_path: Path) -> None:
    file = filled(tmp_path / "r.sqlite3")
    with open_store(file) as store:
        slide = store.slides()[0].key
        store.set_goal(slide, 100)
        tamper(
            file,
            "DELETE FROM audit WHERE seq > 3",
            "UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit WHERE seq = 3)",
        )
        for _ in range(30):
            store.set_goal(slide, 200)
    assert "noted" in faults(file)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seq=st.integers(1, 15), at=st.floats(0, 1, exclude_max=True), sign=st.characters(codec="ascii"))
@example(seq=1, at=0.14387370544492706, sign="0")  # an entry that can be read, with another name in it
def test_any_one_changed_character_is_found(tmp_path: Path, seq: int, at: float, sign: str) -> None:
    file = tmp_path / "shared.sqlite3"
    if not file.exists():
        filled(file)
    with closing(sqlite3.connect(file)) as connection:
        (entry,) = connection.execute("SELECT entry FROM audit WHERE seq = ?", (seq,)).fetchone()
    place = int(at * len(entry))
    changed = entry[:place] + sign + entry[place + 1 :]
    if changed == entry:
        return
    tamper(file)

    def put(text: str) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("UPDATE audit SET entry = ? WHERE seq = ?", (text, seq))

    put(changed)
    assert f"entry {seq} " in faults(file)
    put(entry)
    assert faults(file) == ""


def test_the_export_can_be_checked_by_other_means(tmp_path: Path) -> None:
    file = filled(tmp_path / "r.sqlite3")
    with open_store(file) as store:
        head = export(store, tmp_path / "log.jsonl")
        assert export(store, tmp_path / "log.csv", "csv") == head
        with pytest.raises(ArgumentError, match="jsonl or csv"):
            export(store, tmp_path / "log.xml", "xml")
    previous = "0" * 64
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        assert (row["seq"], row["previous"]) == (number, previous)
        previous = hashlib.sha256((previous + row["entry"]).encode()).hexdigest()
        assert row["hash"] == previous
    assert str(head) == f"{len(lines)}:{previous}"
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(lines)
    reasons = [row["reason"] for row in rows if row["reason"]]
    assert "'=1+1;blast" in reasons, "a spreadsheet does not run it"


def test_the_command_line_checks_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["audit", "verify"]) == 2
    assert "there is no review store" in capsys.readouterr().err
    file = filled(tmp_path / "r.sqlite3")
    assert main(["audit", "verify", "--store", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the log is whole: ")
    head = said.split()[-1]
    monkeypatch.setenv("LEUKOCLS_REVIEW_STORE", str(file))
    assert main(["audit", "verify", "--anchor", head, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head"] == head
    assert main(["audit", "export", "--out", str(tmp_path / "log.csv"), "--format", "csv"]) == 0
    assert head in capsys.readouterr().out
    assert main(["audit", "verify", "--anchor", "nonsense"]) == 2
    assert "not an entry of a log" in capsys.readouterr().err
    tamper(file, "UPDATE audit SET entry = replace(entry, 'Ada', 'Eve')")
    assert main(["audit", "verify"]) == 1
    seen = capsys.readouterr()
    assert "the log is NOT whole" in seen.out and "is not what was written" in seen.err
    assert main(["audit", "export", "--out", str(tmp_path / "no" / "log.csv")]) == 2


def test_an_anchor_is_checked_for_its_form() -> None:
    for text in ("", "1", "x:" + "0" * 64, "1:" + "g" * 64, "1:00"):
        with pytest.raises(ReviewError, match="NUMBER:HASH"):
            Head.parse(text)
