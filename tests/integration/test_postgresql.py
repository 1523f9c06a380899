"""Records on a PostgreSQL server of Debian, started without root's rights for this test."""

import os
import pwd
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from prerendered import RUN, run_line, ticket
from sqlalchemy import create_engine, text

from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.line import LineRecords
from cell.records.recovery import close_interrupted, find_interrupted
from cell.records.verification import verify

pytest.importorskip("psycopg", reason="needs the extra postgresql")


def _server_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed; apt-get install postgresql brings it")
    return found[-1].parent


def _unprivileged() -> dict[str, int]:
    """PostgreSQL refuses to run as root: then it runs as its own user, which its package made."""
    if os.getuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": user.pw_uid, "group": user.pw_gid}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    programs, who = _server_programs(), _unprivileged()
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True, cwd="/", **who).strip())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, run = folder / "data", {"check": True, "cwd": "/", "capture_output": True, **who}
    subprocess.run([programs / "initdb", "-D", data, "-U", "cell", "--auth=trust", "-E", "UTF8", "-N"], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    # Its own output, or pg_ctl's pipe would stay open as long as the server runs.
    start = [programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"]
    subprocess.run(start, **{**run, "capture_output": False, "stdout": subprocess.DEVNULL})
    try:
        yield f"postgresql+psycopg://cell@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **{**run, "check": False})
        shutil.rmtree(folder, ignore_errors=True)


def test_lines_record_on_a_server(server, tmp_path):
    address = f"{server}?pictures={tmp_path}/pictures"
    with Database(Address.parse(address), create=True):
        pass
    lines = [threading.Thread(target=run_line, args=(address, range(start, start + 4))) for start in (0, 100)]
    for line in lines:
        line.start()
    for line in lines:
        line.join()
    with LineRecords(address, RUN) as book:
        book.begin(ticket(500))
    with Database(Address.parse(address)) as database:
        left = find_interrupted(database)
        assert [part.part_id for part in left] == ["p-00500"]
        close_interrupted(database, left, cleared_by="me")
        result = verify(database, progress=lambda done, total: None)
    assert result.problems == () and result.under_way == () and result.inspections == 9
    with create_engine(server).begin() as connection:
        connection.execute(text("UPDATE views SET score = score * 1.000001 WHERE place = 0"))
    with Database(Address.parse(address)) as database:
        assert len(verify(database, progress=lambda done, total: None).problems) == 8


def test_a_server_that_is_gone_is_one_sentence():
    with pytest.raises(CellError, match="cannot be used"):
        Database(Address.parse("postgresql+psycopg://cell@127.0.0.1:1/x?pictures=/tmp"), create=True).__enter__()
