"""Checksums: what is accepted, what is found in lists, and that a file is read whole or stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from iointerrupt import Interrupted, StopEvent, use_stop
from iointerrupt.downloads import _checksums
from iointerrupt.downloads._checksums import Checksum, Expected, SumsFile, find, parse
from iointerrupt.downloads._errors import BadStatus, ChecksumMismatch, ChecksumNotFound
from iointerrupt.testing import StopAfter

CONTENT = b"what is in the file\n"
HASHES = {name: hashlib.new(name, CONTENT).hexdigest() for name in _checksums._DIGITS}
MD5, SHA1, SHA256, SHA512 = (HASHES[name] for name in ("md5", "sha1", "sha256", "sha512"))
OTHER = hashlib.sha256(b"other").hexdigest()


class TestParse:
    """What a user may write."""

    @pytest.mark.parametrize("algorithm", HASHES)
    def test_every_algorithm(self, algorithm):
        """Each algorithm is taken as hashlib writes it, and what is shown of it can be written again."""
        checksum = parse(f"{algorithm}:{HASHES[algorithm]}")
        assert checksum == Checksum(algorithm, HASHES[algorithm])
        assert parse(str(checksum)) == checksum

    @pytest.mark.parametrize(
        ("written", "algorithm"),
        [
            ("MD5", "md5"),
            ("SHA-1", "sha1"),
            ("sha_1", "sha1"),
            ("SHA256", "sha256"),
            ("SHA-256", "sha256"),
            ("sha_256", "sha256"),
            ("SHA2-256", "sha256"),
            ("sha-512", "sha512"),
            ("SHA3-256", "sha3_256"),
            ("sha3_512", "sha3_512"),
            ("SHA-3-224", "sha3_224"),
            ("BLAKE2b", "blake2b"),
            ("BLAKE2b-512", "blake2b"),
            ("BLAKE2s256", "blake2s"),
            (" sha256 ", "sha256"),
        ],
    )
    def test_spellings(self, written, algorithm):
        """Case, hyphens and underscores do not matter, nor do capital digits and blanks around it."""
        assert parse(f"{written}:{HASHES[algorithm].upper()}\n") == Checksum(algorithm, HASHES[algorithm])

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("https://host/SHA256SUMS", SumsFile("https://host/SHA256SUMS")),
            ("HTTP://host/x", SumsFile("HTTP://host/x")),
            ("sha256:https://host/x", SumsFile("https://host/x", "sha256")),
            ("SHA-512:http://host/x?y=z", SumsFile("http://host/x?y=z", "sha512")),
            ("SHA256SUMS", SumsFile("SHA256SUMS")),
            ("folder/x.sha256", SumsFile("folder/x.sha256")),
            ("/abs/SHA256SUMS", SumsFile("/abs/SHA256SUMS")),
            ("md5:sums.txt", SumsFile("sums.txt", "md5")),
            ("C:\\sums.txt", SumsFile("C:\\sums.txt")),
            ("other:file", SumsFile("other:file")),
            ("sha256:./abc", SumsFile("./abc", "sha256")),
            ("./" + SHA256, SumsFile("./" + SHA256)),
            ("abc", SumsFile("abc")),
        ],
    )
    def test_lists(self, text, expected):
        """A URL or a path, with or without an algorithm before it."""
        assert parse(text) == expected
        assert expected.is_url == ("://" in text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "md5",
            "sha256:",
            f"sha256:{SHA256[:-1]}",
            f"sha256:{SHA256}0",
            f"sha256:{SHA256[:-1]}g",
            f"sha256:{SHA256[:-1]}O",
            f"sha256:{MD5}",
            f"md5:{SHA256}",
            "sha256:abc",
            SHA256,
            MD5.upper(),
            f"sha256={SHA256}",
            f"crc32:{'0' * 8}",
            f"whirlpool:{SHA512}",
            f"sha256:sha256:{SHA256}",
            "ftp://host/SHA256SUMS",
            "file:///etc/passwd",
            "sha256:file:///etc/passwd",
            "a\0b",
        ],
    )
    def test_what_is_none(self, text):
        """A slip is refused at once, with what is accepted, and not taken for the name of a file."""
        with pytest.raises(ValueError, match=r"is no .*accepted are ALGORITHM:HEX.*sha3-256"):
            parse(text)

    def test_the_length_is_told(self):
        """The error says how many digits there are and how many there have to be."""
        with pytest.raises(ValueError, match=r"is no SHA-1 checksum, which has 40 .* \(here are 39 characters\)"):
            parse(f"SHA-1:{SHA1[:-1]}")

    @pytest.mark.parametrize("wrong", [None, b"sha256:", 1, Path("x")])
    def test_what_is_no_str(self, wrong):
        """It is refused as such."""
        with pytest.raises(TypeError, match="checksum must be a str, not"):
            parse(wrong)


GNU = f"{OTHER}  other.iso\n{SHA256}  file.iso\n"
SIGNED = f"""\
{OTHER}  file.iso
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

