"""What a patch comes too late for: references to an original that other modules have kept, and threads that are running.

A module that did `from time import sleep` before `time.sleep` was replaced goes on with the original, as does a class that was
derived from `socket.socket`. Neither can be mended from outside, so they are named.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from iointerrupt._helpers import is_helper
from iointerrupt._monkey.patches import Replaced

# The modules of this package hold the originals by right. Those of the standard library are left out too: what they keep is
# either no wait (`ssl.socket`, a base class) or in the functions of a module whose own names are replaced.
_OWN = __name__.partition(".")[0]


def kept_references(replaced: Iterable[Replaced]) -> list[str]:
    """Where programs' modules have kept an original: `module.name`, for a class derived from one its name."""
    originals = {id(one.original): one for one in replaced if not isinstance(one.owner, type)}
    classes = tuple(one.original for one in originals.values() if isinstance(one.original, type))
    found = set()
    for name, module in _modules():
        for key, value in list(vars(module).items()):
            if id(value) in originals or (
                isinstance(value, type) and getattr(value, "__module__", None) == name and issubclass(value, classes)
            ):
                found.add(f"{name}.{key}")
    return sorted(found)


def running_threads() -> list[str]:
    """The names of the threads, besides the caller's and this library's, that are running."""
    current = threading.current_thread()
    return sorted(thread.name for thread in threading.enumerate() if thread is not current and not is_helper(thread))


def _modules() -> Iterator[tuple[str, Any]]:
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top != _OWN and top not in sys.stdlib_module_names and hasattr(module, "__dict__"):
            yield name, module
