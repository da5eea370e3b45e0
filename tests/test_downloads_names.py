"""The names of downloads that nobody has named: from headers and URLs, and safe whatever these say."""

from __future__ import annotations

import os
import random
import time
import unicodedata
from pathlib import Path

import pytest

from iointerrupt.downloads import _names, _part
from iointerrupt.downloads._names import MAX_NAME, name_for, safe_name

SAFE = [
    "file.txt",
    "a",
    "archive.tar.gz",
    "Makefile",
    "two words.txt",
    "a-b_c~d.e",
    "日本語.txt",
    "été.txt",
    "\U0001f600.png",
    "\U0001f469\u200d\U0001f4bb.png",
    "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645.txt",
    "brackets [1080p] (x), 100%.mkv",
    "console.txt",
    "com10.txt",
    "COM",
    "x.part1.rar",
    "part",
    "part.json",
    "x.parts",
    "x.json",
    "a" * 240,
]


@pytest.mark.parametrize("name", SAFE, ids=ascii)
def test_what_is_safe_stays_as_it_is(name):
    """An ordinary name is not touched, in whatever script."""
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        # No path leaves the folder.
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/passwd", "passwd"),
        ("\\\\server\\share\\file", "file"),
        ("a/b\\c", "c"),
        ("a\\b/c", "c"),
        ("folder/", None),
        ("folder\\", None),
        ("", None),
        (".", None),
        ("..", None),
        ("...", None),
        ("a/..", None),
        ("a/\0", None),
        (".\0.", None),
        # No drive, no stream, and no character that a file system of Windows refuses.
        ("C:\\x", "x"),
        ("C:/x", "x"),
        ("C:x", "C_x"),
        ("C:", "C_"),
        ("file.txt:stream", "file.txt_stream"),
        ("file.txt::$DATA", "file.txt__$DATA"),
        ('a"b*c<d>e?f|g', "a_b_c_d_e_f_g"),
        # No device of Windows, whatever follows it.
        ("CON", "_CON"),
        ("con", "_con"),
        ("con.txt", "_con.txt"),
        ("Con.tar.gz", "_Con.tar.gz"),
        ("con .txt", "_con .txt"),
        ("con.", "_con"),
        ("con ", "_con"),
        ("c\0on", "_con"),
        ("NUL", "_NUL"),
        ("prn.pdf", "_prn.pdf"),
        ("aux.c", "_aux.c"),
        ("COM1", "_COM1"),
        ("com0.log", "_com0.log"),
        ("LPT9.x", "_LPT9.x"),
        ("COM\u00b9", "_COM\u00b9"),
        ("lpt\u00b3.txt", "_lpt\u00b3.txt"),
        ("CONIN$", "_CONIN$"),
        ("conout$.txt", "_conout$.txt"),
        ("clock$", "_clock$"),
        ("con.part", "con_part"),
        # Not hidden, no option, no home folder.
        (".bashrc", "bashrc"),
        ("..hidden", "hidden"),
        ("-rf", "rf"),
        ("--help", "help"),
        ("-.- x", "x"),
        ("~", None),
        ("~root", "root"),
        ("---", None),
        # Nothing that cannot be seen, and nothing that turns the direction.
        ("a\0b.txt", "ab.txt"),
        ("a\r\nb\tc\x1b[31m", "abc[31m"),
        ("\x7f\x80\x9fa", "a"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("a\u2066b\u2067c\u2068d\u2069e\u061cf\u200eg\u200fh", "abcdefgh"),
        ("a\u200bb\u2060c\ufeffd\u00ade", "abcde"),
        ("a\u2028b\u2029c", "abc"),
        ("a.pdf\u3164\u115f\u1160\uffa0\u2800.exe", "a.pdf.exe"),
        ("a\u034fb\u17b4c\u17b5d\u180be\u180ff\U0001d159g", "abcdefg"),
        ("a\ufe00b\ufe0fc\U000e0101d\U000e01efe", "abcde"),
        ("a\u2065b\ufff0c\U000e0fffd", "abcd"),
        ("\u2764\ufe0f.png", "\u2764.png"),
        ("\u845b\U000e0100.txt", "\u845b.txt"),
        ("\u3164.bashrc", "bashrc"),
        ("\u2800", None),
        ("e\u034f\u0301", "\u00e9"),
        ("a\udc80b\ud800c", "abc"),
        ("\u202e.bashrc", "bashrc"),
        ("\u200d.bashrc", "bashrc"),
        ("\u200d", None),
        ("\u202e", None),
        # No dot and no blank at the end, no blank at the beginning.
        ("name. . ", "name"),
        ("  name.txt \t", "name.txt"),
        ("\u00a0\u3000name\u2003", "name"),
        ("name.txt\r\n", "name.txt"),
        ("name\u200c.", "name"),
        # Not the file beside another download.
        ("x.part", "x_part"),
        ("x.PART", "x_PART"),
        ("x.part.json", "x_part.json"),
        ("x.Part.Json", "x_Part.Json"),
        ("x.part.json.new", "x_part.json.new"),
        ("x.part.part", "x.part_part"),
        ("x.part.", "x_part"),
        ("x.part/", None),
        ("x.part\u3164", "x_part"),
        ("x.pa\u2800rt", "x_part"),
        (".part", "part"),
        (".part.json", "part.json"),
        # One name is one file.
        ("e\u0301te\u0301.txt", "\u00e9t\u00e9.txt"),
        ("e\0\u0301", "\u00e9"),
        ("\u212b", "\u00c5"),
    ],
    ids=ascii,
)
def test_what_is_not_safe(candidate, name):
    """What cannot be seen goes, what can becomes an underscore; where nothing is left, there is no name."""
    assert safe_name(candidate) == name


