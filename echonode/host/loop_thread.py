"""An event loop in another thread, for a command that is itself without one.

    with in_thread(serve):       serve(ready, end) runs on a loop of its own, in a thread
        ..                       entered once serve has set the result of `ready`
                                 leaving sets `end` and waits until serve has returned
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

Serve = Callable[["Future[None]", asyncio.Event], Coroutine[Any, Any, None]]


@contextmanager
def in_thread(serve: Serve) -> Iterator[None]:
    """Run `serve` in another thread while the block runs. Raises its error if it ends before it is ready."""
    ready: Future[None] = Future()
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    def work() -> None:
        try:
            loop.run_until_complete(serve(ready, end))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            loop.close()

    thread = Thread(target=work, name="loop", daemon=True)
    thread.start()
    try:
        ready.result()
        yield
    finally:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(end.set)
        thread.join()
