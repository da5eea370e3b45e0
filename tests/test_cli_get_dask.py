"""`iointerrupt get --dask`: the command line as it is, and the workers of a cluster behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from iointerrupt import cli
from iointerrupt._cli import cluster as cluster_module
from iointerrupt.testing import steps
from tests.dask_cluster import Cluster, cluster_fixture  # noqa: F401 - a fixture
from tests.scripts import always
from tests.test_dask_downloads import wait_until_let_go

BODY = bytes(range(256)) * 40  # 10.0 KiB
HALF_SIZE = 6000
HALF = [steps.head(length=len(BODY), headers={"ETag": '"1"', "Accept-Ranges": "bytes"}), steps.send(BODY[:HALF_SIZE])]

# Seconds after which a test says what it has waited for in vain.
LIMIT = 70


@pytest.fixture(autouse=True)
def folder(plain_environment, tmp_path, monkeypatch):
    """The current folder, in which nothing is; and no proxies in the environment."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def get(cluster):
    """Runs `get` in this process, with the cluster."""
    return lambda *arguments: cli.main(["get", "--dask", cluster.address, *map(str, arguments)])


def child(*arguments, **options):
    """Start `get` in a process of its own, in a session of its own, as a terminal has it."""
    return subprocess.Popen(
        [sys.executable, "-m", "iointerrupt", "get", *map(str, arguments)],
        **{
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "start_new_session": True,
            **options,
        },
    )


def events(out):
    """What was printed as JSON."""
    return [json.loads(line) for line in out.splitlines()]


def wait_until_halves(process, urls):
    """Wait until it says of each URL that half of it is there."""
    left = set(urls)
    while left:
        event = json.loads(process.stdout.readline())
        if event["event"] == "progress" and event["done"] == HALF_SIZE:
            left.discard(event["url"])


