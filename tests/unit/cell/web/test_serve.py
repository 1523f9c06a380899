"""What `twinspect serve` refuses before anything answers."""

import pytest

pytest.importorskip("nicegui", reason="the operator's page needs twinspect[web]")

from cell.commands.serve import run_serve
from cell.interfaces import ConfigError
from cell.web.users import UsersFile


def serve(folder, host="127.0.0.1", cert=None, key=None):
    run_serve(
        f"sqlite:///{folder}/records.sqlite", None, None, None, "mixed", 1, host, 1, cert, key, folder / "users.json"
    )


def test_nobody_elsewhere_without_users_and_nothing_in_clear_text(tmp_path):
    with pytest.raises(ConfigError, match="has no users"):
        serve(tmp_path, host="192.0.2.2")
    UsersFile(tmp_path / "users.json").put("Erika", "operator", "correct horse")
    with pytest.raises(ConfigError, match=r"in clear text.*--tls-cert"):
        serve(tmp_path, host="192.0.2.2")


def test_half_a_certificate_and_none_at_all(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(ConfigError, match="needs both"):
        serve(tmp_path, cert=cert)
    with pytest.raises(ConfigError, match="No such file"):
        serve(tmp_path, cert=cert, key=key)
    for file in (cert, key):
        file.write_text("nothing")
    with pytest.raises(ConfigError, match="are no certificate and its key"):
        serve(tmp_path, cert=cert, key=key)
