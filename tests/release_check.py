"""Run by `make release-check`: is what would be published whole, and is there nothing else in it?

It builds the source distribution and the wheel, each twice in different ways, and looks into them: at every name, at the
metadata, and for anything that only the machine that built them can know. `tests/wheel_check.py` then uses the wheel, and the
tests run from the source distribution with the package's own source taken out of it: what they import is what was installed.

    python tests/release_check.py build/release         # build there, and check
    python tests/release_check.py --unpack build/release  # put the source distribution's tests beside it, without the package
"""

from __future__ import annotations

import argparse
import email
import email.message
import getpass
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = "iointerrupt"

#: The extras that users install; the others are the project's own.
EXTRAS = ("cli", "dask", "testing")

#: What the builder adds to what the project has.
ADDED_TO_SDIST = {"PKG-INFO", "pyproject.toml", ".gitignore"}
ADDED_TO_WHEEL = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}

#: Bytes of the largest file that belongs into a release.
LARGEST = 400_000


def main(arguments: list[str]) -> int:
    """Build and check; returns the exit code, which is that of a failed command, and an AssertionError for the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unpack", action="store_true", help="only lay out the tests of the source distribution")
    parser.add_argument("folder", type=Path, help="where to build")
    asked = parser.parse_args(arguments)
    if asked.unpack:
        unpack_tests(asked.folder)
        return 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    check_floors(project["project"], floors())
    sdist, wheel = build(asked.folder)
    version = check_versions(sdist, wheel)
    stem = f"{PACKAGE}-{version}"
    in_sdist, in_wheel = read_sdist(sdist, stem), read_wheel(wheel)
    package = {name for name in of_the_project() if name.startswith(f"{PACKAGE}/")}
    check_names("the wheel", set(in_wheel), package | {f"{stem}.dist-info/{name}" for name in ADDED_TO_WHEEL})
    check_names("the source distribution", set(in_sdist), of_the_sdist(project) | ADDED_TO_SDIST)
    for where, content in ((sdist.name, in_sdist), (wheel.name, in_wheel)):
        for name, data in content.items():
            check_file(f"{where}: {name}", data)
    for name in package:
        assert in_wheel[name] == in_sdist[name] == (ROOT / name).read_bytes(), f"{name} differs from the source"
    metadata = check_metadata(in_wheel[f"{stem}.dist-info/METADATA"], project["project"], version)
    assert in_sdist["PKG-INFO"] == in_wheel[f"{stem}.dist-info/METADATA"], "the two have different metadata"
    check_description(metadata)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], check=True)
    print(
        f"{sdist.name}: {len(in_sdist)} files, {sdist.stat().st_size:,} bytes; {wheel.name}: {len(in_wheel)} files,"
        f" {wheel.stat().st_size:,} bytes; each is what it should be"
    )
    return 0


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution and the wheel made from it, which is the same as the one made from the tree."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--quiet"]
    subprocess.run([*command, "--outdir", folder, ROOT], check=True)
    direct = folder / "direct"
    subprocess.run([*command, "--wheel", "--outdir", direct, ROOT], check=True)
    (sdist,), (wheel,), (other,) = folder.glob("*.tar.gz"), folder.glob("*.whl"), direct.glob("*.whl")
    assert wheel.name == other.name == f"{sdist.name.removesuffix('.tar.gz')}-py3-none-any.whl"
    assert wheel.read_bytes() == other.read_bytes(), "the source distribution builds another wheel than the tree"
    shutil.rmtree(direct)
    return sdist, wheel


def of_the_project() -> set[str]:
    """The files of the project: those that git has or, before they are committed, would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def of_the_sdist(project: dict[str, Any]) -> set[str]:
    """What of them pyproject.toml says belongs into the source distribution."""
    wanted = [
        PurePosixPath(name.strip("/")) for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    ]
    for name in wanted:
        assert (ROOT / name).exists(), f"pyproject.toml puts {name} into the source distribution, and it does not exist"
    return {name for name in of_the_project() if any(PurePosixPath(name).is_relative_to(each) for each in wanted)}


def read_sdist(path: Path, stem: str) -> dict[str, bytes]:
    """The files of a source distribution, by their names below its only folder."""
    content = {}
    with tarfile.open(path) as archive:
        for member in archive:
            assert member.isreg(), f"{member.name} is no regular file"
            assert member.name.startswith(f"{stem}/"), f"{member.name} is not in {stem}/"
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", ""), (
                f"{member.name} says whose it was"
            )
            file = archive.extractfile(member)
            assert file is not None
            content[member.name.removeprefix(f"{stem}/")] = file.read()
    return content


