"""`twinspect serve`: the operator's page."""

from __future__ import annotations

import ipaddress
import os
import ssl
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select

from cell.commands.console import out as screen
from cell.config import Loaded, load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.records.address import Address, shown
from cell.records.candidates import require_approval
from cell.records.database import Database
from cell.records.run import description_of
from cell.records.schema import InspectionRecord
from cell.schema import CellFile
from cell.setup import Order
from detection import InspectorInfo

_ENDLESS = 1 << 31
# Below the line and its scorer, which pages must never slow down.
_NICENESS = 19


def run_serve(
    records: str,
    cell: str | None,
    part: str | None,
    model: Path | None,
    production: str,
    seed: int,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    users: Path,
) -> None:
    """Serve the pages until the process is asked to end, and own the line where there is one."""
    try:
        from cell.web.app import make_app, open_site, run_server
        from cell.web.line import LineProcess
        from cell.web.users import UsersFile
    except ModuleNotFoundError as error:
        raise ConfigError(f"the operator's page needs {error.name}: pip install 'twinspect[web]'") from error
    people = UsersFile(users)
    if not _loopback(host) and not people.all():
        raise ConfigError(
            f"--host {host}: others could reach the page, and {users} has no users; make one by "
            f"`twinspect users add NAME`"
        )
    tls = _tls(tls_cert, tls_key)
    if not _loopback(host) and tls is None:
        raise ConfigError(
            f"--host {host}: passwords would cross the network in clear text; give a certificate with --tls-cert and "
            "--tls-key"
        )
    if (cell is None) != (model is None) or (cell is None) != (part is None):
        raise ConfigError("a line needs --cell, --part and --model; without them the page only reads records")
    if model is not None:
        _refuse_unreleased(records, model)
    line: LineProcess | nullcontext[None] = nullcontext()
    if cell is not None and part is not None and model is not None:
        order = Order(_alone(load_cell(cell)), load_part(part), load_production(production), range(0), seed)
        line = LineProcess(replace(order, numbers=range(_recorded(records), _ENDLESS)), model, records)
    with line as owned:
        os.nice(_NICENESS)
        with open_site(records, people, owned) as site:
            what = "records only" if owned is None else "with a line that waits for Start"
            screen.print(f"http{'s' if tls else ''}://{host}:{port}, {what}; {shown(records)}; Ctrl-C ends it")
            run_server(make_app(site), host, port, tls)


def _tls(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Return certificate and key, tried; None where there are none."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("HTTPS needs both --tls-cert and --tls-key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--tls-cert {certificate}, --tls-key {key}: are no certificate and its key without a password, in PEM "
            f"({error})"
        ) from error
    return certificate, key


def _refuse_unreleased(records: str, model: Path) -> None:
    """Refuse a candidate before the line is there that would refuse it at its start."""
    if InspectorInfo.load(model).extends is not None:
        with Database(Address.parse(records), create=True) as database:
            require_approval(database, description_of(model))


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _alone(cell: Loaded[CellFile]) -> Loaded[CellFile]:
    """Return the cell without copies: the page shows one."""
    return replace(cell, content=cell.content.model_copy(update={"copies": 1}))


def _recorded(records: str) -> int:
    """Return how many parts are on record: a twin goes on with the next."""
    with Database(Address.parse(records), create=True) as database, database.reading() as session:
        return session.scalar(select(func.count()).select_from(InspectionRecord)) or 0
