import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cell", default="twin", help="the cell that the cycle is measured on")
    parser.addoption("--cycles", type=int, default=10, help="how many cycles the benchmark of motion runs")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what a benchmark found out beside its time."""
    session = getattr(config, "_benchmarksession", None)
    lines = [
        f"{bench.name}: " + ", ".join(f"{key} {show(value)}" for key, value in bench.extra_info.items())
        for bench in (session.benchmarks if session else ())
        if bench.extra_info
    ]
    if lines:
        terminalreporter.section("beside the time")
        for line in lines:
            terminalreporter.write_line(line)


def show(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