def test_the_files_beside_a_download():
    """A name that ends as a part file or its record does is none of the server's to choose."""
    for suffix in (_part.SUFFIX, _part.RECORD_SUFFIX, f"{_part.RECORD_SUFFIX}.new"):
        assert safe_name(f"x{suffix}") == f"x_{suffix[1:]}"
        assert MAX_NAME + len(suffix) <= 255


class TestLength:
    """Names that are too long."""

    @pytest.mark.parametrize("character", ["a", "é", "語", "\U0001f600"])
    @pytest.mark.parametrize("extension", ["", ".iso", ".tar.gz", ".tar.zst", ".jpeg", ".語", "." + "x" * 20])
    def test_the_extension_is_kept(self, character, extension):
        """The end is cut off what stands before it, and no character in half."""
        name = safe_name(character * 5000 + extension)
        assert name.endswith(extension)
        stem = name.removesuffix(extension)
        assert set(stem) == {character}
        size = len(name.encode())
        assert MAX_NAME - len(character.encode()) < size <= MAX_NAME

    def test_what_is_no_extension(self):
        """A sentence behind a dot is part of the name."""
        name = safe_name("Version 1. " + "It is the best of all. " * 50)
        assert name == ("Version 1. " + "It is the best of all. " * 50)[:MAX_NAME].rstrip(" .")
        assert len(safe_name("a" * 5000 + "." + "b" * 5000)) == MAX_NAME

    def test_what_appears_by_cutting(self):
        """A name that becomes a part file's or ends in a dot only by being cut is as safe as any."""
        cut = safe_name("a" * (MAX_NAME - len(".part.json")) + ".part" + "b" * 50 + ".json")
        assert cut.endswith("a_part.json")
        assert safe_name("a" * (MAX_NAME - 2) + ". " + "b c" * 50) == "a" * (MAX_NAME - 2)
        assert safe_name("a" * (MAX_NAME - 6) + ". " + "b" * 50 + ".json") == "a" * (MAX_NAME - 6) + ".json"
        assert safe_name("con" + " " * 300 + "x.txt") == "_con.txt"
        assert safe_name("con." + "a" * 500 + ".txt") == "_con." + "a" * (MAX_NAME - 9) + ".txt"

    def test_it_takes_no_time(self):
        """A header or URL of the greatest length that http.client takes is done with at once."""
        nasty = [" " * 65_000 + "x", "x" + " ." * 32_000 + "x", ".tar" * 16_000, "\u0301" * 65_000, "con" * 20_000]
        headers = [";" * 65_000, 'a; x="' + ";" * 65_000, 'a;x="' + ";" * 16_000, 'x=";"' * 10_000]
        begin = time.process_time()
        for candidate in nasty:
            safe_name(candidate)
        for header in headers:
            assert name_for("http://host/x", header) == "x"
        assert time.process_time() - begin < 5


