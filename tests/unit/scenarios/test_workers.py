import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from cell.interfaces import CellError, ConfigError
from scenarios.workers import run_jobs, workers


@dataclass(frozen=True)
class Squares:
    """Writes a number's square; the first time that it is tried, its worker may die or it may fail."""

    number: int
    out: Path
    dies: bool = False
    fails: bool = False

    def run(self) -> None:
        tried = self.out.with_suffix(".tried")
        first = not tried.exists()
        tried.touch()
        if self.dies and first:
            os._exit(1)
        if self.fails and first:
            raise CellError(f"number {self.number}: no square")
        half = self.out.with_suffix(".part")
        half.write_text(str(self.number**2))
        half.replace(self.out)


@pytest.fixture(scope="module")
def client():
    with workers(None) as connected:
        yield connected


def squares(folder: Path, **options: bool) -> list[Squares]:
    return [Squares(number, folder / f"{number}.txt", **(options if number == 3 else {})) for number in range(6)]


def told(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def test_every_job_is_done_even_when_a_worker_dies(client: Client, tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    (tmp_path / "shot").mkdir()
    run_jobs(client, squares(tmp_path / "quiet"), doing="square")
    run_jobs(client, squares(tmp_path / "shot", dies=True), doing="square")
    assert told(tmp_path / "shot") == told(tmp_path / "quiet") == {f"{n}.txt": str(n * n) for n in range(6)}


def test_what_is_done_is_not_done_again(client: Client, tmp_path: Path) -> None:
    (tmp_path / "4.txt").write_text("kept")
    run_jobs(client, squares(tmp_path), doing="square")
    assert told(tmp_path)["4.txt"] == "kept" and not (tmp_path / "4.tried").exists()


def test_a_job_that_fails_is_named_and_the_study_can_go_on(client: Client, tmp_path: Path) -> None:
    with pytest.raises(CellError, match="number 3: no square"):
        run_jobs(client, squares(tmp_path, fails=True), doing="square")
    run_jobs(client, squares(tmp_path, fails=True), doing="square")
    assert len(told(tmp_path)) == 6


def test_workers_elsewhere_are_reached_by_their_schedulers_address(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        workers(cluster.scheduler_address) as connected,
    ):
        run_jobs(connected, squares(tmp_path), doing="square")
    assert len(told(tmp_path)) == 6


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenarios.workers._CONNECT_S", "1s")
    with (
        pytest.raises(ConfigError, match=r"tcp://127\.0\.0\.1:9: no dask scheduler answers"),
        workers("tcp://127.0.0.1:9"),
    ):
        pass
