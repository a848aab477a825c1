"""The log of the store: each entry holds the hash of the one before, in the transaction of the change itself."""

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

#: The previous hash of the first entry.
ORIGIN = "0" * 64


@dataclass(frozen=True)
class Head:
    """The end of the log.

    Attributes
    ----------
    seq : int
        Number of the last entry.
    hash : str
        Of that entry.
    """

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read ``NUMBER:HASH``, as `str` writes it.

        Parameters
        ----------
        text : str

        Returns
        -------
        Head

        Raises
        ------
        ReviewError
            If it has another form.
        """
        number, _, digest = text.strip().partition(":")
        if not number.isdigit() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ReviewError(
                f"'{text[:80]}' is not an entry of a log: give NUMBER:HASH as 'leukocls audit export' prints it."
            )
        return cls(int(number), digest)


def chained(previous: str, entry: str) -> str:
    """The hash of an entry.

    Parameters
    ----------
    previous : str
        Hash of the entry before.
    entry : str
        The entry as `canonical` JSON.

    Returns
    -------
    str
        SHA-256 of both.
    """
    return sha256(previous + entry)


def begin(connection: Connection, store_id: str) -> None:
    """Write the first entry of a new store.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    store_id : str
        A random name of the store.
    """
    entry = canonical({"seq": 1, "at": now(), "actor": "", "action": "create", "store": store_id})
    digest = chained(ORIGIN, entry)
    connection.execute(audit.insert().values(seq=1, previous=ORIGIN, entry=entry, hash=digest))
    connection.execute(audit_head.insert().values(id=1, seq=1, hash=digest))


def is_new(connection: Connection) -> bool:
    """Whether nothing was ever written to a store.

    Parameters
    ----------
    connection : Connection

    Returns
    -------
    bool
    """
    return all(connection.execute(sa.select(table).limit(1)).first() is None for table in (audit, audit_head))


def leads_to(connection: Connection, noted: Head | None) -> bool:
    """Whether the log has the entry that was noted as its end.

    Parameters
    ----------
    connection : Connection
    noted : Head or None

    Returns
    -------
    bool
        True if nothing was noted.
    """
    if noted is None:
        return True
    found = connection.execute(sa.select(audit.c.hash).where(audit.c.seq == noted.seq)).scalar()
    return found == noted.hash


def append(connection: Connection, actor: str, action: str, at: str, **details: Any) -> None:
    """Add an entry, in the same transaction as the change that it describes.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    actor : str
        Who made the change; "" for the program.
    action : str
    at : str
        UTC, ISO 8601.
    **details
        Values that JSON can hold.

    Raises
    ------
    ReviewError
        If the record of the end of the log is missing.
    """
    head = head_of(connection)
    entry = canonical({**details, "seq": head.seq + 1, "at": at, "actor": actor, "action": action})
    digest = chained(head.hash, entry)
    connection.execute(audit.insert().values(seq=head.seq + 1, previous=head.hash, entry=entry, hash=digest))
    connection.execute(audit_head.update().where(audit_head.c.id == 1).values(seq=head.seq + 1, hash=digest))


def head_of(connection: Connection) -> Head:
    """The end of the log as the store has recorded it.

    Parameters
    ----------
    connection : Connection

    Returns
    -------
    Head

    Raises
    ------
    ReviewError
        If the record is missing.
    """
    row = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).first()
    if row is None:
        raise ReviewError(
            "the review store has no record of the end of its log; run 'leukocls audit verify'."
        )
    return Head(row.seq, row.hash)


def store_id(connection: Connection) -> str:
    """The random name that the store got when it was made.

    Parameters
    ----------
    connection : Connection

    Returns
    -------
    str
        "" if the first entry is missing.
    """
    first = connection.execute(sa.select(audit.c.entry).where(audit.c.seq == 1)).scalar()
    try:
        return str(json.loads(first or "{}").get("store", ""))
    except ValueError:
        return ""


def anchor_file(database: Database) -> Path | None:
    """The file outside the database that holds the end of the log.

    It is a second record: cutting entries off the log shows, unless this file is changed as well.

    Parameters
    ----------
    database : Database

    Returns
    -------
    Path or None
        None for a store in memory.
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
    """Write the end of the log to its file. The log itself is on the disk already, so the file is not synced.

    Parameters
    ----------
    file : Path or None
        Of `anchor_file`; nothing is written if it is None.
    head : Head

    Raises
    ------
    OutputError
        If it cannot be written.
    """
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
    """The end of the log as its file has it.

    Parameters
    ----------
    file : Path or None
        Of `anchor_file`.

    Returns
    -------
    Head or None
        None if there is no file, or it is empty after a power cut.
    """
    if file is None or not file.is_file():
        return None
    try:
        return Head.parse(file.read_text(encoding="ascii", errors="replace"))
    except ReviewError:
        # A power cut can empty the file; the next correction writes it again.
        logger.warning("'%s' is damaged; the log is checked without this note of its end.", file)
        return None
