import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cell", default="twin", help="the cell that the cycle is measured on")