def read_wheel(path: Path) -> dict[str, bytes]:
    """The files of a wheel, by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def check_names(what: str, found: set[str], expected: set[str]) -> None:
    """Each name that should be there is, and no other."""
    assert not found - expected, f"{what} has what does not belong there: {sorted(found - expected)}"
    assert not expected - found, f"{what} lacks {sorted(expected - found)}"
    assert not [name for name in found if name.startswith("/") or ".." in PurePosixPath(name).parts]


def check_file(name: str, data: bytes) -> None:
    """It is no leftover, and tells nothing about the machine on which it was made."""
    assert "__pycache__" not in name, name
    assert not name.endswith((".pyc", ".pyo", ".orig", ".rej", "~", ".swp", ".log", ".part")), name
    assert len(data) <= LARGEST, f"{name} has {len(data):,} bytes"
    for own in {str(ROOT), str(Path.home())}:
        assert own == "/" or f"{own}/".encode() not in data, f"{name} has a path of this machine in it: {own}"
    user = getpass.getuser()
    assert user == "root" or re.search(rb"/(home|Users)/%s\b" % re.escape(user.encode()), data) is None, name


def check_versions(sdist: Path, wheel: Path) -> str:
    """The names of both have the version of the package, and the changelog begins with it once it is no longer open."""
    source = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    assert found, "iointerrupt/__init__.py has no __version__"
    version = found[1]
    assert sdist.name == f"{PACKAGE}-{version}.tar.gz", sdist.name
    assert wheel.name == f"{PACKAGE}-{version}-py3-none-any.whl", wheel.name
    changes = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [name for name in changes if name != "Unreleased"]
    assert released[:1] == [version], f"CHANGELOG.md has {released[:1]} on top where the package is {version}"
    return version


def check_metadata(data: bytes, project: dict[str, Any], version: str) -> email.message.Message:
    """It says what pyproject.toml says, and names no address that nobody has made sure of."""
    metadata = email.message_from_bytes(data)
    assert metadata["Name"] == PACKAGE
    assert metadata["Version"] == version
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not metadata["License"], "a licence is said by an SPDX expression alone (PEP 639)"
    classifiers = metadata.get_all("Classifier", [])
    assert classifiers == project["classifiers"]
    assert not [name for name in classifiers if name.startswith("License ::")], "as above"
    assert "Typing :: Typed" in classifiers
    assert sorted(metadata.get_all("Provides-Extra", [])) == sorted(project["optional-dependencies"])
    assert set(EXTRAS) <= set(project["optional-dependencies"])
    given = {f"{label}, {address}" for label, address in project.get("urls", {}).items()}
    assert set(metadata.get_all("Project-URL", [])) == given
    always = [given for given in metadata.get_all("Requires-Dist", []) if "extra ==" not in given]
    assert {Requirement(each).name for each in always} == {Requirement(each).name for each in project["dependencies"]}
    return metadata


def check_description(metadata: email.message.Message) -> None:
    """A page of PyPI shows it, where a link to a file of the project leads nowhere."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = str(metadata.get_payload())
    assert text.startswith("# "), "the README has no title"
    relative = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|mailto:|#", link)]
    if relative:
        print(f"not on PyPI: {len(relative)} links of the README are relative, such as {relative[0]}")


def floors() -> dict[str, str]:
    """What tests/floors.txt pins, by name."""
    lines = (ROOT / "tests" / "floors.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def check_floors(project: dict[str, Any], pinned: dict[str, str]) -> None:
    """What users' extras need is tested with the lowest versions that they admit, and with no lower ones."""
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    for text in [line for group in groups for line in group]:
        needed = Requirement(text)
        (floor,) = [each.version for each in needed.specifier if each.operator == ">="]
        assert needed.name in pinned, f"tests/floors.txt does not pin {needed.name}, of which {floor} is admitted"
        pin = pinned[needed.name]
        assert needed.specifier.contains(pin), (
            f"tests/floors.txt has {needed.name} {pin}, which is not admitted: {text}"
        )
        assert f"{pin}.".startswith(f"{floor}."), f"tests/floors.txt has {needed.name} {pin} where {floor} is admitted"


def unpack_tests(folder: Path) -> None:
    """Lay out the source distribution without the package, so that the tests find the one that is installed."""
    (sdist,) = folder.glob("*.tar.gz")
    place = folder / "tests"
    shutil.rmtree(place, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.iterdir()
    shutil.rmtree(unpacked / PACKAGE)
    for entry in list(unpacked.iterdir()):
        entry.rename(place / entry.name)
    unpacked.rmdir()
    print(f"the tests of {sdist.name} are in {place}, and the package is not")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
