"""A download client: one file over HTTP, which a stop ends at once and another run continues.

    python examples/fetch/fetch.py https://host/big.iso big.iso      # Ctrl-C, and the same again

What has come is in `NAME.part`, and the server's name for that version of the file in `NAME.part.etag`. The rest is asked
for with `Range` and `If-Range`, so that two versions are never mixed. `NAME` appears when it is complete.

Its tests, in `test_fetch.py`, run twice: against mocked answers, and against a real server that misbehaves on demand.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import requests

from iointerrupt import Interrupted, StopLike, calls, http
from iointerrupt.threads import stop_on_signals

#: What a further try may mend: the connection was refused or lost, or the body ended too early.
_PASSING = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


class WrongAnswer(Exception):
    """The server sent another part of the file than was asked for."""


def fetch(
    url: str,
    path: Path,
    *,
    stop: StopLike = None,
    attempts: int = 3,
    pause: float = 0.5,
    chunk_size: int = 1 << 18,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Download `url` to `path`, or what is missing of it.

    Args:
        url: http or https.
        path: where it is to be; what has come of it is beside it until it is complete.
        stop: ends the download, in whichever phase it is; another call goes on from there.
        attempts: how often to ask when the connection fails.
        pause: seconds before the second attempt; twice as many before each further one.
        chunk_size: bytes to read at a time.
        progress: called with the number of bytes that are there, whenever there are more.

    Returns:
        The size of the file in bytes.

    Raises:
        Interrupted: the stop was set.
        WrongAnswer: the server sent another part than was asked for. Nothing of it was written.
        requests.RequestException: the server refuses, or each attempt has failed.
    """
    part = Path(f"{path}.part")
    with http.Session(stop=stop) as session:
        for attempt in range(attempts):
            try:
                _transfer(session, url, part, chunk_size, progress)
                break
            except _PASSING:
                if attempt + 1 == attempts:
                    raise
                calls.sleep(pause * 2**attempt, stop=stop)
    size = part.stat().st_size
    os.replace(part, path)
    _etag_of(part).unlink(missing_ok=True)
    return size


def _transfer(session: http.Session, url: str, part: Path, chunk_size: int, progress: Callable[[int], object]) -> None:
    headers = {"Accept-Encoding": "identity"}
    have, etag = _what_there_is(part)
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": etag}
    with session.get(url, headers=headers, stream=True) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            _transfer(session, url, part, chunk_size, progress)
            return
        response.raise_for_status()
        if response.status_code == requests.codes.partial_content:
            _check_range(response.headers.get("Content-Range", ""), have)
        else:  # the whole file: the server knows no ranges, or has another version by now
            have = 0
            part.write_bytes(b"")  # first, so that no older bytes go by the new name
            _etag_of(part).write_text(response.headers.get("ETag", ""))
        with part.open("ab") as file:
            for chunk in http.iter_chunks(response, chunk_size=chunk_size):
                file.write(chunk)
                file.flush()
                have += len(chunk)
                progress(have)


def _what_there_is(part: Path) -> tuple[int, str]:
    """How many bytes a range can follow, and of which version they are."""
    try:
        etag = _etag_of(part).read_text()
        have = part.stat().st_size
    except FileNotFoundError:
        return 0, ""
    # A weak one says that two versions mean the same, not that they are the same byte for byte (RFC 9110, 13.1.5).
    return (have, etag) if etag.startswith('"') else (0, "")


def _etag_of(part: Path) -> Path:
    return Path(f"{part}.etag")


def _check_range(said: str, have: int) -> None:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
    if found is None or int(found[1]) != have:
        raise WrongAnswer(f"asked for the bytes from {have} on, and got {said or 'a range that is not named'}")


def main() -> int:
    """Download what the command line says; returns the exit code."""
    if len(sys.argv) != 3:
        print("usage: fetch.py URL FILE", file=sys.stderr)
        return 2
    url, path = sys.argv[1], Path(sys.argv[2])
    try:
        with stop_on_signals() as stop:
            print(fetch(url, path, stop=stop, progress=lambda size: print(f"\r{size:,} bytes", end="")), "bytes in all")
    except Interrupted as stopped:
        print(f"\n{stopped.reason}: the same command continues")
        return 130
    except (requests.RequestException, WrongAnswer, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
