"""Files that others may have written, made up by hypothesis: records of parts, lists of checksums, lists of URLs."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from iointerrupt._cli.values import check_url
from iointerrupt._cli.wanted import wanted
from iointerrupt._files.growing import boot
from iointerrupt.downloads import ChecksumNotFound, DownloadError, download
from iointerrupt.downloads._checksums import _DIGITS, Checksum, SumsFile, find, parse
from iointerrupt.downloads._state import Record, identity
from iointerrupt.testing import steps
from tests.fuzzing import FACTOR, fuzz, mutated, nasty_texts
from tests.scripted import each
from tests.test_downloads_names import assert_safe
from tests.test_downloads_state import sealed

CONTENT = bytes(range(100))
SIZE = len(CONTENT)
ETAG = '"v1"'

# Records

counts: st.SearchStrategy[Any] = st.one_of(
    st.integers(-2, SIZE + 20),
    st.sampled_from(
        [None, True, False, 0.0, 5.5, float("nan"), float("inf"), 1 << 63, -(1 << 70), 10**400, "5", [], {}]
    ),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), nasty_texts),
    lambda some: st.lists(some, max_size=3),
    max_leaves=5,
)
validators = (
    st.sampled_from(
        [None, ETAG, '"v2"', "", "v1", '"\u20ac"', '"\ud800"', '"a\r\nInjected: 1"', 'W/"v1"', '"', '"a b"']
    )
    | anything
)
dates = (
    st.sampled_from(
        [None, "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT\r\nInjected: 1", "x", "\u20ac"]
    )
    | anything
)


def tampered(*, etag: object = ETAG, size: object = SIZE, **changes: object) -> dict[str, object]:
    """A record of five bytes, with something else in it."""
    version = {"etag": etag, "date": None, "size": size}
    content = {"format": 1, "boot": boot(), "name": "file", "pieces": [[0, 5, 5, size]], "version": version}
    # The right ones are known when there is a part.
    return {**content, "source": ..., "inode": ..., **changes}


@st.composite
def records(draw: st.DrawFn) -> dict[str, object]:
    """What is in a record, with one thing or two in it that are not so."""
    edges = sorted(draw(st.sets(st.integers(1, SIZE - 1), max_size=3)))
    pieces: list[list[Any]] = [
        [start, draw(st.integers(start, end)), draw(st.integers(0, end)), end]
        for start, end in zip([0, *edges], [*edges, SIZE], strict=True)
    ]
    content = tampered(pieces=pieces)
    for _ in range(draw(st.integers(0, 2))):
        match draw(st.sampled_from(["version", "pieces", "name", "key", "gone", "count", "source"])):
            case "version":
                content["version"] = {
                    "etag": draw(validators),
                    "date": draw(dates),
                    "size": draw(counts | st.just(SIZE)),
                }
            case "pieces":
                content["pieces"] = draw(st.lists(st.lists(counts, min_size=3, max_size=5), max_size=4) | anything)
            case "name":
                content["name"] = draw(nasty_texts | anything)
            case "key":
                content[draw(st.sampled_from([*content, "other"]))] = draw(anything)
            case "gone":
                content.pop(draw(st.sampled_from(sorted(content))))
            case "count":
                pieces[draw(st.integers(0, len(pieces) - 1))][draw(st.integers(0, 3))] = draw(counts)
            case "source":
                content["source"] = draw(nasty_texts)
    return content


def check_record(record: Record, size: int) -> None:
    """What holds for whatever is believed."""
    behind = 0
    for piece in record.pieces:
        assert type(piece.start) is type(piece.done) is type(piece.synced) is int
        assert piece.start == behind
        assert piece.start <= piece.done <= max(size, piece.start)
        assert piece.synced <= piece.done
        if piece is not record.pieces[-1]:
            assert piece.end is not None
        if piece.end is not None:
            assert type(piece.end) is int
            assert piece.done <= piece.end < 1 << 63
            behind = piece.end
    assert record.version.size == record.pieces[-1].end
    assert os.path.basename(record.name) == record.name not in ("", ".", "..")
    assert isinstance(record.source, str)
    for said in (record.version.etag, record.version.date):
        if said is not None:
            said.encode("latin-1")
            assert not set(said) & set("\r\n\0")


class TestRecords:
    """`NAME.part.json`."""

    @fuzz(120)
    @given(content=records() | anything, size=st.integers(0, SIZE + 5))
    @example(
        content={
            "format": 1,
            "boot": "",
            "inode": 1,
            "source": 5,
            "version": {"size": 5},
            "name": "x",
            "pieces": [[0, 5, 5, 5]],
        },
        size=5,
    )
    def test_what_is_believed(self, path, content, size):
        """A record is as good as none, or claims nothing that cannot be."""
        if isinstance(content, dict):
            content = {
                key: {"source": "http://host/file 0", "inode": 1}[key] if value is ... else value
                for key, value in content.items()
            }
        path.write_bytes(sealed(content))
        record = Record.load(str(path), size, 1)
        if record is not None:
            check_record(record, size)

    @fuzz(80)
    @given(
        mutated(
            records().map(lambda content: sealed({**content, "source": "", "inode": 1})),
            st.binary(max_size=9)
            | st.sampled_from([b"\n", b"[" * 20_000, b"9" * 5000, b"\xff", b"}", b"1e999", b"\\ud800", b"null"]),
        )
        | st.binary(),
        st.booleans(),
    )
    @example(b"[" * 100_000, True)
    @example(b"9" * 100_000, True)
    @example(b'{"a":' * 100_000, True)
    def test_any_bytes(self, path, data, is_sealed):
        """The same of bytes that are no record at all, also under a checksum that is right."""
        if is_sealed:
            data = data.partition(b"\n")[0]
            data = b"%s\n%08x\n" % (data, zlib.crc32(data))
        path.write_bytes(data)
        record = Record.load(str(path), SIZE, 1)
        if record is not None:
            check_record(record, SIZE)

    @fuzz(20)
    @given(
        content=records(),
        kept=st.integers(0, SIZE + 5),
        is_named=st.booleans(),
        checked=st.booleans(),
        wrong=st.booleans(),
    )
    @example(content=tampered(name="../outside"), kept=5, is_named=False, checked=False, wrong=False)
    @example(content=tampered(name=".bashrc"), kept=5, is_named=False, checked=False, wrong=False)
    @example(content=tampered(name="g.part.json"), kept=5, is_named=False, checked=False, wrong=False)
    @example(content=tampered(name="\ud800"), kept=5, is_named=False, checked=False, wrong=False)
    @example(content=tampered(source=5), kept=5, is_named=False, checked=False, wrong=False)
    @example(content=tampered(etag='"\u20ac"'), kept=5, is_named=True, checked=False, wrong=False)
    @example(content=tampered(etag='"a\r\nInjected: 1"'), kept=5, is_named=True, checked=False, wrong=False)
    @example(content=tampered(size=float(SIZE)), kept=5, is_named=True, checked=False, wrong=False)
    @example(content=tampered(size=10**30), kept=5, is_named=True, checked=False, wrong=False)
    @example(content=tampered(size=5), kept=5, is_named=True, checked=True, wrong=False)
    def test_a_download(self, server, tmp_path_factory, content, kept, is_named, checked, wrong):
        """A download goes on with it, begins anew, or is a DownloadError; no other file is touched, and a checksum is kept in any case."""
        root = tmp_path_factory.mktemp("root")
        (root / "outside").write_bytes(b"outside")
        folder = root / "folder"
        folder.mkdir()
        part = folder / "file.part"
        part.write_bytes((b"\xff" * kept if wrong else CONTENT + b"more")[:kept])
        url = f"{server.url}/file"
        known = {"source": identity(url), "inode": part.stat().st_ino}
        record = {key: known[key] if value is ... else value for key, value in content.items()}
        (folder / "file.part.json").write_bytes(sealed(record))
        checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" if checked else None
        try:
            done = download(
                url, folder / "file" if is_named else folder, checksum=checksum, retries=1, backoff=0, timeout=5
            )
        except DownloadError:
            left = {"file.part", "file.part.json"}
        else:
            left = {os.path.basename(done.path)}
            assert_safe(*left)
            assert left == {"file"} or not is_named
            came = (folder / left.copy().pop()).read_bytes()
            assert came == CONTENT or not checked
            assert done.size == len(came)
        assert {each.name for each in folder.iterdir()} <= left
        assert sorted(each.name for each in root.iterdir()) == ["folder", "outside"]
        assert (root / "outside").read_bytes() == b"outside"
        assert not [request for request in server.requests if "Injected" in request.headers]

    @pytest.fixture
    def path(self, tmp_path):
        """Where a record is."""
        return tmp_path / "file.part.json"

    @pytest.fixture
    def server(self, fault_server):
        """A server that has the file."""
        return fault_server(each(steps.serve(CONTENT, etag=ETAG)))


# Lists of checksums

digests = st.one_of(
    st.sampled_from(sorted(_DIGITS)).map(lambda name: hashlib.new(name, b"x", usedforsecurity=False).hexdigest()),
    st.sampled_from(["a" * 31, "A" * 32, "g" * 64, "0" * 65, "a" * 200, "", "\uff11" * 32]),
)
tags = st.sampled_from(["SHA256", "MD5", "SHA2-256", "SHA512/256", "sha3-512", "BLAKE2b", "", "X", "SHA-256", "RMD160"])
lines = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "", "\\"]),
        digests,
        st.sampled_from(["  ", " *", "\t", " ", "   ", ""]),
        nasty_texts,
    ),
    st.builds("{}{} ({}) = {}".format, st.sampled_from(["", "", "\\"]), tags, nasty_texts, digests),
    st.builds("{}({})= {}".format, tags, nasty_texts, digests),
    digests,
    nasty_texts,
    st.sampled_from(
        [
            "",
            "# x",
            "-----BEGIN PGP SIGNED MESSAGE-----",
            "Hash: SHA512",
            "-----BEGIN PGP SIGNATURE-----",
            "-----END PGP SIGNATURE-----",
            "- - ",
        ]
    ),
)
lists = mutated(
    st.builds(
        lambda end, all_lines: end.join(all_lines), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(lines, max_size=8)
    ),
    nasty_texts,
)
wheres = st.sampled_from(["SHA256SUMS", "http://host/x.md5", "", "x.sha512", "B2SUMS", "SHA3-256"])


def gnu_line(digest: str, name: str) -> str:
    """What sha256sum writes."""
    escaped = name.replace("\n", "\\n")
    return f"{digest}  {name}\n" if escaped == name else f"\\{digest}  {escaped}\n"


def nfc(name: str) -> str:
    """The normal form."""
    return unicodedata.normalize("NFC", name)


class TestChecksums:
    """`SHA256SUMS` and the like."""

    @fuzz(80)
    @given(
        lists,
        nasty_texts,
        st.none() | st.sampled_from(sorted(_DIGITS)),
        wheres,
        st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "utf-16-be", None]),
    )
    def test_any_list(self, text, name, algorithm, where, coding):
        """What is found is a checksum that the list has, of the algorithm that was asked for; or it is a ChecksumNotFound."""
        data = text if coding is None else text.encode(coding, "replace")
        try:
            found = find(data, name, algorithm, where)
        except ChecksumNotFound as error:
            assert len(str(error)) < 100_000
            return
        assert len(found.hexdigest) == _DIGITS[found.algorithm]
        assert re.fullmatch("[0-9a-f]+", found.hexdigest)
        assert found.hexdigest in text.lower()
        assert algorithm in (None, found.algorithm)

    @fuzz(50)
    @given(st.lists(nasty_texts.map(lambda text: re.sub(r"[/\\\r]", "", text)), min_size=1, max_size=4))
    def test_what_coreutils_write(self, names):
        """A file is found by the name that it has, whatever that is, and no other one is taken for it."""
        names = [name for name in names if name.strip() == name and name not in ("", "-", ".", "..")]
        assume(names)
        sums = {name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in names}
        same = {digest for name, digest in sums.items() if nfc(name) == nfc(names[0])}
        text = "".join(gnu_line(digest, name) for name, digest in sums.items())
        try:
            assert {find(text, names[0], None, "SHA256SUMS").hexdigest} == same
        except ChecksumNotFound:
            assert len(same) > 1

    @fuzz(80)
    @given(
        st.one_of(
            nasty_texts, digests, st.builds("{}{}{}".format, tags, st.sampled_from([":", " :", "="]), digests), lines
        )
    )
    def test_what_is_asked_for(self, text):
        """What `checksum=` takes is a checksum, or the place of a list, or a ValueError."""
        try:
            wanted_sum = parse(text)
        except ValueError:
            return
        assert isinstance(wanted_sum, Checksum | SumsFile)
        if isinstance(wanted_sum, Checksum):
            assert len(wanted_sum.hexdigest) == _DIGITS[wanted_sum.algorithm]
        else:
            assert wanted_sum.where

    def test_time(self):
        """The time for a list grows with its length, whatever its lines are."""
        count = 50_000 * min(FACTOR, 10)
        begin = time.process_time()
        for line in [
            b"a" * 32 + b"  x\n",
            b"SHA256 (",
            b") = ",
            b"x) = " + b"a" * 32,
            b"\\",
            b" ",
            b"a" * 31 + b" ",
            b"- ",
            b"\r\n",
        ]:
            with pytest.raises(ChecksumNotFound):
                find(b"SHA256 (" + line * count, "y", None, "SHA256SUMS")
        assert time.process_time() - begin < 20 * min(FACTOR, 10)


# Lists of URLs

names_in_lists = mutated(
    st.lists(nasty_texts | st.sampled_from(["a", "b.iso"]), min_size=1, max_size=3).map("/".join), nasty_texts
)
urls = mutated(
    st.sampled_from(
        ["http://host/a", "https://u:p@host:1/a?b#c", "ftp://host/a", "file:///etc/passwd", "http://[::1]/", "#"]
    ),
    nasty_texts,
)
lists_of_urls = st.lists(
    st.one_of(
        st.builds("{}{}{}".format, urls, st.sampled_from(["", " ", "\t", "\u3000"]), names_in_lists),
        urls,
        st.builds("http://host/{}".format, st.integers(0, 9)),
        st.builds("http://host/x {}".format, names_in_lists),
        nasty_texts,
    ),
    max_size=2,
).map("\n".join)


@fuzz(50)
@given(
    mutated(lists_of_urls.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=9)), st.booleans()
)
@example(b"http://host/a ../x", True)
@example(b"http://host/a /tmp/x", True)
@example(b"http://host/a a/../../x", True)
@example(b"http://host/a \xff/x", False)
@example(b"http://host/a x\x85/\xed\xa0\x80", False)
def test_any_list_of_urls(data, has_folder):
    """A list is refused by an error that says which line, or each of its files is to be below the folder; only folders below it are made."""
    with tempfile.TemporaryDirectory() as root:
        place = Path(root) / "folder"
        place.mkdir()
        (Path(root) / "list").write_bytes(data)
        before = os.getcwd()
        os.chdir(place)
        try:
            found = wanted([], [f"{root}/list"], None, str(place) if has_folder else None)
        except click.UsageError as error:
            assert str(error.message)
            return
        finally:
            os.chdir(before)
        for one in found:
            assert check_url(one.url) == one.url
            assert one.listed
            assert one.dest is not None
            path = os.path.realpath(os.path.join(place, one.dest))
            assert path == str(place) or path.startswith(f"{place}/")
            assert os.path.isdir(os.path.dirname(path))
        assert sorted(os.listdir(root)) == ["folder", "list"]
        assert all(each.is_dir() for each in place.rglob("*"))