class TestHeader:
    """Content-Disposition, which is decoded as Latin-1."""

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ("attachment; filename=plain.txt", "plain.txt"),
            ("inline; filename=plain.txt", "plain.txt"),
            ('attachment; filename="quoted name.txt"', "quoted name.txt"),
            ('Attachment; FileName="case.txt"', "case.txt"),
            ('attachment;filename="tight.txt";size=3', "tight.txt"),
            ('attachment; filename = "loose.txt" ; x=y', "loose.txt"),
            ("attachment; filename=two words.txt", "two words.txt"),
            ("filename=alone.txt", "alone.txt"),
            ('attachment; filename="semi;colon.txt"', "semi;colon.txt"),
            ('attachment; filename="a\\"b\\".txt"', "a_b_.txt"),
            ('attachment; filename="C:\\\\folder\\\\file.txt"', "file.txt"),
            ('attachment; filename="C:\\folder\\file.txt"', "file.txt"),
            ('attachment; name=other; filename="this.txt"', "this.txt"),
            # RFC 8187; it counts before the plain one, wherever it stands.
            ("attachment; filename*=UTF-8''%e2%82%ac%20rates.txt", "\u20ac rates.txt"),
            ("attachment; filename*=utf-8'en'%C3%A9.txt", "\u00e9.txt"),
            ("attachment; filename*=ISO-8859-1''%E9.txt", "\u00e9.txt"),
            ("attachment; FILENAME*=UTF-8''%41.txt", "A.txt"),
            ("attachment; filename=\"plain.txt\"; filename*=UTF-8''extended.txt", "extended.txt"),
            ("attachment; filename*=UTF-8''extended.txt; filename=\"plain.txt\"", "extended.txt"),
            ("attachment; filename*=UTF-8''a%2Fb%5Cc.txt", "c.txt"),
            ("attachment; filename*=UTF-8''%2e%2e%2f%2e%2e%2fetc%2fpasswd", "passwd"),
            ("attachment; filename*=UTF-8''100%2525.txt", "100%25.txt"),
            ("attachment; filename*=bare.txt", "bare.txt"),
            ('attachment; filename*0="a"; filename*1="b.txt"', "ab.txt"),
            # What is coded wrongly, or as nobody can tell, gives way to the next.
            ("attachment; filename*=UTF-8''%ff.txt; filename=plain.txt", "plain.txt"),
            ("attachment; filename*=klingon''%41.txt; filename=plain.txt", "plain.txt"),
            ("attachment; filename*=rot13''%41.txt; filename=plain.txt", "plain.txt"),
            ("attachment; filename*=UTF-8''..; filename=plain.txt", "plain.txt"),
            # The plain one is taken as it is, and as UTF-8 where it is that.
            ('attachment; filename="na%20me.txt"', "na%20me.txt"),
            ('attachment; filename="\u00e9.txt"', "\u00e9.txt"),
            ('attachment; filename="' + "\u20ac 語.txt".encode().decode("latin-1") + '"', "\u20ac 語.txt"),
            ('attachment; filename="語.txt"', "語.txt"),
            # Not safe.
            ("attachment; filename=../../x.txt", "x.txt"),
            ('attachment; filename=".bashrc"', "bashrc"),
            ("attachment; filename=con.txt", "_con.txt"),
        ],
        ids=ascii,
    )
    def test_a_name(self, header, name):
        """It is the file's name, whatever the URL is."""
        assert name_for("http://host/url.bin", header) == name

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "attachment",
            "attachment;",
            "; ; ;",
            'attachment; filename=""',
            "attachment; filename=",
            'attachment; filename=".."',
            'attachment; filename="/"',
            'attachment; filename="folder/"',
            "attachment; filename*=UTF-8''",
            "attachment; filename*=UTF-8''%ff",
            "attachment; filename*=klingon''x",
            "attachment; filename*" + "9" * 5000 + "=x",
            "attachment; filename=" + "x" * 20_000,
            "attachment; filename*=UTF-8''\udc80",
            "attachment; name=x",
        ],
        ids=lambda header: ascii(header)[:60],
    )
    def test_none(self, header):
        """Where it has no name that will do, the URL has."""
        assert name_for("http://host/url.bin", header) == "url.bin"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host/file.txt", "file.txt"),
        ("https://host:8443/a/b/file.txt?x=/other.txt#y/z", "file.txt"),
        ("http://host/two%20words.txt", "two words.txt"),
        ("http://host/two+words.txt", "two+words.txt"),
        ("http://host/%E2%82%AC.txt", "\u20ac.txt"),
        ("http://host/\u20ac.txt", "\u20ac.txt"),
        ("http://host/%E9t%E9.txt", "\u00e9t\u00e9.txt"),
        ("http://host/%252e%252e", "%2e%2e"),
        ("http://host/100%.txt", "100%.txt"),
        ("http://host/a%2F..%2Fb", "b"),
        ("http://host/a%5Cb", "b"),
        ("http://host/%00x%0A.txt", "x.txt"),
        ("http://host/.bashrc", "bashrc"),
        ("http://host/x.part", "x_part"),
        ("http://host", "download"),
        ("http://host/", "download"),
        ("http://host/folder/", "download"),
        ("http://host/?file=x.txt", "download"),
        ("http://host/a/..", "download"),
        ("http://host/%2e%2e", "download"),
        ("http://host/a%2F", "download"),
        ("http://user:secret@host", "download"),
    ],
)
def test_the_url(url, name):
    """The last part of its path, decoded once; its query, host and user name nothing."""
    assert name_for(url) == name
    assert _names.DEFAULT_NAME == "download"


