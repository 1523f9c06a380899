"""The connection to a database of records: transactions, durability, migrations and clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.files import make_folder
from cell.records.schema import REVISION

_BUSY_S = 10.0
_FAILURES = (SQLAlchemyError, OSError, ModuleNotFoundError)
_WRITER = 0x7477696E  # any number, as long as all writers ask PostgreSQL for the same lock


class Database:
    """Records that are open; a context manager.

    Parameters
    ----------
    address : Address
    create : bool
        Make database and folder of pictures where there are none; otherwise that is an error.
    """

    def __init__(self, address: Address, *, create: bool = False) -> None:
        self.address = address
        self._create = create
        self._inode: int | None = None

    def __enter__(self) -> Self:
        file = self.address.file
        if file is not None and not self._create and not file.is_file():
            raise CellError(f"There are no records at {self.address}; `twinspect inspect` makes them")
        with self._clear_errors():
            if self._create:
                make_folder(self.address.pictures)
                if file is not None:
                    make_folder(file.parent)
            self._engine = _engine(self.address)
            try:
                self._migrate()
                self._inode = file.stat().st_ino if file is not None else None
            except BaseException:
                self._engine.dispose()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a transaction in which nobody else writes, committed to the disk at the end.

        Raises
        ------
        CellError
            That failed; nothing of it is stored.
        """
        with self._clear_errors():
            self._refuse_another_file()
            with Session(self._engine.execution_options(writing=True)) as session, session.begin():
                yield session
            self._refuse_another_file()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a transaction that sees one state of the records and keeps nobody waiting."""
        # What the caller does with files of its own is no fault of the records.
        with self._clear_errors((SQLAlchemyError,)), Session(self._engine) as session:
            yield session

    def _refuse_another_file(self) -> None:
        """SQLite goes on writing into a file that was deleted."""
        file = self.address.file
        if file is not None and (not file.exists() or file.stat().st_ino != self._inode):
            raise FileNotFoundError(f"{file} was removed or replaced while it was in use")

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            found = _revision(connection)
        if found == REVISION:
            return
        if found is None and not self._create:
            raise CellError(f"{self.address} holds no records of twinspect")
        with self._engine.execution_options(writing=True).begin() as connection:
            found = _revision(connection)
            if found is None and inspect(connection).get_table_names():
                raise CellError(
                    f"{self.address} holds tables that this version of twinspect did not make; give another database"
                )
            if found is not None and found > REVISION:
                raise CellError(
                    f"{self.address} was written by a newer version of twinspect (schema {found}, this one reads "
                    f"{REVISION}); install that version"
                )
            _upgrade(connection)

    @contextmanager
    def _clear_errors(self, kinds: tuple[type[Exception], ...] = _FAILURES) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            raise CellError(
                f"The records at {self.address} cannot be used: {str(error).splitlines()[0]}; "
                "no part is inspected that cannot be recorded"
            ) from error


def _engine(address: Address) -> Engine:
    if address.file is None:
        engine = create_engine(address.url)
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    timeout = {} if "timeout" in address.url.query else {"timeout": _BUSY_S}
    engine = create_engine(address.url, connect_args={"isolation_level": None, **timeout})
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _durable(connection: Any, record: Any) -> None:
    """SQLite: what is committed survives a loss of power, and rows belong together."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts as a reader cannot become a writer after another one wrote: ask for that at once.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("writing", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, inside the connection's transaction."""
    # Only who makes or upgrades a database pays for loading this.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
