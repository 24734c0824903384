"""`make bench`: options, where rows go, and the table at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch

from shiftbench import ops
from shiftbench.system import heap
from tests.perf.rows import Results, Row, sources_digest, table
from tests.perf.targets import Target

MEASURED = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shiftbench bench")
    group.addoption("--missing", action="store_true", help="only what these sources have not been measured on yet")
    group.addoption("--must", action="store_true", help="fail where a row stays below what it must reach")


def pytest_configure(config: pytest.Config) -> None:
    """The heap is set as the command line sets it, for the peers as for us."""
    heap.use_one_arena()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--missing", False):
        sources = sources_digest()
        done = {row.test for row in Results().rows.values() if row.sources == sources}
        gone = [item for item in items if item.get_closest_marker("perf") and item.nodeid in done]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes the rows a test measured, prints them, and keeps them on disk at once."""

    def take(*rows: Row) -> None:
        made = [dataclasses.replace(row, test=request.node.nodeid, sources=sources_digest()) for row in rows]
        Results().add(made)
        request.config.stash.setdefault(MEASURED, []).extend(made)
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print("\n" + table(made, sources_digest()), flush=True)
        if request.config.getoption("--must", False):
            short = [_short(row, row.target) for row in made if row.target is not None and not row.met]
            assert not short, "; ".join(short)

    return take


@pytest.fixture(scope="session", autouse=True)
def same_threads() -> Iterator[None]:
    """Ours gets as many threads as torch and the peers' OpenMP."""
    before = ops.get_threads()
    ops.set_threads(torch.get_num_threads())
    yield
    ops.set_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(MEASURED, []):
        results = Results()
        terminalreporter.section("shiftbench bench")
        terminalreporter.write_line(results.markdown())
        terminalreporter.write_line(f"table and JSON: {results.path.with_suffix('.md')}, {results.path.name}")


def _short(row: Row, target: Target) -> str:
    return f"{row.spot}, {row.case}, {row.against}: wanted {target.at_least:g}, measured {row.value:.3g} {row.unit}"