{SHA256}  file.iso
- {OTHER}  --dashes.iso
-----BEGIN PGP SIGNATURE-----

iQIzBAEBCgAdFiEEhDmU
{OTHER}  file.iso
-----END PGP SIGNATURE-----
{OTHER}  file.iso
"""


class TestFind:
    """Lists."""

    @pytest.mark.parametrize(
        "text",
        [
            GNU,
            GNU.strip(),
            GNU.replace("\n", "\r\n"),
            GNU.replace("\n", "\r"),
            GNU.replace("  ", " *"),
            GNU.replace("  ", " "),
            GNU.replace("  ", "\t"),
            GNU.replace("  ", "      "),
            GNU.upper().replace("FILE.ISO", "file.iso"),
            GNU.replace("file.iso", "./file.iso"),
            GNU.replace("file.iso", "build/x86/file.iso"),
            GNU.replace("file.iso", "C:\\build\\file.iso"),
            "\n\n# a comment\n; and another\n" + GNU,
            "\ufeff" + GNU,
            GNU.encode(),
            GNU.encode("utf-8-sig"),
            GNU.encode("utf-16"),
            "\ufeff".encode("utf-16-be") + GNU.encode("utf-16-be"),
            b"\xff\xfe"[:1] + b" is not UTF-8\n" + GNU.encode(),
            GNU + GNU,
            f"SHA256 (file.iso) = {SHA256}",
            f"SHA256(file.iso)= {SHA256}",
            f"SHA2-256(./file.iso)= {SHA256}",
            f"SHA256 (other.iso) = {OTHER}\r\nSHA256 (file.iso) = {SHA256.upper()}\r\n",
            SHA256,
            f"\n{SHA256.upper()}\r\n\r\n",
            f"{SHA256}  -\n",
            f"SHA256 (-) = {SHA256}",
            SIGNED,
            SIGNED.replace("\n", "\r\n"),
            SIGNED.partition("-----BEGIN PGP SIGNATURE-----")[0],
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + SHA256 + "\n-----BEGIN PGP SIGNATURE-----\nx\n",
        ],
        ids=lambda text: ascii(text)[-40:],
    )
    @pytest.mark.parametrize("algorithm", [None, "sha256"])
    def test_the_file_is_found(self, text, algorithm):
        """In each of the formats that programs write, whatever its ends of line, its coding, and what is around it."""
        assert find(text, "file.iso", algorithm, "SUMS") == Checksum("sha256", SHA256)

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            (f"\\{SHA256}  back\\\\slash", "back\\slash"),
            (f"\\{SHA256}  two\\nlines", "two\nlines"),
            (f"\\{SHA256} *a\\rb\\\\nc", "a\rb\\nc"),
            (f"\\SHA256 (two\\nlines) = {SHA256}", "two\nlines"),
            (f"{SHA256}  two\\nlines", "two\\nlines"),
            (f"{SHA256}  two words.iso", "two words.iso"),
            (f"{SHA256} *two  words.iso", "two  words.iso"),
            (f"{SHA256}  *star", "*star"),
            (f"SHA256 (a) = b (c) = {SHA256}", "a) = b (c"),
            (f"{SHA256}  e\u0301.iso", "\u00e9.iso"),
            (f"{SHA256}  {SHA1}", SHA1),
            (f"{SHA256}  (file) = x", "(file) = x"),
            (f"- {SHA256}", None),
        ],
        ids=ascii,
    )
    def test_names(self, line, name):
        """A name is what the line says it is, with what is escaped in it."""
        if name is None:
            with pytest.raises(ChecksumNotFound):
                find(line, "x", None, "SUMS")
        else:
            assert find(f"{line}\n{OTHER}  x\n", name, None, "SUMS") == Checksum("sha256", SHA256)

    @pytest.mark.parametrize(
        ("where", "algorithm"),
        [
            ("SHA256SUMS", "sha256"),
            ("SHA3-256SUMS", "sha3_256"),
            ("sha3_256sum.txt", "sha3_256"),
            ("https://host/sha3-256/x.iso.sha256?sha3-256", "sha256"),
            ("https://host/x.iso.sha3-256?x", "sha3_256"),
            ("x.blake2s", "blake2s"),
            ("folder.sha3-256/SUMS", "sha256"),
            ("checksums-sha3-256.txt", "sha3_256"),
            ("SHA512SUMS", "sha256"),
            ("B2SUMS", "sha256"),
            ("nonsha3-256", "sha256"),
            ("MANIFEST", "sha256"),
        ],
    )
    def test_the_algorithm_of_64_digits(self, where, algorithm):
        """The list's name tells it, if it has so many digits; else it is SHA-256."""
        assert find(f"{SHA256}  x\n", "x", None, where).algorithm == algorithm

    @pytest.mark.parametrize(
        ("algorithm", "where", "expected"),
        [
            ("md5", "SUMS", "md5"),
            ("sha1", "SUMS", "sha1"),
            ("sha224", "SUMS", "sha224"),
            ("sha256", "SUMS", "sha256"),
            ("sha384", "SUMS", "sha384"),
            ("sha512", "SUMS", "sha512"),
            ("blake2b", "SUMS", "sha512"),
            ("blake2b", "B2SUMS", "blake2b"),
            ("blake2b", "x.b2", "blake2b"),
            ("blake2b", "BLAKE2BSUMS.asc", "blake2b"),
            ("sha512", "x.iso.sha512", "sha512"),
            ("sha3_512", "x.sha3-512", "sha3_512"),
            ("sha3_384", "SHA3_384SUMS", "sha3_384"),
        ],
    )
    @pytest.mark.parametrize("line", ["{}  x", "{}"])
    def test_the_algorithm_of_a_list(self, algorithm, where, expected, line):
        """The number of digits tells it, and the list's name where that fits; what was asked for comes first."""
        text = line.format(HASHES[algorithm])
        assert find(text, "x", None, where) == Checksum(expected, HASHES[algorithm])
        assert find(text, "x", algorithm, where) == Checksum(algorithm, HASHES[algorithm])

    def test_several_algorithms(self):
        """Of several that are there, the one that was asked for is taken, or the strongest."""
        tagged = f"MD5 (x) = {MD5}\nSHA512 (x) = {SHA512}\nRMD160 (x) = {SHA1}\nSHA256 (x) = {SHA256}\n"
        plain = f"{SHA1}  x\n{SHA512}  x\n{MD5}  x\n{SHA256}  x\n"
        for text in (tagged, plain):
            assert find(text, "x", None, "SUMS") == Checksum("sha512", SHA512)
            assert find(text, "x", "md5", "SUMS") == Checksum("md5", MD5)
            assert find(text, "x", "sha256", "SUMS") == Checksum("sha256", SHA256)
            with pytest.raises(ChecksumNotFound, match="has no checksum with sha384 of 'x', only"):
                find(text, "x", "sha384", "SUMS")
        with pytest.raises(
            ChecksumNotFound, match="has no checksum with sha1 of 'x', only MD5, RMD160, SHA256, SHA512"
        ):
            find(tagged, "x", "sha1", "SUMS")

    def test_an_unknown_algorithm(self):
        """What cannot be computed is no checksum."""
        with pytest.raises(ChecksumNotFound, match="has no checksum of a known algorithm of 'x', only TIGER"):
            find(f"TIGER (x) = {SHA1}", "x", None, "SUMS")
        with pytest.raises(ChecksumNotFound, match="of a known algorithm of 'x', only one of 50 digits"):
            find(f"{'0' * 50}  x", "x", None, "SUMS")
        with pytest.raises(ChecksumNotFound, match="only SHA256"):
            find(f"SHA256 (x) = {SHA1}", "x", None, "SUMS")

    def test_a_name_that_several_folders_have(self):
        """The one in no folder counts before those in folders; of these there must be one, or they must agree."""
        apart = f"{OTHER}  a/x\n{SHA1}{SHA1[:24]}  b/x\n"
        with pytest.raises(ChecksumNotFound, match=r"several sha256 checksums that may be meant for 'x': 'a/x', 'b/x'"):
            find(apart, "x", None, "SUMS")
        for same in ("x", "./x"):
            assert find(f"{apart}{SHA256}  {same}\n", "x", None, "SUMS") == Checksum("sha256", SHA256)
        assert find(f"{SHA256}  a/x\n{SHA256}  b/x\n", "x", None, "SUMS") == Checksum("sha256", SHA256)
        with pytest.raises(ChecksumNotFound, match="several"):
            find(f"{SHA256}  x\n{OTHER}  ./x\n", "x", None, "SUMS")
        assert find(f"{SHA256}  x\n", "folder/x", None, "SUMS") == Checksum("sha256", SHA256)

    @pytest.mark.parametrize(
        ("listed", "name"),
        [(".bashrc", "bashrc"), ("a_1:2.deb", "a_1_2.deb"), ("dir/x.part", "x_part"), ("con.c", "_con.c")],
    )
    def test_a_name_that_was_made_safe(self, listed, name):
        """The file is found under the name that it has in the list, if nothing there has the other one."""
        text = f"{SHA256}  {listed}\n{OTHER}  y\n"
        assert find(text, name, None, "SUMS") == Checksum("sha256", SHA256)
        assert find(f"{text}{OTHER}  {name}\n", name, None, "SUMS") == Checksum("sha256", OTHER)

    @pytest.mark.parametrize(
        "text",
        ["", "\n", "<html>404</html>", "abc", f"{SHA256}\nand more", f"{SHA256}\n{OTHER}\n", f"text {SHA256}  x"],
    )
    def test_what_is_no_list(self, text):
        """A page, or a lone checksum among other things, is none."""
        with pytest.raises(
            ChecksumNotFound, match="the list of checksums SUMS has no checksums, and so nothing of 'x'"
        ):
            find(text, "x", None, "SUMS")

    def test_a_file_that_is_not_listed(self):
        """The error says of a few names that they are; the URL of the list is in it."""
        text = "".join(f"{SHA256}  file{number}\n" for number in range(9))
        with pytest.raises(ChecksumNotFound) as caught:
            find(text, "x", None, "https://host/SUMS")
        assert "has checksums of 'file0', 'file1', 'file2', 'file3', 'file4' and 4 more" in str(caught.value)
        assert caught.value.url == "https://host/SUMS"
        with pytest.raises(ChecksumNotFound, match=r"has checksums of 'y', and so nothing of 'x'$") as caught:
            find(f"{SHA256}  y\n{OTHER}  -\n", "x", None, "SUMS")
        assert caught.value.url is None

    @pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils is not installed")
    @pytest.mark.parametrize(
        ("program", "algorithm"),
        [
            ("md5sum", "md5"),
            ("sha1sum", "sha1"),
            ("sha256sum", "sha256"),
            ("sha512sum", "sha512"),
            ("b2sum", "blake2b"),
        ],
    )
    @pytest.mark.parametrize("option", ["--text", "--binary", "--tag"])
    @pytest.mark.parametrize("name", ["plain", "two words", "back\\slash", "two\nlines", "(x) = y", "été"], ids=ascii)
    def test_what_coreutils_writes(self, program, algorithm, option, name, tmp_path):
        """Lists that the real programs have written are read."""
        (tmp_path / name).write_bytes(CONTENT)
        (tmp_path / "other").write_bytes(b"other")
        command = [program, option, "--", "other", name]
        text = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
        where = "B2SUMS" if program == "b2sum" else "SUMS"
        assert find(text, name, None, where) == Checksum(algorithm, HASHES[algorithm])


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with CONTENT."""
    (tmp_path / "file").write_bytes(CONTENT)
    return str(tmp_path / "file")


class TestDigest:
    """Checksums of files."""

    @pytest.mark.parametrize("algorithm", HASHES)
    def test_of_a_file(self, algorithm, path):
        """They are those that hashlib computes."""
        assert _checksums.digest_file(path, algorithm) == Checksum(algorithm, HASHES[algorithm])

    @pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, 3_000_000])
    def test_of_any_size(self, size, tmp_path):
        """From none to many pieces."""
        data = os.urandom(size)
        (tmp_path / "file").write_bytes(data)
        expected = Checksum("sha256", hashlib.sha256(data).hexdigest())
        assert _checksums.digest_file(str(tmp_path / "file"), "sha256", stop=StopEvent()) == expected

    def test_a_stop_between_any_two_pieces(self, tmp_path):
        """A stop ends it wherever it is, and not before it is set."""
        (tmp_path / "file").write_bytes(bytes(1 << 20))
        counting = StopAfter(1000)
        whole = _checksums.digest_file(str(tmp_path / "file"), "md5", stop=counting)
        assert counting.checks >= 4
        for n in range(1, counting.checks + 1):
            with pytest.raises(Interrupted):
                _checksums.digest_file(str(tmp_path / "file"), "md5", stop=StopAfter(n))
        assert _checksums.digest_file(str(tmp_path / "file"), "md5", stop=StopAfter(counting.checks + 1)) == whole

    def test_the_current_stop(self, path):
        """The stop of the context counts as well."""
        stop = StopEvent()
        stop.set("enough")
        with use_stop(stop), pytest.raises(Interrupted, match="enough"):
            _checksums.digest_file(path, "md5")

    def test_no_file(self, tmp_path):
        """The error is that of `open`."""
        with pytest.raises(FileNotFoundError):
            _checksums.digest_file(str(tmp_path / "none"), "md5")

    def test_compare(self, path):
        """The right file passes; of another one both checksums are told."""
        found = _checksums.digest_file(path, "sha256")
        _checksums.compare(Checksum("sha256", SHA256), found)
        with pytest.raises(ChecksumMismatch) as caught:
            _checksums.compare(Checksum("sha256", OTHER), found, url="http://host/x")
        error = caught.value
        assert (error.url, error.expected, error.actual) == ("http://host/x", f"sha256:{OTHER}", f"sha256:{SHA256}")
        assert f"its checksum is sha256:{SHA256}, and was to be sha256:{OTHER}" in str(error)
        with pytest.raises(ChecksumMismatch, match="the file is not the file that was asked for"):
            _checksums.compare(Checksum("md5", MD5), found)

    @pytest.mark.parametrize("algorithm", HASHES)
    def test_in_pieces(self, algorithm):
        """What comes in pieces is hashed as a file is."""
        digest = _checksums.hasher(algorithm)
        for byte in CONTENT:
            digest.update(bytes([byte]))
        assert digest.hexdigest() == HASHES[algorithm]


def never(url: str) -> bytes:
    """A `fetch` that is not to be called."""
    raise AssertionError(url)


class TestExpected:
    """What is looked up when it is needed."""

    def test_nothing(self):
        """Nothing asked for is nothing expected; a slip is found at once."""
        assert Expected.of(None, never) is None
        with pytest.raises(ValueError, match="accepted are"):
            Expected.of("sha256:", never)

    def test_a_checksum(self, path):
        """It is what it is, whatever the file's name."""
        expected = Expected.of(f"sha256:{SHA256}", never)
        assert expected is not None
        assert expected.checksum() == expected.checksum("x") == Checksum("sha256", SHA256)
        assert expected.fits(path, "x")
        other = Expected.of(f"sha256:{OTHER}", never)
        assert other is not None
        assert not other.fits(path, "x")

    def test_a_list_is_fetched_once(self, path):
        """And only when it is needed; several names may be tried."""
        fetched = []

        def fetch(url: str) -> str:
            fetched.append(url)
            return f"{SHA256}  file.iso\n{OTHER}  other.iso\n"

        expected = Expected.of("SHA-256:https://host/SUMS", fetch)
        assert expected is not None
        assert fetched == []
        assert expected.checksum("file.iso") == Checksum("sha256", SHA256)
        assert expected.checksum("x", "other.iso", "file.iso") == Checksum("sha256", OTHER)
        assert expected.fits(path, "x", "file.iso")
        assert not expected.fits(path, "other.iso")
        with pytest.raises(ChecksumNotFound, match="nothing of 'x'"):
            expected.checksum("x", "y")
        with pytest.raises(ChecksumNotFound, match="no name"):
            expected.checksum()
        assert fetched == ["https://host/SUMS"]

    def test_a_list_on_the_disk(self, tmp_path, path):
        """It is read from there."""
        (tmp_path / "SHA256SUMS").write_text(f"{SHA256} *file\n")
        expected = Expected.of(str(tmp_path / "SHA256SUMS"), never)
        assert expected is not None
        assert expected.fits(path, "file")

    def test_a_list_that_cannot_be_had(self, tmp_path):
        """It is a named error, whose cause says why; a stop is none."""
        on_disk = Expected.of(str(tmp_path / "none"), never)
        assert on_disk is not None
        with pytest.raises(ChecksumNotFound, match=r"none cannot be read: .*No such file") as caught:
            on_disk.checksum("x")
        assert isinstance(caught.value.__cause__, FileNotFoundError)

        def fails(url: str) -> str:
            raise BadStatus(f"{url} answered with 404", url=url, status=404)

        remote = Expected.of("http://host/SUMS", fails)
        assert remote is not None
        with pytest.raises(ChecksumNotFound, match=r"cannot be read: http://host/SUMS answered with 404") as caught:
            remote.checksum("x")
        assert isinstance(caught.value.__cause__, BadStatus)
        assert caught.value.url == "http://host/SUMS"

        def stops(url: str) -> str:
            raise Interrupted(url)

        stopped = Expected.of("http://host/SUMS", stops)
        assert stopped is not None
        with pytest.raises(Interrupted):
            stopped.checksum("x")
