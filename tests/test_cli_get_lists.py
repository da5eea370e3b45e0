"""`iointerrupt get -i LIST`: where the names of a list may lead. Somebody else may have written it, and prepared the folder."""

from __future__ import annotations

import unicodedata

import pytest

from iointerrupt import cli
from tests.scripts import always

BODY = b"body"


@pytest.fixture(autouse=True)
def folder(plain_environment, tmp_path, monkeypatch):
    """The folder of the downloads, in the current one, in which nothing else is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.fixture
def get(tmp_path, fault_server, capsys):
    """Fetches what a list has, by the names that it gives; returns the exit code, and what was said in one line."""
    server = fault_server(always(BODY))

    def fetch(*names, options=("-d", "folder")):
        lines = [f"{server.url}/file {name}".rstrip() for name in names]
        (tmp_path / "list").write_text("\n".join(lines), "utf-8", "surrogateescape")
        code = cli.main(["get", "-q", "-i", str(tmp_path / "list"), *options])
        return code, " ".join(capsys.readouterr().err.split())

    return fetch


def files_in(folder):
    """The names of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        (".bashrc", "bashrc"),
        (".ssh/authorized_keys", "ssh/authorized_keys"),
        ("a/.config/x", "a/config/x"),
        ("a/.b", "a/b"),
        ("-rf", "rf"),
        ("--/x", "_/x"),
        ("~/x", "_/x"),
        ("a\x7f", "a"),
        ("a\x9b2J", "a2J"),
        ("fdp\u202eexe", "fdpexe"),
        ("a\\b", "b"),
        ("C:x", "C_x"),
        ("aux.txt", "_aux.txt"),
        ("a.part", "a_part"),
        ("\udcff", "_"),
    ],
)
def test_names_that_no_server_may_give(folder, get, name, accepted):
    """They are refused in a list as well, in each of their parts, with the line and what would be accepted; nothing is fetched."""
    code, said = get("fine", name)
    assert code == 2
    assert "list, line 2: " in said
    assert said.endswith(f" is no safe name; accepted is, for instance, {accepted!r}")
    assert said.isprintable()
    assert list(folder.iterdir()) == []
    assert get("fine", accepted) == (0, "")
    assert files_in(folder) == sorted(["fine", accepted])


def test_names_that_look_alike(folder, get):
    """A name that is written in another normal form is the same name."""
    name = unicodedata.normalize("NFD", "M\u00fcller/\u00e9")
    assert get(name) == (0, "")
    assert files_in(folder) == ["M\u00fcller/\u00e9"]


@pytest.mark.parametrize("name", ["sub/x", "sub/new/x", "sub/sub/x", "a/sub/x", "sub", "a/sub"])
def test_a_link_out_of_the_folder(folder, get, tmp_path, name):
    """A subfolder that is a link out of the folder is refused, with the line, and nothing is made outside."""
    outside = tmp_path / "folder outside"  # which begins as the other one does
    outside.mkdir()
    (folder / "a").mkdir()
    for place in (folder / "sub", folder / "a" / "sub"):
        place.symlink_to(outside)
    code, said = get("fine", name)
    assert code == 2
    assert f"list, line 2: {name!r} leads out of the folder: there is a link to" in said
    assert files_in(folder) == list(outside.iterdir()) == []


def test_a_link_to_what_is_not_there(folder, get, tmp_path):
    """Such a link is no way to make a folder outside, nor a file: in the place of one, it is something that is there already."""
    (folder / "sub").symlink_to(tmp_path / "outside")
    assert get("sub/x")[0] == 2
    code, said = get("sub")
    assert code == 1
    assert "folder/sub is there already" in said
    assert not (tmp_path / "outside").exists()


def test_links_that_stay(folder, get, tmp_path):
    """A link to another folder in it is followed; so is one to the folder itself, which the user has named."""
    (folder / "a").mkdir()
    (folder / "sub").symlink_to("a")
    (tmp_path / "link").symlink_to("folder")
    assert get("sub/x", options=("-d", "link")) == (0, "")
    assert (folder / "a" / "x").read_bytes() == BODY


def test_the_current_folder(folder, get, monkeypatch):
    """Without -d, it is the current folder that nothing leads out of."""
    (folder / "sub").symlink_to("..")
    monkeypatch.chdir(folder)
    assert get("sub/x", options=())[0] == 2
    assert get("a/x", options=()) == (0, "")
    assert (folder / "a" / "x").read_bytes() == BODY