ALPHABETS = [
    "ab.",
    "./\\-~ ",
    "conCON.1¹ ",
    '"*:<>?|a',
    ".partjsonewPART",
    "\0\x01\n\r\t\x1b\x7f\x85a.",
    "\u200b\u200c\u200d\u200e\u202a\u202e\u2066\u2069\ufeff\u061ca.-",
    "\ud800\udfff\udc80a/",
    "e\u0301\u0338<>=\u212b\u1100\u1161語.",
    "%2e2F5C\"';=*filename",
    "\U0001f469\U0001f4bb\u200d.é",
    "\u00a0\u2003\u3000\u2028\u2029 .x",
    "\u3164\u2800\u034f\ufe0f\U000e0101.partcon-",
]


def nasty_text(rng: random.Random) -> str:
    """Something that may be meant ill."""
    letters = "".join(rng.sample(ALPHABETS, rng.randint(1, 3)))
    text = "".join(rng.choices(letters, k=rng.choice([0, 1, 2, 3, 5, 8, 20, 100, 300, 1000])))
    if rng.random() < 0.1:
        text += "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(1, 5)))
    ends = ["", "", "", ".part", ".part.json", ".tar.gz", ".", " ", "con", "con.txt", "." + "é" * rng.randint(1, 30)]
    return text + rng.choice(ends)


# Hangul fillers, the joiner of graphemes, inherent vowels, variation selectors, the blank of braille, and a few of no category.
WITHOUT_INK = set(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u2065\u2800\u3164\uffa0\ufff0\ufff8\ufe00\ufe0f\U0001d159"
    "\U000e0000\U000e0100\U000e01ef\U000e0fff"
)


def assert_safe(name: str, folder: Path | None = None) -> None:
    """What holds for every name from here."""
    assert name
    assert name == os.path.basename(name)
    assert not set(name) & set('/\\"*:<>?|')
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert name == name.strip()
    assert name.split(".", maxsplit=1)[0].strip().upper() not in _names._DEVICES
    assert not name.lower().endswith((".part", ".part.json", ".part.json.new"))
    assert len(name.encode()) <= MAX_NAME
    assert len(name.encode("utf-16-le")) <= 2 * MAX_NAME
    assert not [
        c for c in name if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in "\u200c\u200d"
    ]
    assert not set(name) & WITHOUT_INK
    assert unicodedata.is_normalized("NFC", name)
    assert safe_name(name) == name, "a safe name is one"
    if folder is not None:
        path = folder / (name + ".part.json.new")
        path.write_bytes(b"")
        assert [each.name for each in folder.iterdir()] == [path.name]
        path.unlink()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_it_is_the_name_is_safe(seed, tmp_path):
    """Thousands of candidates that are meant ill: every name that comes of one is safe, and can be made."""
    rng = random.Random(seed)
    for number in range(3000):
        text = nasty_text(rng)
        name = safe_name(text)
        if name is not None:
            assert_safe(name, tmp_path if number % 20 == 0 else None)
        headers = [
            text,
            f"attachment; filename={text}",
            f'attachment; filename="{text}"',
            f"attachment; filename*=UTF-8''{text}",
            f"attachment; filename*0*={text}; filename*1={nasty_text(rng)}",
        ]
        assert_safe(name_for(f"http://host/{text}", rng.choice(headers)))
        assert_safe(name_for(f"http://host/{text}"))
