"""`twinspect users`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from cell.web.users import UsersFile

users_app = typer.Typer(
    name="users", help="Say who may use the operator's page.", no_args_is_help=True, rich_markup_mode=None
)

Users = Annotated[Path, typer.Option(help="File of names, roles and password hashes.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as it goes on record.")]
DEFAULT_USERS = Path("runs/users.json")


@users_app.command()
def add(
    name: Name,
    role: Annotated[
        Literal["viewer", "operator"], typer.Option(help="A viewer reads; an operator decides and commands the line.")
    ] = "operator",
    users: Users = DEFAULT_USERS,
) -> None:
    """Add a person, or give one another role and password; asks for the password."""
    file = _file(users)
    file.put(name, role, typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    typer.echo(f"{name} is {role} in {users}")


@users_app.command()
def remove(name: Name, users: Users = DEFAULT_USERS) -> None:
    """Remove a person, whose sessions end at once."""
    _file(users).remove(name)
    typer.echo(f"{name} is no longer in {users}")


@users_app.command("list")
def list_users(users: Users = DEFAULT_USERS) -> None:
    """Show who may use the page."""
    for name, user in sorted(_file(users).all().items()):
        typer.echo(f"{name}: {user.role}")


def _file(path: Path) -> UsersFile:
    from cell.interfaces import ConfigError

    try:
        from cell.web.users import UsersFile
    except ModuleNotFoundError as error:
        raise ConfigError(f"the operator's page needs {error.name}: pip install 'twinspect[web]'") from error
    return UsersFile(path)
