"""The hash-chained log: what every change to the store writes, in the same transaction."""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.io.atomic import output_error
from napari_leukocls.paths import user_data_dir
from napari_leukocls.review.database import Database
from napari_leukocls.review.schema import audit, audit_head
from napari_leukocls.review.text import canonical, now, sha256

logger = logging.getLogger(__name__)

#: What the first entry is chained to.
ORIGIN = "0" * 64


@dataclass(frozen=True)
class Head:
    """Where the log ends: the number of its last entry, and that entry's hash."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read ``NUMBER:HASH`` as `str` writes it.

        Raises
        ------
        ReviewError
        """
        number, _, digest = text.strip().partition(":")
        if not number.isdigit() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ReviewError(
                f"'{text[:80]}' is no end of a log: give NUMBER:HASH as 'audit export' says it."
            )
        return cls(int(number), digest)


def chained(previous: str, entry: str) -> str:
    """Hash of an entry: SHA-256 of the previous hash and the entry's canonical JSON."""
    return sha256(previous + entry)


def begin(connection: Connection, store_id: str) -> None:
    """Write the first entry of a new store."""
    entry = canonical({"seq": 1, "at": now(), "actor": "", "action": "create", "store": store_id})
    digest = chained(ORIGIN, entry)
    connection.execute(audit.insert().values(seq=1, previous=ORIGIN, entry=entry, hash=digest))
    connection.execute(audit_head.insert().values(id=1, seq=1, hash=digest))


def is_new(connection: Connection) -> bool:
    """Whether nothing was ever written to a store."""
    return all(connection.execute(sa.select(table).limit(1)).first() is None for table in (audit, audit_head))


def leads_to(connection: Connection, noted: Head | None) -> bool:
    """Whether the log has the entry that was noted as its end; True where nothing was."""
    if noted is None:
        return True
    found = connection.execute(sa.select(audit.c.hash).where(audit.c.seq == noted.seq)).scalar()
    return found == noted.hash


def append(connection: Connection, actor: str, action: str, at: str, **details: Any) -> None:
    """Add an entry; to be called within the transaction that does what the entry says.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    actor : str
        Who did it; "" for the program.
    action : str
    at : str
        UTC, ISO 8601.
    **details
        Whatever JSON can hold.
    """
    head = head_of(connection)
    entry = canonical({**details, "seq": head.seq + 1, "at": at, "actor": actor, "action": action})
    digest = chained(head.hash, entry)
    connection.execute(audit.insert().values(seq=head.seq + 1, previous=head.hash, entry=entry, hash=digest))
    connection.execute(audit_head.update().where(audit_head.c.id == 1).values(seq=head.seq + 1, hash=digest))


def head_of(connection: Connection) -> Head:
    """Where the store says that its log ends.

    Raises
    ------
    ReviewError
        Where the record is gone.
    """
    row = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).first()
    if row is None:
        raise ReviewError("the review store has lost the end of its log; run 'leukocls audit verify'.")
    return Head(row.seq, row.hash)


def store_id(connection: Connection) -> str:
    """Name that the store gave itself when it was made; "" where its first entry is gone."""
    first = connection.execute(sa.select(audit.c.entry).where(audit.c.seq == 1)).scalar()
    try:
        return str(json.loads(first or "{}").get("store", ""))
    except ValueError:
        return ""


def anchor_file(database: Database) -> Path | None:
    """File outside the database that says where the log ended when it was last written to.

    Who cuts the end off the log, and mends the store's own record of it, has this file to mend as well.
    """
    beside = database.sqlite_file
    if beside is not None:
        return beside.with_name(beside.name + ".head")
    if database.engine.dialect.name != "postgresql":
        return None
    with database.read() as connection:
        name = store_id(connection)
    return user_data_dir() / "review-heads" / f"{sha256(name)[:32]}.head"


def write_anchor(file: Path | None, head: Head) -> None:
    """Write the end of the log to its file; the log itself is what lasts, so a plain rename will do."""
    if file is None:
        return

    temporary = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(f"{head}\n", encoding="ascii")
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise output_error(file, error) from error


def read_anchor(file: Path | None) -> Head | None:
    """The end of the log as its file has it; None where there is none, or a power cut has emptied it."""
    if file is None or not file.is_file():
        return None
    try:
        return Head.parse(file.read_text(encoding="ascii", errors="replace"))
    except ReviewError:
        # It is not synced with each correction, and made anew with the next.
        logger.warning("'%s' does not say where the log ended; the log is checked without it.", file)
        return None
