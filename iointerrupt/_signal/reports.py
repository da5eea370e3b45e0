"""What is told of an exception that ends nothing, since its thread serves others as well."""

from __future__ import annotations

import sys
import threading


def report_exception() -> None:
    """Report the exception that is being handled as one that ends a thread is reported: to `threading.excepthook`."""
    kind, value, trace = sys.exc_info()
    threading.excepthook(threading.ExceptHookArgs((kind, value, trace, threading.current_thread())))
