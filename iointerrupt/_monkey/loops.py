"""Event loops: what a current stop does to a thread that runs one.

A loop's thread waits in a selector, and so a stop finds it there. What is raised in the selector leaves `run_forever`, as a Ctrl-C
does; whoever runs the loop then cancels its tasks and runs it once more for them to clean up (`asyncio.run` does both). That
takes a selector which waits: so an asyncio loop is told of a stop once, and not again.

A trio run has a way of its own for all of that, and breaks where something is raised within it: it is never told.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from iointerrupt._signal.latch import Latch
from iointerrupt._stop import StopEvent, _current


def stop_for_select() -> StopEvent | None:
    """The current stop, where what selects is to be ended by it: see the module."""
    stop = _current.get()
    if stop is None or _is_in_trio():
        return None
    loop = _running_loop()
    if loop is not None and _told.get(loop) is stop._latch:
        return None
    return stop


def note_told(stop: StopEvent) -> None:
    """The stop has ended a wait in this thread: if that was an asyncio loop's, it has been told."""
    loop = _running_loop()
    if loop is not None:
        _told[loop] = stop._latch


def _running_loop() -> Any:
    # Who is in a loop has asyncio loaded; it is not worth loading to find out that nobody is.
    get_running_loop: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)  # while it is loaded
    return None if get_running_loop is None else get_running_loop()


def _is_in_trio() -> bool:
    in_trio_run: Any = getattr(sys.modules.get("trio.lowlevel"), "in_trio_run", None)
    return in_trio_run is not None and bool(in_trio_run())


#: Loops that have been told of a stop, by what stands for that set of it: after a clear it is another one. Each belongs to the
#: thread that runs the loop.
_told: weakref.WeakKeyDictionary[Any, Latch] = weakref.WeakKeyDictionary()
