"""`python -m iointerrupt` is the command `iointerrupt`."""

from __future__ import annotations

import sys

from iointerrupt.cli import main

sys.exit(main())
