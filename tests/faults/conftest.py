"""What several trials start from."""

import time
from collections.abc import Iterator

import pytest
from stopping import Checkout


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, float]]:
    """One seed, trained and evaluated without an interruption, and the seconds that it took; tests work on copies."""
    checkout, start = Checkout.new(tmp_path_factory.mktemp("whole") / "root"), time.monotonic()
    checkout.run(0)
    yield checkout, time.monotonic() - start
    checkout.close()


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """One where nothing was trained yet."""
    fresh = Checkout.new(tmp_path_factory.mktemp("fresh") / "root")
    yield fresh
    fresh.close()
