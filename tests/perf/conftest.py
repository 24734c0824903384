"""pytest for `make bench`: its options, how measured rows are recorded, and the table at the end."""

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
    group.addoption("--missing", action="store_true", help="run only tests that have no row for the present sources")
    group.addoption("--must", action="store_true", help="fail where a row does not reach its target")


def pytest_configure(config: pytest.Config) -> None:
    """Configure the memory allocator as the command line does, for ours and for the peers."""
    heap.use_one_arena()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--missing", False):
        sources = sources_digest()
        done = {row.test for row in Results().rows.values() if row.sources == sources}
        measured = [item for item in items if item.get_closest_marker("perf") and item.nodeid in done]
        config.hook.pytest_deselected(items=measured)
        items[:] = [item for item in items if item not in measured]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that takes the rows of a test, prints them and writes them to disk at once."""

    def take(*rows: Row) -> None:
        complete = [dataclasses.replace(row, test=request.node.nodeid, sources=sources_digest()) for row in rows]
        Results().add(complete)
        request.config.stash.setdefault(MEASURED, []).extend(complete)
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print("\n" + table(complete, sources_digest()), flush=True)
        if request.config.getoption("--must", False):
            missed = [_missed(row, row.target) for row in complete if row.target is not None and not row.reaches_target]
            assert not missed, "; ".join(missed)

    return take


@pytest.fixture(scope="session", autouse=True)
def same_threads() -> Iterator[None]:
    """Give ours as many threads as torch and the peers' OpenMP have."""
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


def _missed(row: Row, target: Target) -> str:
    return f"{row.spot}, {row.case}, {row.against}: wanted {target.at_least:g}, measured {row.value:.3g} {row.unit}"
