"""How soon the operator's page answers on a large database."""

from collections.abc import Iterator

import pytest
from large_records import make_large
from starlette.testclient import TestClient

from cell.web.app import make_app, open_site
from cell.web.users import UsersFile

# The last but one is an inspection in the middle; its pictures are not there.
_PAGES = ("/", "/parts", "/parts?verdict=reject", "/parts?part=p-050000", "/parts/150002", "/review", "/charts")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("large")
    with (
        open_site(make_large(folder), UsersFile(folder / "users.json"), None) as site,
        TestClient(make_app(site), base_url="http://localhost", client=("127.0.0.1", 1)) as client,
    ):
        yield client


@pytest.mark.parametrize("path", (*_PAGES, "/threshold"))
def test_page_of_hundred_thousand_parts(benchmark, page: TestClient, path: str) -> None:
    answer = benchmark.pedantic(page.get, args=(path,), rounds=10, warmup_rounds=1)
    assert answer.status_code == 200
