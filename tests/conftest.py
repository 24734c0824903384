"""What every test gets: a cache folder of its own, so that no test touches the user's store of explanations."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--once", action="store_true", help="run each test function with the first of its parameters only")


def pytest_collection_modifyitems(config, items):
    """With --once, keep the first case of each test function."""
    if config.getoption("--once"):
        seen, kept, left_out = set(), [], []
        for item in items:
            function = item.nodeid.partition("[")[0]
            (left_out if function in seen else kept).append(item)
            seen.add(function)
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
