"""Where records lie: one address names the database and the folder of the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cell.interfaces import ConfigError

_PICTURES = "pictures"


@dataclass(frozen=True)
class Address:
    """A database with its folder of pictures.

    Attributes
    ----------
    url : URL
        SQLAlchemy's.
    pictures : Path
        Absolute folder.
    file : Path or None
        The database's file, for SQLite.
    """

    url: URL
    pictures: Path
    file: Path | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/DATABASE?pictures=FOLDER``.

        Without ``pictures=`` the pictures of an SQLite file lie beside it, in ``FILE.pictures``.

        Raises
        ------
        ConfigError
            It is no such address.
        """
        try:
            url = make_url(text)
        except ArgumentError as error:
            raise ConfigError(f"--records {text}: is no database URL; write e.g. sqlite:///records.sqlite") from error
        named = url.query.get(_PICTURES)
        url = url.difference_update_query([_PICTURES])
        file = None
        if url.get_backend_name() == "sqlite":
            if url.database in (None, "", ":memory:"):
                raise ConfigError(f"--records {text}: records need a file; write e.g. sqlite:///records.sqlite")
            file = Path(str(url.database)).absolute()
            url = url.set(database=str(file))
        if isinstance(named, str):
            pictures = Path(named).absolute()
        elif file is not None:
            pictures = file.with_name(f"{file.name}.{_PICTURES}")
        else:
            raise ConfigError(
                f"--records {shown(text)}: does not say where the pictures go; end it with ?pictures=/FOLDER"
            )
        return cls(url, pictures, file)

    def __str__(self) -> str:
        """Return the database's URL as it may be printed: without its password."""
        return self.url.render_as_string(hide_password=True)


def shown(text: str) -> str:
    """Return a database URL as it may be printed: without its password."""
    return make_url(text).render_as_string(hide_password=True)
