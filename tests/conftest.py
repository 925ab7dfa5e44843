"""Settings that all tests share.

The slow folders come first, so that no worker waits for the last long file, and there is one worker more than cores,
because tests of real nodes wait for most of their time.

Coverage counts what the other folders reach: traced, the worlds of `sim`, the fuzzer and the faults take twice as long.

Property tests have no deadline, as machines pause; `ECHO_HYPOTHESIS=release` draws more examples. Ctrl-C works in the
tests and in each process that they start, also where the shell runs them in the background with SIGINT ignored.
"""

import os
import signal
from typing import Final

import pytest
from hypothesis import settings

_SLOW_FIRST: Final = ("e2e", "faults", "sim", "fuzz", "store", "node", "sync", "api")
_NOT_COVERED: Final = ("sim", "fuzz", "faults")

settings.register_profile("usual", deadline=None, max_examples=60)
settings.register_profile("release", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("ECHO_HYPOTHESIS", "usual"))

signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.relative_to(item.config.rootpath / "tests").parts[:1]
        return _SLOW_FIRST.index(folder[0]) if folder and folder[0] in _SLOW_FIRST else len(_SLOW_FIRST)

    items.sort(key=rank)
    for item in items:
        if rank(item) < len(_SLOW_FIRST) and _SLOW_FIRST[rank(item)] in _NOT_COVERED:
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return (os.cpu_count() or 1) + 1
