"""The review store among several processes: killed in the middle, on one file, and on a PostgreSQL server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from napari_leukocls.errors import ReviewConflict, ReviewError
from napari_leukocls.review import open_store
from napari_leukocls.review.audit import verify
from tests.postgresql import server
from tests.results import make_result

ROOT = Path(__file__).resolve().parents[2]

#: A station that corrects 200 cells and says each one that the store has acknowledged.
STATION = """
import sys
from napari_leukocls.review import open_store
url, slide, seed = sys.argv[1:]
import random
draw = random.Random(int(seed))
store = open_store(url)
store.corrections(slide)
print("ready", flush=True)
for number in range(200):
    cell, name = draw.randrange(1, 101), draw.choice(["blast", "monocyte", "basophil", "artefact"])
    said = store.correct(slide, cell, name, "Ada", f"{seed}/{number}")
    print(said.cell_id, said.corrected_class, said.revision, said.reason, flush=True)
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def database(postgresql: str) -> Iterator[str]:
    """A new database on the server."""
    name = f"t{random.randrange(10**9)}"
    engine = sa.create_engine(
        postgresql.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    yield postgresql.rsplit("/", 1)[0] + f"/{name}"


def killed_while_correcting(url: str, times: int, seed: int) -> None:
    """Kill a station `times` times and look for everything that was acknowledged."""
    draw = random.Random(seed)
    with open_store(url) as store:
        slide = store.add_slide(make_result(shape=(400, 400), every=1))
    acknowledged: list[list[str]] = []
    cut = 0
    for turn in range(times):
        station = subprocess.Popen(
            [sys.executable, "-c", STATION, url, slide, str(turn)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert station.stdout is not None
        assert station.stdout.readline() == "ready\n"
        for _ in range(draw.randrange(1, 150)):
            acknowledged.append(station.stdout.readline().split())
        time.sleep(draw.random() * 0.02)
        station.send_signal(signal.SIGKILL)
        rest, _ = station.communicate()
        # A line that was cut short was not acknowledged.
        acknowledged += [line.split() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        cut += station.returncode == -signal.SIGKILL
        with open_store(url) as store:
            found = verify(store)
            assert found.whole, found.faults
            kept = {(said.reason, said.cell_id): said for said in store.history(slide)}
            for cell, name, revision, reason in acknowledged:
                said = kept[reason, int(cell)]
                assert (said.corrected_class, said.revision) == (name, int(revision))
            # At most the one that was under way may be there without having been said.
            assert len(kept) - len(acknowledged) <= turn + 1
    assert cut == times, "each was killed in the middle"


def test_a_killed_station_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed_while_correcting(str(tmp_path / "r.sqlite3"), times=2, seed=1)


@pytest.mark.slow
def test_twenty_killed_stations_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed_while_correcting(str(tmp_path / "r.sqlite3"), times=20, seed=2)


def test_a_station_killed_on_a_server_loses_nothing(database: str) -> None:
    killed_while_correcting(database, times=2, seed=3)


def test_two_stations_on_a_server(database: str) -> None:
    result = make_result()
    with open_store(database) as one, open_store(database) as two:
        slide = one.add_slide(result, patient="' OR 1=1 --")
        assert two.add_slide(result) == slide
        one.correct(slide, 2, "monocyte", "Robert'); DROP TABLE corrections;--")
        with pytest.raises(ReviewConflict):
            two.correct(slide, 2, "blast", "Ben")
        two.correct(slide, 2, "blast", "Ben")
        two.undo(slide, "Ben")
        two.redo(slide, "Ben")
        assert one.corrections(slide)[2].corrected_class == "blast"
        for cell in one.offered(slide):
            one.correct(slide, cell, "artefact", "Ada")
        one.set_goal(slide, 5)
        reading = two.second_read(slide, "Eve")
        for cell in reading.cell_ids:
            reading.classify(cell, "lymphocyte")
        reading.finish()
        one.sign_off(slide, "Ada")
        assert len(one.crop_table()) > 0
        assert [len(two.history(slide)), two.signed(slide) is not None] == [len(one.history(slide)), True]
        assert verify(one).whole and verify(two).whole


def test_the_server_refuses_to_rewrite_history_and_shows_it_when_forced(database: str) -> None:
    with open_store(database) as store:
        slide = store.add_slide(make_result())
        store.correct(slide, 2, "blast", "Ada")
        for statement in (
            "DELETE FROM audit",
            "UPDATE corrections SET reviewer = 'Eve'",
            "TRUNCATE audit",
            "DELETE FROM sign_offs",
        ):
            with pytest.raises(ReviewError, match="only be added to"), store.database.write() as connection:
                connection.execute(sa.text(statement))
        assert verify(store).whole
        head = verify(store).head
        with store.database.write() as connection:
            connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER ALL"))
            connection.execute(sa.text("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"))
            connection.execute(
                sa.text(
                    "UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1)"
                )
            )
        faults = verify(store, head).faults
        assert any("it was cut" in fault for fault in faults)
        assert any("correction 1 is not in the log" in fault for fault in faults)


def test_stations_that_open_a_new_database_together(database: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_store(database), range(6)))
    result = make_result()
    slide = stores[0].add_slide(result)
    ids = [int(cell) for cell in result.cells["cell_id"]][:30]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda cell: stores[cell % 6].correct(slide, cell, "blast", f"R{cell % 6}"), ids))
    assert set(stores[0].corrections(slide)) == set(ids)
    assert verify(stores[0]).whole
    for store in stores:
        store.close()


def test_the_tables_on_a_server_are_those_of_the_program(database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from napari_leukocls.review.schema import metadata

    with open_store(database) as store, store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
