"""What a server or a URL calls a file, made up by hypothesis: no exception, no path out of the folder, no name that does harm."""

from __future__ import annotations

import os
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from iointerrupt._cli.events import plain
from iointerrupt.downloads import DownloadError, download
from iointerrupt.downloads._errors import without_credentials
from iointerrupt.downloads._names import DEFAULT_NAME, name_for, safe_name
from iointerrupt.downloads._options import check_url
from iointerrupt.downloads._target import Target
from iointerrupt.testing import steps
from tests.fuzzing import FACTOR, fuzz, mutated, nasty_texts
from tests.test_downloads_names import assert_safe

# Content-Disposition

keys = st.sampled_from(
    [
        *(
            "filename",
            "filename",
            "filename*",
            "filename*",
            "FileName",
            "FILENAME*",
            "filename ",
            "name",
            "",
            "filename**",
        ),
        *(
            "filename*0",
            "filename*1",
            "filename*0*",
            "filename*1*",
            "filename*2",
            "filename*00",
            "filename*-1",
            "filename*1 ",
        ),
        *("filename*9" + "9" * 30, "filename*" + "9" * 5000, "filename*\u00b2", "filename*a", "*0", "filename[0]"),
    ]
)
charsets = st.sampled_from(
    [
        "UTF-8",
        "utf-8",
        "ISO-8859-1",
        "",
        "us-ascii",
        "utf-16",
        "utf-7",
        "idna",
        "punycode",
        "rot13",
        "hex",
        "undefined",
        "x\0",
    ]
)
percent_coded = st.one_of(nasty_texts.map(lambda text: quote(text.encode("utf-8", "replace"), safe="")), nasty_texts)
values = st.one_of(
    nasty_texts,
    nasty_texts.map(lambda text: f'"{text}"'),
    nasty_texts.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
    st.builds("{}'{}'{}".format, charsets, st.sampled_from(["", "en", "'"]), percent_coded),
    # As http.client has it: UTF-8, or UTF-16, taken for Latin-1.
    nasty_texts.map(lambda text: f'"{text.encode("utf-8", "replace").decode("latin-1")}"'),
    nasty_texts.map(lambda text: text.encode("utf-16", "replace").decode("latin-1")),
)
parameters = st.builds("{}{}{}".format, keys, st.sampled_from(["=", "=", " = ", "==", "", "*="]), values)
headers = mutated(
    st.builds(
        lambda first, between, rest: between.join([first, *rest]),
        st.sampled_from(["attachment", "inline", "form-data", "", "filename=x", '"']),
        st.sampled_from(["; ", ";", ";;", " ; ", ",", "\t;\t"]),
        st.lists(parameters, max_size=4),
    ),
    nasty_texts,
)

# URLs

segments = st.one_of(nasty_texts, nasty_texts.map(lambda text: quote(text.encode("utf-8", "replace"), safe="")))
urls = mutated(
    st.builds(
        "{}://{}{}/{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "ftp", "file", "", "javascript"]),
        st.sampled_from(["", "", "user:secret@", "a@b:c@", "@", ":@"]),
        st.sampled_from(
            [
                "host",
                "host:80",
                "[::1]",
                "[::1",
                "host:99999",
                "host:x",
                "\u2100.test",
                "xn--",
                "",
                "h\u00f6st",
                "127.1",
            ]
        ),
        st.lists(segments, max_size=3).map("/".join),
        st.sampled_from(["", "?", "?name=../../x", "?a/b"]),
        st.sampled_from(["", "#", "#/../x"]),
    ),
    nasty_texts,
)


def inside(folder: str, name: str) -> bool:
    """Whether a name is that of a file in the very folder."""
    path = os.path.join(folder, name)
    return os.path.dirname(os.path.normpath(path)) == folder and os.path.basename(path) == name


@fuzz(150)
@given(nasty_texts)
def test_any_text(candidate):
    """Whatever a file is called, what is made of that is a safe name, or none, and stays the same when it is made again."""
    name = safe_name(candidate)
    if name is not None:
        assert_safe(name)
        assert inside("/folder", name)


@fuzz(150)
@given(headers)
@example("attachment; filename*0=a; filename*=b")  # sorted by their numbers, of which one has none
@example("attachment; filename*=UTF-8''x; filename*0*=UTF-8''y")
@example('attachment; filename="\\')
@example("attachment; filename*0*=")
@example("attachment; filename*0*='")
def test_any_header(header):
    """Whatever Content-Disposition says, there is a safe name."""
    name = name_for("http://host/x", header)
    assert_safe(name)
    assert inside("/folder", name)


@fuzz(80)
@given(nasty_texts)
def test_a_header_that_is_well_formed(name):
    """What is called by RFC 8187 is called so, as far as that is safe; else the URL counts."""
    text = name.encode("utf-8", "replace").decode()
    coded = quote(text, safe="")
    assume(len(coded) < 15_000)
    assert name_for("http://host/url", f"attachment; filename=x; filename*=UTF-8''{coded}") == (safe_name(text) or "x")
    quoted = "".join(c for c in text if c not in '"\\').encode().decode("latin-1")
    assume(not any(ord(c) < 32 for c in quoted) and quoted.strip() == quoted)
    expected = safe_name(quoted.encode("latin-1").decode()) or "url"
    assert name_for("http://host/url", f'attachment; filename="{quoted}"') == expected


