"""`Transfer`: one download to a file, from its first request to its final name.

Theory of operation. A transfer has a part file, whose record says which pieces of which version are missing. It goes in
rounds. A round begins with a question for the first piece that is missing, or for the whole file where there is nothing
yet. The answer is judged by `_plan`; if it is of use, its body is written to the part. If segments were asked for and the
server gives ranges, further workers ask for other pieces meanwhile: each takes a piece, and when it is done half of the
largest that is left. A round ends when nothing is missing, or with a failure, after which another round begins if there
are tries left.

When an answer shows that the pieces that are there are of another version than what the server has now, or that the server
gives no ranges, the round ends with `Restart`, and the next one begins with nothing.

Ownership: the thread that runs a transfer owns it; its workers live within a round. What they share has locks of its own
(`Part`, `Meter`, `Rate`), the rest does not change while they run.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from iointerrupt._errors import DownloadError, Interrupted
from iointerrupt.downloads._answer import Answer, Requested, may_pass
from iointerrupt.downloads._errors import BadStatus, ChecksumMismatch, DestinationBusy, FileChanged, LongBody, ShortBody
from iointerrupt.downloads._job import FAILURES, Job, Restart, as_download_error
from iointerrupt.downloads._names import name_for, safe_name
from iointerrupt.downloads._options import Downloaded, State
from iointerrupt.downloads._origin import only_if_changed
from iointerrupt.downloads._part import LEAST_PIECE, Part
from iointerrupt.downloads._plan import Complete, Question, Take, Unchanged, Version, content_length, seconds_of
from iointerrupt.downloads._state import Piece, identity
from iointerrupt.downloads._target import Target, check_free
from iointerrupt.downloads._tries import Tries

if TYPE_CHECKING:
    from iointerrupt.downloads._checksums import Expected

# How often a file may change while it is being downloaded.
_MOST_CHANGES = 5

#: A piece, and the answer that brings it.
_Begun = tuple[Piece, Answer, Take]


class Transfer:
    """A download to a file.

    Args:
        job: what to work with.
        target: where it goes.
    """

    def __init__(self, job: Job, target: Target) -> None:
        self._job = job
        self._options = job.options
        self._target = target
        self._part: Part  # while it runs
        self._name = target.name
        self._url = job.url  # where it came from, in the end
        self._modified: float | None = None
        self._resumed_from = 0
        self._is_patched = False  # made of more than one answer
        self._was_fetched_anew = False  # since that did not fit
        self._most_workers = job.options.segments
        self._failure: DownloadError | None = None  # of the last worker that gave up

    def run(self) -> Downloaded:
        """Download.

        Raises:
            DownloadError: it cannot be done.
            Interrupted: a stop was set. What came is kept.
        """
        job, target = self._job, self._target
        job.meter.path = target.path
        if target.is_named:
            check_free(target.path, self._options, job.url)
        expected = job.expected()
        with closing(Part(target.path)) as self._part:
            try:
                return self._run(expected)
            except Interrupted as interrupted:
                interrupted.transferred = self._part.done
                raise

    def _run(self, expected: Expected | None) -> Downloaded:
        self._load()
        job, part, target = self._job, self._part, self._target
        tries = job.tries(lambda: part.done)
        while True:
            is_new = self._fetch(tries)
            path = target.final_path(self._name)
            if is_new:
                if expected is None or self._fits(expected, tries):
                    break
            elif expected is None or expected.fits(path, *self._names):
                return self._downloaded(path, os.path.getsize(path), expected, unchanged=True)
            else:  # what is there is not what is wanted, although it came from there
                self._options = replace(self._options, update=False, overwrite=True)
        check_free(path, self._options, job.url)
        job.meter.path = path
        size = part.finish(path, self._modified, replace=self._options.overwrite or self._options.update)
        return self._downloaded(path, size, expected)

    def _downloaded(self, path: str, size: int, expected: Expected | None, *, unchanged: bool = False) -> Downloaded:
        checksum = None if expected is None else str(expected.checksum(*self._names))
        self._job.meter.rewind(size, size)
        return Downloaded(path, size, self._resumed_from, self._job.meter.elapsed, checksum, self._url, unchanged)

    def _load(self) -> None:
        """Take up what an earlier download has left."""
        part = self._part
        record = part.load()
        if record is None:
            return
        if not self._options.resume:
            part.forget()
        elif record.source not in map(identity, self._job.urls) and not self._options.checksum:
            if not self._target.is_named and record.done:
                other = record.source.partition(" ")[0]
                raise DestinationBusy(
                    f"{part.path} is a part of {other}: give this file another name, or begin it anew (resume=False)",
                    path=part.path,
                )
            part.forget()
        else:
            self._resumed_from = self._job.meter.resumed_from = part.done
            self._is_patched = part.done > 0
            if not self._target.is_named:
                self._name = safe_name(record.name) or self._name

    def _forget(self) -> None:
        self._part.forget()
        self._resumed_from = self._job.meter.resumed_from = 0
        self._is_patched = False
        self._job.meter.rewind(0, None)

    def _fits(self, expected: Expected, tries: Tries) -> bool:
        """Whether what came is what was asked for; False if another try may mend that.

        Raises:
            ChecksumMismatch: it is not, although it came in one piece, and there is no other mirror. It is thrown away.
        """
        from iointerrupt.downloads._checksums import compare, digest_file  # noqa: PLC0415 - there is no checksum mostly

        meter = self._job.meter
        meter.enter(State.VERIFYING)
        wanted = expected.checksum(*self._names)
        found = digest_file(self._part.fd, wanted.algorithm)
        if found == wanted:
            return True
        may_mend = self._is_patched and not self._was_fetched_anew
        self._was_fetched_anew = True
        self._forget()
        if not may_mend:
            try:
                compare(wanted, found, url=self._url)
            except ChecksumMismatch as error:
                self._give_up(error, tries)
        meter.enter(State.RUNNING)
        return False

    def _give_up(self, error: ChecksumMismatch, tries: Tries) -> None:
        try:
            tries.failed(error)
        except ChecksumMismatch:
            self._part.discard()
            raise

    @property
    def _names(self) -> tuple[str, ...]:
        """What a list of checksums may call the file."""
        return name_for(self._job.url), self._name

    # Rounds

    def _fetch(self, tries: Tries) -> bool:
        """Fetch all that is missing; return False if the file that is there already is what the server has."""
        job, part = self._job, self._part
        changes = 0
        while True:
            url = tries.url
            try:
                begun = self._begin(url)
                if isinstance(begun, Unchanged):
                    return False
                if begun is None:
                    return True
                self._go_on(begun, url)
            except Restart as restart:
                self._forget()
                if not restart.changed:
                    self._most_workers = 1  # it gives ranges to some and not to others
                changes += restart.changed
                if changes > _MOST_CHANGES:
                    raise FileChanged(f"{url} changed {changes} times while it was downloaded", url=url) from None
            except (*FAILURES, DownloadError) as error:
                job.wait(tries, as_download_error(error, url, part.path))

    def _begin(self, url: str) -> _Begun | Unchanged | None:
        """Ask for the first piece that is missing; None if there is none."""
        part = self._part
        piece = part.first_missing()
        if piece is None and part.record is not None:
            return None
        question = (self._question(piece, url) if part.done and piece is not None else None) or Question()
        if part.record is None and self._options.update:
            question = only_if_changed(self._target.final_path(self._name)) or question
        answer, outcome = self._job.ask(url, question, self._name)
        try:
            self._url = answer.url
            if isinstance(outcome, Take):
                begun = self._take_up(answer, outcome, url)
                if begun is None:
                    answer.close()
                return begun
        except BaseException:
            answer.close()
            raise
        answer.close()
        if isinstance(outcome, Complete) and (piece is None or not part.end_is_here(piece)):
            raise Restart(changed=True)
        return outcome if isinstance(outcome, Unchanged) else None

    def _take_up(self, answer: Answer, take: Take, url: str) -> _Begun | None:
        part, job = self._part, self._job
        self._modified = seconds_of(answer.headers.get("Last-Modified", ""))
        if take.is_part:
            part.learn(take.version, identity(url))
            self._is_patched = True
        else:
            self._forget()
            if not self._target.is_named:
                self._name = name_for(job.url, answer.headers.get("Content-Disposition"))
                check_free(self._target.final_path(self._name), self._options, job.url)
            part.begin(identity(url), self._name, take.version, preallocate=self._options.preallocate)
        job.meter.rewind(part.done, take.version.size)
        piece = part.take()
        return None if piece is None else (piece, answer, take)

    def _question(self, piece: Piece, url: str) -> Question | None:
        """How to ask for the rest of a piece; None if there is no way to be certain that it fits."""
        record = self._part.record
        if record is None:
            return None
        version = record.version
        if record.source != identity(url):
            version = Version(size=version.size)  # another server's names for it mean nothing here
        ways = version.ways(checksum=self._options.checksum is not None)
        end = None if piece.end == version.size else piece.end
        return Question(piece.done, end, version, ways) if ways else None

    def _go_on(self, begun: _Begun, url: str) -> None:
        """Write what the answer brings; and if there are to be segments, what further ones bring."""
        _, _, take = begun
        size = take.version.size
        most = self._most_workers if take.ranges and take.version.ways() and size is not None else 1
        if most == 1:
            self._move(*begun)
            return
        with ExitStack() as connections:
            count = 1
            while count < min(most, (size or 0) // LEAST_PIECE):
                give_back = self._job.more_connections()
                if give_back is None:
                    break
                connections.callback(give_back)
                count += 1
            if count == 1:
                self._move(*begun)
            else:
                self._move_all(begun, url, count)

    def _move_all(self, begun: _Begun, url: str, count: int) -> None:
        from iointerrupt.threads import ThreadGroup  # noqa: PLC0415 - most downloads need none

        self._part.cut(count)
        self._is_patched = True
        try:
            with ThreadGroup() as group:
                try:
                    for _ in range(count - 1):
                        group.start(self._work, None, url)
                except BaseException:  # they have been stopped already
                    piece, answer, _ = begun
                    answer.close()
                    self._part.give_back(piece)
                    raise
                self._work(begun, url)
        except BaseExceptionGroup as failures:
            raise _first_of(failures) from None
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is None or self._part.first_missing() is None:
            return
        if may_pass(failure):
            raise failure
        self._most_workers = 1  # what the next round is told holds for all of it

    def _work(self, begun: _Begun | None, url: str) -> None:
        """Fetch pieces until there are none left, or a connection gets nowhere: others may."""
        while True:
            before = self._part.done
            try:
                if begun is None:
                    begun = self._next(url)
                if begun is None:
                    return
                self._move(*begun)
            except (*FAILURES, DownloadError) as error:
                failure = as_download_error(error, url, self._part.path)
                # A server may refuse a further connection with any status, and go on with those that it has.
                if not may_pass(failure) and not isinstance(failure, BadStatus):
                    raise failure from error
                self._failure = failure
                if begun is None or self._part.done == before:
                    return
            begun = None

    def _next(self, url: str) -> _Begun | None:
        part = self._part
        piece = part.take()
        if piece is None:
            return None
        try:
            answer, take = self._ask_for(piece, url)
        except BaseException:
            part.give_back(piece)
            raise
        return piece, answer, take

    def _ask_for(self, piece: Piece, url: str) -> tuple[Answer, Take]:
        question = self._question(piece, url)
        if question is None:
            raise Restart(changed=False)
        answer, outcome = self._job.ask(url, question, self._name, may_restart=False)
        if isinstance(outcome, Take):
            return answer, outcome
        answer.close()
        raise Restart(changed=True)

    def _move(self, piece: Piece, answer: Answer, take: Take) -> None:
        """Write what an answer brings of a piece, up to the end of either."""
        part, pace = self._part, self._job.pace(answer, take)
        try:
            with closing(answer):
                while room := part.claim(piece, pace.step):
                    try:
                        count = answer.into_file(part.fd, piece.done, room)
                    except BaseException as error:
                        part.moved(piece, getattr(error, "transferred", None) or 0)
                        raise
                    if not count:
                        self._ended(piece, answer, take)
                        return
                    part.moved(piece, count)
                    pace.moved(count)
                if piece.end == take.end and _goes_on(answer):
                    part.drop(piece, take.start)
                    raise LongBody(f"{answer.url} sent more bytes than it had said", url=answer.url)
        finally:
            part.give_back(piece)

    def _ended(self, piece: Piece, answer: Answer, take: Take) -> None:
        if piece.end is None:
            self._part.end_is_here(piece)
        elif take.end is None or piece.done < take.end:
            missing = (piece.end if take.end is None else take.end) - piece.done
            raise ShortBody(f"{answer.url}: the body ended {missing:,} bytes too early", url=answer.url)


def _goes_on(answer: Answer) -> bool:
    """Whether a body goes on behind its last byte: one without a length says by itself where it ends."""
    return isinstance(answer, Requested) and content_length(answer.headers) is None and bool(answer.read(1))


def _first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the others came of: those that were told to stop for it may have failed differently."""
    each = [_first_of(one) if isinstance(one, BaseExceptionGroup) else one for one in failures.exceptions]
    for kind in (Restart, DownloadError):
        for failure in each:
            if isinstance(failure, kind):
                return failure
    return each[0]
