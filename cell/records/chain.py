"""The hash chain: each entry's hash covers what was added and the entry before, so that a later change shows."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cell.records.schema import ContentRecord, Entry, Link

GENESIS = "0" * 64
"""What the first entry names as the one before."""


def canonical(value: Any) -> str:
    """Return JSON values as text: one text a value, whoever writes it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    """Return the hash of a text as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def link_hash(number: int, at: str, kind: str, previous: str, content: dict[str, Any]) -> str:
    """Return the hash of an entry."""
    return sha256(canonical([number, at, kind, previous, content]))


def append(session: Session, record: Link) -> int:
    """Add a record as the next entry and return its number.

    Parameters
    ----------
    session : Session
        In a transaction that keeps other writers out from its beginning, as `Database.writing` gives.
    record : Link
        New; its `entry` is set.
    """
    last = session.execute(select(Entry.number, Entry.hash).order_by(Entry.number.desc()).limit(1)).first()
    number, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    kind = record.__tablename__
    record.entry = number
    digest = link_hash(number, at, kind, previous, record.content())
    session.add(Entry(number=number, at=at, kind=kind, previous=previous, hash=digest))
    session.flush()
    session.add(record)
    session.flush()
    return number


def put_content(session: Session, text: str) -> str:
    """Store a text under its hash, once, and return the hash."""
    digest = sha256(text)
    if session.get(ContentRecord, digest) is None:
        session.add(ContentRecord(hash=digest, text=text))
        session.flush()
    return digest