@fuzz(100)
@given(urls, st.none() | headers)
def test_any_url(url, header):
    """A URL is refused with a ValueError, or gives a safe name, and a place in the folder."""
    try:
        origin = check_url(url)
    except ValueError:
        return
    assert "@" not in origin
    name = name_for(url, header)
    assert_safe(name)
    for folder in ("/folder", None):
        target = Target.of(None if folder is None else folder + "/", url)
        assert os.path.normpath(os.path.dirname(target.path) or ".") == (folder or ".")
        assert os.path.dirname(target.final_path(name)) == (folder or "")
        assert_safe(target.name)


@fuzz(30)
@given(nasty_texts)
def test_it_can_be_made(tmp_path, candidate):
    """A name that is safe is one that the file system takes, with all that is put behind it for a while."""
    name = safe_name(candidate) or DEFAULT_NAME
    path = tmp_path / f"{name}.part.json.new"
    path.touch()
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()


@pytest.mark.parametrize("count", [8_000, 16_000 * min(FACTOR, 4)])
def test_time(count):
    """The time for a name grows with its length, and is none for what is too long for a header that is meant well."""
    texts = [" .", ".tar", "\u0301", "con", "../", "%2f", "\u202e", "x" * 9 + "."]
    begin = time.process_time()
    for text in texts:
        safe_name(text * count)
    for text in [";", '";', '\\"', "=", "'", "filename*0=x;", "filename=x;", "filename*=utf-8''%41;", " ", '"']:
        name_for("http://host/x", "attachment; filename=x; " + text * (count // len(text)))
    assert time.process_time() - begin < 10


# For real


def tree(folder):
    """All that is in a folder, and what is in it."""
    found = sorted(folder.rglob("*"))
    return {str(each.relative_to(folder)): each.read_bytes() if each.is_file() else None for each in found}


@fuzz(15)
@given(header=headers, path=segments, link=st.booleans())
@example(header="attachment; filename*0=a; filename*=b", path="x", link=False)
@example(header="attachment; filename=../outside", path="..%2F..%2Foutside", link=True)
@example(header="attachment; filename=mine", path="", link=False)
def test_a_download(tmp_path_factory, fuzzed_server, header, path, link):
    """On the disk: one file with a safe name in the folder, or a DownloadError and nothing; and nothing beside it is touched."""
    server, answers = fuzzed_server
    root = tmp_path_factory.mktemp("root")
    folder = root / "folder"
    folder.mkdir()
    (root / "outside").write_bytes(b"outside")
    (folder / "mine").write_bytes(b"mine")
    if link:  # in the place of what the file may be called
        (folder / (safe_name(header.rpartition("=")[2]) or "x")).symlink_to(root / "outside")
    before = tree(root)
    value = header.encode("latin-1", "replace").translate(None, b"\r\n\0")
    answers[:] = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Disposition: " + value + b"\r\n\r\nhello"]
    try:
        done = download(f"{server.url}/{path}", folder, retries=0, timeout=5)
    except DownloadError:
        assert tree(root) == before
        return
    except ValueError:  # a URL that is none, such as one with half a character
        assert tree(root) == before
        return
    name = os.path.basename(done.path)
    assert_safe(name)
    assert tree(root) == {**before, f"folder/{name}": b"hello"}
    assert not (folder / name).is_symlink()


@pytest.fixture
def fuzzed_server(fault_server):
    """A server that sends what is in the list, to each connection, and closes it."""
    answers = []

    def send(connection):
        for octets in answers:
            connection.send(octets)

    return fault_server([steps.expect(), send]), answers


# On the terminal


@fuzz(100)
@given(st.one_of(nasty_texts, st.text(st.characters())))
@example("\u202egnp.exe")
@example("\x1b]0;title\x07")
def test_what_is_shown(text):
    """What is shown of any text steers no terminal, and turns no direction; what can be seen is shown as it is."""
    shown = plain(text)
    assert not [
        c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in "\u200c\u200d"
    ]
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text


secrets = st.text(st.characters(exclude_characters="/?#@"), min_size=1, max_size=9).map(lambda text: f"s3cr3t{text}")


@fuzz(50)
@given(nasty_texts, secrets, st.sampled_from(["user:{}@", "{}@", ":{}@", "{}:@", "a@{}@", "u:{}:x@"]), nasty_texts)
def test_what_is_shown_of_credentials(before, secret, form, after):
    """What stands before the host of a URL is not shown, wherever in a text that is."""
    shown = without_credentials(f"{before} http://{form.format(secret)}host/{after}")
    assert "s3cr3t" not in shown
    assert "://***@host/" in shown
