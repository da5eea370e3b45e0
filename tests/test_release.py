"""What `tests/release_check.py` decides, without a build: which files, versions and metadata a release may have."""

from __future__ import annotations

import io
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests import release_check

PROJECT = {
    "dependencies": ["requests>=2.32.2"],
    "optional-dependencies": {"cli": ["rich>=13.7"], "dask": [], "testing": ["pytest>=8.2"], "test": ["trio>=0.27"]},
}
FLOORS = {"requests": "2.32.2", "rich": "13.7.0", "pytest": "8.2.0"}


def test_floors_of_the_project():
    """tests/floors.txt has the lowest version of all that users' extras admit."""
    project = tomllib.loads((release_check.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    release_check.check_floors(project["project"], release_check.floors())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"rich": "13.8.0"}, "has rich 13.8.0 where 13.7 is admitted"),
        ({"rich": "13.70"}, "has rich 13.70 where 13.7 is admitted"),
        ({"rich": "13.6"}, "which is not admitted: rich>=13.7"),
        ({"rich": None}, "does not pin rich, of which 13.7 is admitted"),
    ],
)
def test_floors(changed, says):
    """A floor that is not tested is refused, whether it is missing, below what is admitted or above the lowest of it."""
    floors = {name: version for name, version in (FLOORS | changed).items() if version}
    if says is None:
        release_check.check_floors(PROJECT, floors)
        return
    with pytest.raises(AssertionError, match=says):
        release_check.check_floors(PROJECT, floors)


def test_names():
    """A file too many is named, and so is one too few."""
    release_check.check_names("it", {"a", "b"}, {"a", "b"})
    with pytest.raises(AssertionError, match=r"it has what does not belong there: \['c'\]"):
        release_check.check_names("it", {"a", "b", "c"}, {"a", "b"})
    with pytest.raises(AssertionError, match=r"it lacks \['b'\]"):
        release_check.check_names("it", {"a"}, {"a", "b"})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("iointerrupt/__pycache__/files.cpython-311.pyc", b""),
        ("iointerrupt/files.py.orig", b""),
        ("iointerrupt/files.py", f"# {release_check.ROOT}/iointerrupt/files.py".encode()),
        ("iointerrupt/files.py", bytes(release_check.LARGEST + 1)),
    ],
    ids=["bytecode", "leftover", "path", "size"],
)
def test_files(name, data):
    """What no release should have is refused: bytecode, leftovers, paths of the machine, very large files."""
    release_check.check_file("iointerrupt/files.py", b'"""A docstring."""')
    with pytest.raises(AssertionError):
        release_check.check_file(name, data)


def test_files_of_the_project():
    """They are those of the working tree, without what git is told to leave out."""
    if not (release_check.ROOT / ".git").exists():
        pytest.skip("this is no working tree of git")
    found = release_check.of_the_project()
    assert {"pyproject.toml", "iointerrupt/py.typed", "tests/test_release.py"} <= found
    assert not [name for name in found if "__pycache__" in name or name.startswith((".venv", "build/"))]


def sdist(folder: Path, *names: str) -> Path:
    """A source distribution with some files."""
    path = folder / "iointerrupt-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"data"))
    return path


def test_source_distribution(tmp_path):
    """It is read by names below its only folder, and what is beside that is refused."""
    assert release_check.read_sdist(sdist(tmp_path, "iointerrupt-1.0/a/b.py"), "iointerrupt-1.0") == {"a/b.py": b"data"}
    with pytest.raises(AssertionError, match=r"other/a.py is not in iointerrupt-1.0/"):
        release_check.read_sdist(sdist(tmp_path, "iointerrupt-1.0/a.py", "other/a.py"), "iointerrupt-1.0")


def test_tests_without_the_package(tmp_path):
    """What the tests run in has all of the source distribution but the package."""
    sdist(
        tmp_path,
        "iointerrupt-1.0/iointerrupt/files.py",
        "iointerrupt-1.0/tests/test_files.py",
        "iointerrupt-1.0/LICENSE",
    )
    release_check.unpack_tests(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"iointerrupt-1.0.tar.gz", "tests/tests/test_files.py", "tests/LICENSE"}
