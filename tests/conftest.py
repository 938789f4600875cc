"""Options of the test suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update",
        action="store_true",
        help="write what porter does now as the expectation under fixtures/; read the diff then",
    )


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether expectations are to be written instead of compared."""
    return bool(request.config.getoption("--update"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the commands under test remember out of the user's folder."""
    before = os.environ.get("PORTER_CACHE_DIR")
    os.environ["PORTER_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["PORTER_CACHE_DIR"]
    else:
        os.environ["PORTER_CACHE_DIR"] = before