def files_in(folder):
    """All files below a folder, and what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_to_fetch(folder, capsys, monkeypatch):
    """An empty list takes no cluster: none is asked, and none is made."""
    monkeypatch.setattr(cluster_module, "_connected", None)
    (folder / "urls.txt").write_text("# none\n")
    assert cli.main(["get", "--dask", "local", "-i", "urls.txt"]) == 0
    assert cli.main(["get", "--dask", "tcp://127.0.0.1:9", "-i", "urls.txt"]) == 0


class TestWithACluster:
    """A cluster that is there."""

    def test_a_list(self, folder, get, fault_server, capsys):
        """All of a list is there, in the folder; a line for each, with its name as it is without a cluster."""
        server = fault_server(always(BODY))
        lines = [f"{server.url}/{name}" for name in "abc"] + [f"{server.url}/d sub/e"]
        (folder / "list").write_text("\n".join(lines))
        assert get("-i", "list", "-d", "out") == 0
        assert files_in(folder / "out") == dict.fromkeys(["a", "b", "c", "sub/e"], BODY)
        shown = capsys.readouterr()
        assert shown.err == ""
        assert sorted(line.split()[0] for line in shown.out.splitlines()) == ["out/a", "out/b", "out/c", "out/sub/e"]
        assert all(re.fullmatch(r"out/\S+  10\.0 KiB  [\d.]+ [KMG]?i?B/s", line) for line in shown.out.splitlines())

    def test_json(self, folder, get, fault_server, capsys):
        """The events are those that there are without a cluster, with the same keys."""
        server = fault_server(always(BODY))
        assert get("--json", "-o", "name", f"{server.url}/a") == 0
        here = events(capsys.readouterr().out)
        os.remove("name")
        assert cli.main(["get", "--json", "-o", "name", f"{server.url}/a"]) == 0
        without = events(capsys.readouterr().out)
        of_interest = [event for event in without if event["event"] != "progress"]
        here = [event for event in here if event["event"] != "progress"]
        assert [event["event"] for event in here] == ["start", "done", "summary"]
        assert [sorted(event) for event in here] == [sorted(event) for event in of_interest]
        assert here[1]["path"] == "name"
        assert (here[1]["size"], here[2]["bytes"], here[2]["exit"]) == (len(BODY), len(BODY), 0)

    def test_tries(self, get, fault_server, capsys):
        """A try that fails is told of, as it is without a cluster."""
        server = fault_server([steps.expect(), steps.answer(b"later", status=503)], always(BODY))
        assert get("--json", f"{server.url}/a") == 0
        said = [event for event in events(capsys.readouterr().out) if event["event"] != "progress"]
        assert [event["event"] for event in said] == ["start", "retry", "done", "summary"]
        retry = said[1]
        assert retry["attempt"] == 2
        assert "503" in retry["message"]

    def test_deadline(self, get, fault_server, capsys):
        """The deadline of a file is a failure of that file."""
        server = fault_server([steps.expect(), steps.stall()])
        assert get("--deadline", "0.2", f"{server.url}/a") == 1
        assert "not done within --deadline 0.2" in capsys.readouterr().err

    def test_failures(self, folder, get, fault_server, capsys):
        """What cannot be had is said, and the code is 1; the others are there. A file that is there can be skipped."""
        server = fault_server([steps.repeat(steps.route({"/a": [steps.answer(BODY)], "/b": [steps.answer(BODY)]}))])
        (folder / "b").write_bytes(b"")
        assert get(*(f"{server.url}/{name}" for name in ("none", "a"))) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith(f"iointerrupt: {server.url}/none: ")
        assert "404" in shown.err
        assert get("--skip-existing", f"{server.url}/a", f"{server.url}/b") == 0
        shown = capsys.readouterr()
        assert shown.out.count("skipped: it is there already") == 2
        assert get(f"{server.url}/b") == 1
        assert "see --overwrite, --update and --skip-existing" in capsys.readouterr().err

    def test_stop(self, folder, cluster, fault_server):
        """A signal stops the transfers in the workers, keeps the parts, and the command that goes on is said."""
        server = fault_server(
            [steps.expect(), *HALF, steps.stall()],
            [steps.expect(), *HALF, steps.stall()],
            [steps.repeat(steps.expect(), steps.serve(BODY, etag='"1"'))],
        )
        urls = [f"{server.url}/{name}" for name in "ab"]
        with child("--dask", cluster.address, "--json", *urls) as process:
            wait_until_halves(process, urls)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 143
        ends = [event for event in events(out) if event["event"] in ("stopped", "summary")]
        assert [event["event"] for event in ends] == ["stopped", "stopped", "summary"]
        assert ends[-1]["exit"] == 143
        assert "stopped: 0 of 2 done; to resume:" in err
        assert f"--dask {cluster.address}" in err
        assert sorted(files_in(folder)) == ["a.part", "a.part.json", "b.part", "b.part.json"]
        wait_until_let_go(folder)
        assert cli.main(["get", "-q", "--dask", cluster.address, *urls]) == 0
        assert files_in(folder) == {"a": BODY, "b": BODY}

    def test_scheduler_that_is_lost(self, fault_server):
        """That the scheduler is gone is said, and the code is 1."""
        server = fault_server([steps.expect(), *HALF, steps.stall()])
        with Cluster(workers=1) as cluster, child("--dask", cluster.address, f"{server.url}/a") as process:
            server.wait_for("stall", timeout=LIMIT)
            cluster.kill_scheduler()
            _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 1
        assert "the connection to the scheduler is lost" in err
        assert "Traceback" not in err


class TestLocal:
    """A cluster that is made for the command."""

    def test_all(self, folder, fault_server):
        """The files are there, nothing but the lines is said, and no process is left."""
        server = fault_server(always(BODY))
        with child("--dask", "local", *(f"{server.url}/{name}" for name in "ab")) as process:
            out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, err) == (0, "")
        assert sorted(line.split()[0] for line in out.splitlines()) == ["a", "b"]
        assert files_in(folder) == {"a": BODY, "b": BODY}

    def test_ctrl_c(self, folder, fault_server):
        """Ctrl-C, which the terminal sends to the workers as well, is a stop like any other."""
        server = fault_server([steps.expect(), *HALF, steps.stall()])
        urls = [f"{server.url}/{name}" for name in "ab"]
        with child("--dask", "local", "--json", *urls) as process:
            wait_until_halves(process, urls)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert events(out)[-1]["stopped"] == 2
        assert err.startswith("stopped: 0 of 2 done; to resume:\n  iointerrupt get --dask local ")
        assert sorted(files_in(folder)) == ["a.part", "a.part.json", "b.part", "b.part.json"]


class TestWhatDoesNotGo:
    """What is refused, and what cannot be reached."""

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--segments", "2"], "--segments and --dask exclude each other: there a file has one connection"),
            (["--max-rate", "1M"], "--max-rate and --dask exclude each other: no worker knows"),
            (["-u", "me:it"], "--user and --dask exclude each other: the workers have their own ~/.netrc"),
            (["--proxy", "http://proxy:80"], "--proxy and --dask exclude each other"),
            (["--cacert", "/dev/null"], "--cacert and --dask exclude each other"),
            (["--insecure"], "--insecure and --dask exclude each other"),
            (["-o", "-"], "-o - and --dask exclude each other: the workers have other standard outputs"),
            (["--dask", "http://remote:8786"], "'http://remote:8786' is no address of a scheduler"),
            (["--dask", "tcp://[::1:8786"], "'tcp://[::1:8786' is no address of a scheduler"),
            (["--dask", "remote"], "'remote' is no address of a scheduler; accepted are tcp://HOST:PORT and local"),
        ],
    )
    def test_options(self, capsys, arguments, says):
        """What makes no sense with workers is refused, with the reason, before anything is done."""
        assert cli.main(["get", "--dask", "tcp://127.0.0.1:9", *arguments, "http://a/"]) == 2
        assert says in " ".join(capsys.readouterr().err.split())

    def test_without_dask(self, monkeypatch, capsys):
        """Without Dask it is said what to install."""
        for name in list(sys.modules):
            if name == "iointerrupt.dask" or name.startswith(("iointerrupt._dask", "iointerrupt._cli.cluster")):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert cli.main(["get", "--dask", "local", "http://a/"]) == 2
        assert 'pip install "iointerrupt[dask]"' in " ".join(capsys.readouterr().err.split())

    def test_nobody_there(self):
        """A scheduler that cannot be reached is an error, in words."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "0.1s"}
        with child("--dask", address, "http://a/", env=environment) as process:
            _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 1
        assert f"--dask {address}: " in err
        assert "Traceback" not in err

    def test_stop_while_it_connects(self, folder):
        """A scheduler that never answers keeps nobody: Ctrl-C ends the wait."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            with child("--dask", address, "--json", "http://a/") as process:
                listener.settimeout(LIMIT)
                with listener.accept()[0]:
                    os.killpg(process.pid, signal.SIGINT)
                    out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert [event["event"] for event in events(out)] == ["stopped", "summary"]
        assert "Traceback" not in err
