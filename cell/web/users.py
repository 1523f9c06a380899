"""Who may use the page: names, roles and password hashes in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cell.interfaces import ConfigError

Role = Literal["viewer", "operator"]
"""A viewer reads; an operator also decides about parts and commands the line."""

SHORTEST = 10
"""Of a password, in characters."""

_hasher = PasswordHasher()  # argon2id with the parameters of RFC 9106 for little memory: 64 MB, 3 passes


class User(BaseModel):
    """A person's role and the argon2 hash of the password."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    hash: str = Field(pattern=r"^\$argon2id\$")


class _Users(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    users: dict[str, User]


class UsersFile:
    """The file of the users; what is changed in it counts at once.

    Parameters
    ----------
    path : Path
        Need not exist: then there are no users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int] | None = None
        self._users: dict[str, User] = {}

    def all(self) -> dict[str, User]:
        """Return the users by name.

        Raises
        ------
        ConfigError
            The file is no file of users, or others than its owner may read it.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return {}
        if found.st_mode & 0o077:
            raise ConfigError(f"{self.path}: others may read or write it; `chmod 600 {self.path}`")
        if (found.st_mtime_ns, found.st_ino) != self._read_at:
            try:
                self._users = _Users.model_validate_json(self.path.read_bytes()).users
            except (OSError, ValidationError) as error:
                raise ConfigError(f"{self.path}: is no file of users that `twinspect users add` made") from error
            self._read_at = (found.st_mtime_ns, found.st_ino)
        return self._users

    def put(self, name: str, role: Role, password: str) -> None:
        """Add a user, or give one another role and password.

        Raises
        ------
        ConfigError
            The name is empty or too long, or the password too short.
        """
        if not name.strip() or len(name) > 80 or not name.isprintable():
            raise ConfigError("a user needs a name of at most 80 printable characters")
        if len(password) < SHORTEST:
            raise ConfigError(f"the password of {name} has {len(password)} characters; take {SHORTEST} or more")
        self._write({**self.all(), name: User(role=role, hash=_hasher.hash(password))})

    def remove(self, name: str) -> None:
        """Remove a user, whose sessions end with it."""
        users = dict(self.all())
        if users.pop(name, None) is None:
            raise ConfigError(f"{self.path}: there is no user {name}; `twinspect users list` shows who there is")
        self._write(users)

    def check(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are; takes as long for a name that there is not."""
        user = self.all().get(name)
        try:
            _hasher.verify(user.hash if user else _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _write(self, users: dict[str, User]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_name(self.path.name + ".part")
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(_Users(users=users).model_dump_json(indent=1) + "\n")
        half.replace(self.path)


_NOBODY = _hasher.hash(os.urandom(16).hex())
"""The hash of a password that nobody knows."""
