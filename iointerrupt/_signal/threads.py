"""`own_thread`: a thread of this library's, which has nothing of the context in which it was made.

Threads of Python 3.14 and newer may begin with the context of whoever starts them (`-X thread_inherit_context`, which free-threaded
builds have on). Those of a program then have its current stop, as they should. Ours serve whoever comes, and outlive who came first:
they would end with that one's stop, and keep it alive.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable


def own_thread(name: str, target: Callable[..., object], *args: object) -> threading.Thread:
    """A daemon thread, which has not been started, without a current stop."""
    if sys.version_info >= (3, 14):
        return threading.Thread(target=target, name=name, args=args, daemon=True, context=contextvars.Context())
    return threading.Thread(target=target, name=name, args=args, daemon=True)
