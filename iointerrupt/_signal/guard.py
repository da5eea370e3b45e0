"""`lock`: the one lock of the library's tables and counts.

It is re-entrant, since a signal handler or a finalizer may need it while its thread is inside it. And it is one for all,
since a finalizer runs wherever memory is allocated, under any lock: with two of them, a thread in the first could want the
second there while another thread wants the first. It is held for a few steps at a time, and nothing is called under it that
could block. A forked child, in which its holder may be missing, begins with a free one.
"""

from __future__ import annotations

import os
import threading

lock = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does with its own
