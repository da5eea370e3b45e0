"""`StreamTransfer`: a download into a file object, in order: standard output, a pipe, a buffer.

What has been written cannot be taken back. So a further try goes on behind it, if the server still has the same version and
gives ranges; otherwise it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

from iointerrupt._errors import DownloadError, Interrupted
from iointerrupt.downloads._answer import Answer
from iointerrupt.downloads._checksums import Checksum, compare, hasher
from iointerrupt.downloads._errors import FileChanged, ShortBody, WriteFailed
from iointerrupt.downloads._job import FAILURES, Job, Restart, as_download_error
from iointerrupt.downloads._names import name_for
from iointerrupt.downloads._options import Downloaded
from iointerrupt.downloads._part import refusals
from iointerrupt.downloads._plan import Complete, Question, Take, Version

# Bytes to read at a time.
_CHUNK = 1 << 18


class StreamTransfer:
    """A download into a file object.

    Args:
        job: what to work with.
        file: what takes the bytes.
    """

    def __init__(self, job: Job, file: BinaryIO) -> None:
        self._job = job
        self._file = file
        self._version = Version()
        self._done = 0
        self._url = job.url

    def run(self) -> Downloaded:
        """Download.

        Raises:
            DownloadError: it cannot be done. What came has been written.
            Interrupted: a stop was set. `.transferred` is how many bytes have been written.
        """
        job = self._job
        expected = job.expected()
        name = name_for(job.url, None)
        wanted = None if expected is None else expected.checksum(name)
        digest = None if wanted is None else hasher(wanted.algorithm)
        tries = job.tries(lambda: self._done)
        while True:
            url = tries.url
            try:
                self._try(url, name, (lambda _: None) if digest is None else digest.update)
                break
            except Interrupted as interrupted:
                interrupted.transferred = self._done
                raise
            except Restart:
                raise FileChanged(
                    f"{url} changed, or cannot be asked for its rest, behind {self._done:,} bytes that are written",
                    url=url,
                ) from None
            except (*FAILURES, DownloadError) as error:
                job.wait(tries, as_download_error(error, url, None))
        if digest is not None and wanted is not None:
            compare(wanted, Checksum(wanted.algorithm, digest.hexdigest()), url=self._url)
        job.meter.rewind(self._done, self._done)
        return Downloaded(None, self._done, 0, job.meter.elapsed, None if wanted is None else str(wanted), self._url)

    def _try(self, url: str, name: str, look: Callable[[bytes], object]) -> None:
        answer, outcome = self._job.ask(url, self._question(), name, may_restart=not self._done)
        with closing(answer):
            self._url = answer.url
            if isinstance(outcome, Complete):
                return
            assert isinstance(outcome, Take), "nothing was asked for under a condition"  # noqa: S101 - a mistake of ours
            self._version = outcome.version
            self._job.meter.rewind(self._done, outcome.version.size)
            self._copy(answer, outcome, look)

    def _question(self) -> Question:
        if not self._done:
            return Question()
        ways = self._version.ways(checksum=self._job.options.checksum is not None)
        if not ways:
            raise Restart(changed=False)
        return Question(self._done, None, self._version, ways)

    def _copy(self, answer: Answer, take: Take, look: Callable[[bytes], object]) -> None:
        pace = self._job.pace(answer, take)
        while chunk := answer.read(min(_CHUNK, pace.step)):
            look(chunk)
            with refusals("the stream"):
                self._write(chunk)
            pace.moved(len(chunk))
        if take.end is not None and self._done < take.end:
            raise ShortBody(f"{answer.url}: the body ended {take.end - self._done:,} bytes too early", url=answer.url)

    def _write(self, chunk: bytes) -> None:
        # A raw file may take less than it is given.
        rest = memoryview(chunk)
        while rest:
            count = self._file.write(rest)
            if count is None:
                raise WriteFailed("the stream takes nothing at the moment: it must be one that waits")
            self._done += count
            rest = rest[count:]
