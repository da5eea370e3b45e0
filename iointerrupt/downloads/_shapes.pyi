# The options of `Options`, as arguments of which each may be left out; for type checkers alone.

from collections.abc import Mapping, Sequence
from typing import TypedDict

class Changes(TypedDict, total=False):
    checksum: str | None
    resume: bool
    overwrite: bool
    update: bool
    segments: int
    retries: int
    backoff: float
    retry_after_max: float
    timeout: float | None
    deadline: float | None
    min_speed: float | None
    min_speed_time: float
    max_rate: float | None
    max_size: int | None
    mirrors: Sequence[str]
    headers: Mapping[str, str]
    preallocate: bool
