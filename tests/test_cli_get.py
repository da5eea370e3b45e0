"""`iointerrupt get`: what it makes of its arguments, what it prints where, and what a signal leaves and says."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios

import pytest

from iointerrupt import Interrupted, StopEvent, cli
from iointerrupt._cli import events as cli_events
from iointerrupt._cli import running
from iointerrupt._cli.events import Moment, Outcome, Tally
from iointerrupt.testing import FaultServer, steps
from tests.scripts import always

BODY = bytes(range(256)) * 40  # 10.0 KiB
ETAG = {"ETag": '"1"', "Accept-Ranges": "bytes"}
FILE = steps.serve(BODY, etag='"1"')
HALF = [steps.head(length=len(BODY), headers=ETAG), steps.send(BODY[:6000]), steps.mark("half"), steps.stall()]


@pytest.fixture(autouse=True)
def folder(plain_environment, tmp_path, monkeypatch):
    """The current folder, in which nothing is; and no proxies in the environment."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serving(**paths):
    """A script that answers each path by its steps, and all others with 404."""
    answers = {f"/{name}": [answer] if not isinstance(answer, list) else answer for name, answer in paths.items()}
    return [steps.repeat(steps.route({"/missing": [steps.answer(b"no", status=404)], **answers}))]


def get(*arguments):
    """Run `get` in this process."""
    return cli.main(["get", *map(str, arguments)])


def child(*arguments, **options):
    """Start `get` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "iointerrupt", "get", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def events(out):
    """What was printed as JSON."""
    return [json.loads(line) for line in out.splitlines()]


class TestPlaces:
    """Where files go."""

    def test_name_of_the_url(self, folder, fault_server, capsys):
        """Without an option, it is the current folder and the URL's name; a line says so."""
        server = fault_server(serving(file=FILE))
        assert get(f"{server.url}/file") == 0
        assert (folder / "file").read_bytes() == BODY
        shown = capsys.readouterr()
        assert re.fullmatch(r"file  10\.0 KiB  [\d.]+ [KMG]iB/s\n", shown.out)
        assert shown.err == ""

    def test_output_and_dir(self, folder, fault_server):
        """-o names the file, in the folder of -d, which is made."""
        server = fault_server(serving(file=FILE))
        assert get("-q", "-o", "here", "-d", "one/two", f"{server.url}/file") == 0
        assert (folder / "one" / "two" / "here").read_bytes() == BODY

    def test_several(self, folder, fault_server, capsys):
        """Several URLs, each into the folder; one that fails does not keep the others, and the code is 1."""
        server = fault_server(serving(a=FILE, b=FILE))
        assert get("-d", "all", *(f"{server.url}/{name}" for name in ("a", "missing", "b"))) == 1
        assert sorted(path.name for path in (folder / "all").iterdir()) == ["a", "b"]
        shown = capsys.readouterr()
        assert sorted(line.split()[0] for line in shown.out.splitlines()) == ["all/a", "all/b"]
        assert shown.err.startswith(f"iointerrupt: {server.url}/missing: ")
        assert "404" in shown.err
        assert shown.err.count("\n") == 1

    def test_list(self, folder, fault_server):
        """A list has URLs, names below the folder, comments and empty lines, with any line ends."""
        server = fault_server(serving(a=FILE, b=FILE, c=FILE))
        lines = f"\ufeff# all of them\r\n\r\n{server.url}/a\r\n  {server.url}/b\tsub/a name \n{server.url}/c"
        (folder / "list").write_bytes(lines.encode())
        assert get("-q", "-i", "list", "-d", "out") == 0
        found = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*") if path.is_file())
        assert found == ["a", "c", "sub/a name"]

    def test_list_from_stdin(self, folder, fault_server):
        """The list `-` is standard input."""
        server = fault_server(serving(a=FILE))
        with child("-i", "-", stdin=subprocess.PIPE) as process:
            assert process.communicate(f"{server.url}/a\n", timeout=50)[1] == ""
        assert (folder / "a").read_bytes() == BODY

    def test_empty_list(self, folder, capsys):
        """A list of nothing is done at once."""
        (folder / "list").write_text("# nothing\n")
        assert get("--json", "-i", "list") == 0
        assert [event["event"] for event in events(capsys.readouterr().out)] == ["summary"]

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("example.org/a", "has no scheme; accepted are http://HOST..., https://HOST..."),
            ("ftp://example.org/a", "has the scheme 'ftp'; accepted are http://HOST..., https://HOST..."),
            ("http://a/ ../b", "is no name below the folder; accepted are NAME and FOLDER/NAME"),
            ("http://a/ /etc/b", "is no name below the folder"),
            ("http://a/ b/", "is no name below the folder"),
        ],
    )
    def test_bad_line(self, folder, capsys, line, says):
        """A line that cannot be understood is named, and nothing is fetched."""
        (folder / "list").write_text(f"# first\n{line}\n")
        assert get("-i", "list") == 2
        message = " ".join(capsys.readouterr().err.split())
        assert "Error: list, line 2: " in message
        assert says in message

    def test_standard_output(self, fault_server):
        """-o - writes the file to standard output, and what there is to say to stderr."""
        server = fault_server(serving(file=FILE))
        with child("-o", "-", f"{server.url}/file", text=False) as process:
            out, err = process.communicate(timeout=50)
        assert (process.returncode, out) == (0, BODY)
        assert err.startswith(b"file  10.0 KiB  ")

    def test_standard_output_without_a_descriptor(self, fault_server, capsysbinary):
        """In a process in which standard output is an object, it is written to that."""
        server = fault_server(serving(file=FILE))
        assert get("-q", "-o", "-", f"{server.url}/file") == 0
        assert capsysbinary.readouterr().out == BODY

    def test_reader_that_goes(self, fault_server):
        """Like other tools, it ends without a word when nobody reads its output any more."""
        server = fault_server(
            [steps.expect(), steps.head(length=1 << 30), steps.repeat(steps.send(bytes(100_000)), times=5000)]
        )
        with child("-o", "-", server.url, text=False) as process:
            assert process.stdout.read(10) == bytes(10)
            process.stdout.close()
            assert process.wait(50) == 141
            assert process.stderr.read() == b""


class TestExisting:
    """Files that are there already."""

    def test_refused(self, folder, fault_server, capsys):
        """They are kept, and the message says which options there are."""
        (folder / "file").write_bytes(b"mine")
        server = fault_server(serving(file=FILE))
        assert get(f"{server.url}/file") == 1
        assert (folder / "file").read_bytes() == b"mine"
        assert capsys.readouterr().err == (
            f"iointerrupt: {server.url}/file: file is there already; see --overwrite, --update and --skip-existing\n"
        )

    def test_skipped(self, folder, fault_server, capsys):
        """With --skip-existing they count as done."""
        (folder / "file").write_bytes(b"mine")
        server = fault_server(serving(file=FILE))
        assert get("--skip-existing", f"{server.url}/file") == 0
        assert (folder / "file").read_bytes() == b"mine"
        assert capsys.readouterr().out == "file  skipped: it is there already\n"

    def test_overwritten(self, folder, fault_server):
        """With --overwrite they are replaced."""
        (folder / "file").write_bytes(b"mine")
        server = fault_server(serving(file=FILE))
        assert get("-q", "--overwrite", f"{server.url}/file") == 0
        assert (folder / "file").read_bytes() == BODY

    def test_updated(self, folder, fault_server, capsys):
        """With --update one that the server has not changed is done at once."""
        date = "Wed, 21 Oct 2015 07:28:00 GMT"
        server = fault_server(serving(file=steps.serve(BODY, last_modified=date)))
        assert get("-q", f"{server.url}/file") == 0
        assert get("--update", f"{server.url}/file") == 0
        assert capsys.readouterr().out == "file  10.0 KiB  unchanged\n"
        assert (folder / "file").read_bytes() == BODY


class TestOptions:
    """What becomes of the other options."""

    def test_checksum(self, folder, fault_server, capsys):
        """One that is right is mentioned, one that is wrong is an error."""
        server = fault_server(serving(file=FILE))
        right = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
        assert get("--checksum", right, f"{server.url}/file") == 0
        assert capsys.readouterr().out.endswith("  sha256 verified\n")
        assert get("--overwrite", "--checksum", f"sha256:{'0' * 64}", f"{server.url}/file") == 1
        assert (folder / "file").read_bytes() == BODY
        assert "0000" in capsys.readouterr().err

    def test_headers_and_user(self, fault_server):
        """Headers are sent as they are given, and a name and a password as HTTP has them."""
        wanted = {"X-Thing": "a: b", "Authorization": "Basic bWU6cGFzczp3b3Jk"}
        server = fault_server([steps.repeat(steps.expect(headers=wanted), steps.answer(b"1"))])
        assert get("-q", "-H", "X-Thing: a: b", "-u", "me:pass:word", f"{server.url}/file") == 0
        assert server.requests[0].headers["User-Agent"].startswith("iointerrupt/")

    def test_netrc(self, folder, fault_server, monkeypatch):
        """What ~/.netrc says is used, with a proxy too."""
        (folder / "netrc").write_text("machine host.test login me password secret\n")
        monkeypatch.setenv("NETRC", str(folder / "netrc"))
        server = fault_server(
            [steps.repeat(steps.expect(headers={"Authorization": "Basic bWU6c2VjcmV0"}), steps.answer(b"1"))]
        )
        assert get("-q", "--proxy", server.url, "http://host.test/file") == 0

    def test_proxy_before_the_environment(self, fault_server, monkeypatch):
        """--proxy is asked, and not the one that the environment names."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        server = fault_server([steps.repeat(steps.expect("GET", "http://host.test/file"), steps.answer(b"1"))])
        assert get("-q", "--proxy", server.url, "http://host.test/file") == 0

    def test_tls(self, folder, fault_server, capsys):
        """A certificate that nobody has signed is refused, but with --cacert or --insecure."""
        server = fault_server(serving(file=FILE), tls=True)
        assert get("--retries", 0, f"{server.url}/file") == 1
        assert "certificate" in capsys.readouterr().err.lower()
        assert get("-q", "--cacert", server.ca_file, f"{server.url}/file") == 0
        assert get("-q", "--insecure", "-o", "again", f"{server.url}/file") == 0
        assert (folder / "again").read_bytes() == BODY

    def test_mirror(self, folder, fault_server):
        """A mirror has the file where the first URL does not answer."""
        server = fault_server(serving(file=FILE))
        assert get("-q", "--mirror", f"{server.url}/file", f"{server.url}/missing") == 0
        assert (folder / "missing").read_bytes() == BODY

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--max-size", "5k"], "is 10,240 bytes, and --max-size allows 5,120"),
            (["--timeout", "0.05", "--retries", "0"], ""),
            (["--deadline", "0.05"], "not done within --deadline 0.05"),
        ],
    )
    def test_limits(self, fault_server, capsys, options, says):
        """A limit that is passed is an error in the words of the command line."""
        server = fault_server(serving(file=HALF))
        assert get(*options, f"{server.url}/file") == 1
        shown = capsys.readouterr().err
        assert shown.startswith(f"iointerrupt: {server.url}/file: ")
        assert says in shown
        assert shown.count(server.url) == 1

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "which file? Give a URL, or a list of them with -i"),
            (["example.org/a"], "has no scheme; accepted are http://HOST..., https://HOST..."),
            (["ftp://a/b"], "has the scheme 'ftp'; accepted are"),
            (["http:///b"], "has no host"),
            (["http://a:x/"], "is no URL"),
            (["http://a/b c"], "has a space or a control character in it"),
            (["-o", "x", "http://a/1", "http://a/2"], "-o names one file, and there are 2 URLs"),
            (["--max-rate", "fast", "http://a/"], "is no size; accepted are bytes, as in 500k, 2M, 1.5G"),
            (["--timeout", "soon", "http://a/"], "is no number of seconds; accepted are numbers such as 30 and 0.5"),
            (["--timeout", "nan", "http://a/"], "is no number of seconds"),
            (["-j", "0", "http://a/"], "1<=x<=256"),
            (["-H", "nonsense", "http://a/"], "is no header; accepted is 'NAME: VALUE' in one line"),
            (["-H", "A: b\nC: d", "http://a/"], "is no header"),
            (["-H", "Authorization Bearer secret", "http://a/"], "what begins with 'Authorization' is no header"),
            (["-H", "Range: bytes=0-", "http://a/"], "Range is what the download itself has to say"),
            (["-H", "A: \u20ac", "http://a/"], "has characters that no header can have"),
            (["-H", "A: 1", "-H", "a: 2", "http://a/"], "the header a is given twice"),
            (["-u", "me", "http://a/"], "accepted is NAME:PASSWORD"),
            (["--proxy", "proxy:80", "http://a/"], "has no scheme; accepted are http://HOST..."),
            (["--checksum", "sha256:00", "http://a/"], "64 hexadecimal digits"),
            (["--checksum", "md5:" + "0" * 32, "http://a/1", "http://a/2"], "is that of one file"),
            (["--mirror", "http://b/", "http://a/1", "http://a/2"], "--mirror is another URL of one file"),
            (["--update", "--overwrite", "http://a/"], "--overwrite and --update exclude each other"),
            (["--quiet", "--json", "http://a/"], "--quiet and --json exclude each other"),
            (["--insecure", "--cacert", "/dev/null", "http://a/"], "--cacert and --insecure exclude each other"),
            (["-o", "-", "--json", "http://a/"], "both want standard output"),
            (["--min-speed", "2M", "--max-rate", "1M", "http://a/"], "--min-speed is more than --max-rate allows"),
            (["-i", "nothing"], "nothing"),
            (["-d", "/dev/null/x", "http://a/"], "cannot be made a folder"),
        ],
    )
    def test_refused(self, capsys, arguments, says):
        """What cannot be meant is refused with what is accepted, before anything is done."""
        assert get(*arguments) == 2
        shown = capsys.readouterr()
        assert says in " ".join(shown.err.split())
        assert shown.out == ""


class TestJson:
    """`--json`: a line for each event."""

    def test_events(self, fault_server, capsys):
        """A download begins, fails once, begins again and is done; the summary is last."""
        server = fault_server(
            [steps.expect(), steps.answer(b"later", status=503, headers={"Retry-After": "0"}), steps.close()],
            serving(file=FILE),
        )
        assert get("--json", f"{server.url}/file") == 0
        found = [event for event in events(capsys.readouterr().out) if event["event"] != "progress"]
        assert [event["event"] for event in found] in (
            ["start", "retry", "done", "summary"],
            ["start", "done", "summary"],
        )
        done, summary = found[-2:]
        assert {
            "url": f"{server.url}/file",
            "path": "file",
            "size": len(BODY),
            "resumed_from": 0,
        }.items() <= done.items()
        assert summary == {
            "event": "summary",
            "total": 1,
            "done": 1,
            "failed": 0,
            "stopped": 0,
            "bytes": len(BODY),
            "seconds": summary["seconds"],
            "exit": 0,
        }

    def test_retry(self, fault_server, capsys):
        """A try that failed and is followed by another one is an event, with the number of that."""
        server = fault_server([steps.expect(), steps.reset()], serving(file=FILE))
        assert get("--json", f"{server.url}/file") == 0
        retries = [event for event in events(capsys.readouterr().out) if event["event"] == "retry"]
        assert [event["attempt"] for event in retries] == [2]

    def test_failure(self, fault_server, capsys):
        """A failure is an event with the error's class, and a line on stderr."""
        server = fault_server(serving())
        assert get("--json", f"{server.url}/missing") == 1
        shown = capsys.readouterr()
        failed, summary = events(shown.out)[-2:]
        assert (failed["event"], failed["error"]) == ("failed", "BadStatus")
        assert (summary["failed"], summary["exit"]) == (1, 1)
        assert shown.err == f"iointerrupt: {server.url}/missing: {failed['message']}\n"

    def test_progress(self, fault_server):
        """While it is under way, it says how far it is."""
        server = fault_server(serving(file=HALF))
        with child("--json", f"{server.url}/file") as process:
            while (event := json.loads(process.stdout.readline()))["event"] != "progress" or not event["done"]:
                pass
            process.terminate()
            process.communicate(timeout=50)
        assert {"url": f"{server.url}/file", "path": "file", "size": len(BODY), "done": 6000}.items() <= event.items()
        assert event["state"] == "running"
        assert process.returncode == 143


class TestQuiet:
    """`--quiet`, and what is loaded."""

    def test_errors_only(self, fault_server, capsys):
        """It prints what failed, and nothing else."""
        server = fault_server(serving(file=FILE))
        assert get("--quiet", f"{server.url}/file", f"{server.url}/missing") == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1

    @pytest.mark.parametrize("option", ["--quiet", "--json", None], ids=str)
    def test_without_rich(self, fault_server, option):
        """The terminal's rich is loaded neither for --quiet, nor for --json, nor in a pipe."""
        server = fault_server(serving(file=FILE))
        code = "import sys; from iointerrupt import cli; print(cli.main(sys.argv[1:]), 'rich' in sys.modules, file=sys.stderr)"
        arguments = ["get", *([option] if option else []), f"{server.url}/file"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=50)
        assert done.stderr == "0 False\n"

    def test_control_characters(self, folder, capsys):
        """What a server says, or a name, cannot steer the terminal."""
        report = running.report_for(StopEvent(), 1, quiet=False, as_json=False, source="url")
        report.failed(Moment(0, "http://host/"), "BadStatus", "no\x1b[2J\x9b2J\r\n")
        report.done(Outcome("http://host/", f"{folder}/a\x1b[2J", 1))
        shown = capsys.readouterr()
        assert shown.err == "iointerrupt: http://host/: no\\x1b[2J\\x9b2J\\x0d\\x0a\n"
        assert shown.out == "a\\x1b[2J  1 B  0 B/s\n"


@pytest.mark.usefixtures("ctrl_c")
class TestSignals:
    """Ctrl-C and SIGTERM."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_stop_and_resume(self, folder, fault_server, number, code):
        """A signal keeps what came, prints the command that goes on, and that fetches the rest alone."""
        server = fault_server([steps.expect(), *HALF], serving(**{"a%20file": FILE}))
        url = f"{server.url}/a%20file"
        with child("--json", url, "-o", "a file") as process:
            while json.loads(process.stdout.readline()).get("done") != 6000:
                pass
            process.send_signal(number)
            out, err = process.communicate(timeout=50)
        assert process.returncode == code
        stopped, summary = events(out)[-2:]
        assert stopped == {**stopped, "event": "stopped", "done": 6000, "size": len(BODY)}
        assert summary == {**summary, "event": "summary", "stopped": 1, "exit": code}
        first, command = err.splitlines()
        assert first == "stopped: 0 of 1 done; to resume:"
        assert command == f"  iointerrupt get --json {url} -o 'a file'"
        assert (folder / "a file.part").read_bytes()[:6000] == BODY[:6000]
        done = subprocess.run(
            f"{sys.executable} -m {command}", shell=True, capture_output=True, text=True, timeout=50, check=True
        )
        assert events(done.stdout)[-2]["resumed_from"] == 6000
        assert (folder / "a file").read_bytes() == BODY
        assert server.requests[-1].headers["Range"] == "bytes=6000-"

    @pytest.mark.parametrize(
        "script",
        [
            [steps.stall()],
            [steps.expect(), steps.stall()],
            [steps.expect(), steps.send(b"HTTP/1.1 200 OK\r\nConte"), steps.stall()],
            [steps.expect(), steps.head(length=8), steps.stall()],
        ],
        ids=["no request", "no answer", "in the head", "in the body"],
    )
    def test_in_each_phase(self, fault_server, script):
        """It ends at once wherever the server has stalled."""
        server = fault_server(script)
        with child(server.url) as process:
            server.wait_for("stall")
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=5)[1]
        assert process.returncode == 130
        assert err.startswith("stopped: 0 of 1 done; to resume:\n")

    def test_what_is_done(self, folder, fault_server):
        """Of several, those that are done are not in the command; those of a list are skipped by it."""
        server = fault_server(serving(a=FILE, b=FILE, half=HALF))
        (folder / "list").write_text(f"{server.url}/b\n")
        with child("-j1", f"{server.url}/a", "--no-resume", f"{server.url}/half", "-i", "list") as process:
            server.wait_for("half")
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=50)[1]
        assert process.returncode == 130
        assert err == f"stopped: 1 of 3 done; to resume:\n  iointerrupt get -j1 {server.url}/half -i list\n"

    def test_list_that_is_half_done(self, folder, fault_server):
        """Where a file of a list is done, the command takes files that are there for done."""
        server = fault_server(serving(a=FILE, half=HALF))
        (folder / "list").write_text(f"{server.url}/a\n{server.url}/half\n")
        with child("-j1", "-i", "list") as process:
            server.wait_for("half")
            process.terminate()
            err = process.communicate(timeout=50)[1]
        assert err.splitlines()[1] == "  iointerrupt get --skip-existing -j1 -i list"

    def test_secrets(self, fault_server):
        """A log does not get the password with the command."""
        server = fault_server([steps.expect(), *HALF])
        with child("-u", "me:pass word", "-H", "X-Api-Key: secret", server.url) as process:
            server.wait_for("half")
            process.terminate()
            err = process.communicate(timeout=50)[1]
        assert err.splitlines()[1] == f"  iointerrupt get -u 'me:***' -H 'X-Api-Key: ***' {server.url}"

    def test_secrets_in_any_form(self, fault_server):
        """Nor does it get the value of any header that may be a secret, however the option is written; the rest stays as it is."""
        server = fault_server([steps.expect(), *HALF])
        given = [
            "-qkume:s3cr3t://x@y",
            "-HX-Vault-Token:hvs.s3cr3t",
            "--header=X-Goog-Api-Key:  s3cr3t ",
            "-qHX-Odd: s3cr3t",
        ]
        shown = ["-qkume:***", "-HX-Vault-Token:***", "--header=X-Goog-Api-Key:  ***", "-qHX-Odd: ***"]
        others = ["--header", "X-Short: 1", "-H", "accept-language: de", "-H", "X-Empty:", "-o", "1", server.url]
        with child(*given, *others) as process:
            server.wait_for("half")
            process.terminate()
            err = process.communicate(timeout=50)[1]
        others[1] = "X-Short: ***"
        assert err.splitlines()[1] == f"  {shlex.join(['iointerrupt', 'get', *shown, *others])}"

    def test_streaming(self, fault_server):
        """What went to standard output cannot be resumed, so that no command is offered."""
        server = fault_server([steps.expect(), *HALF])
        with child("-o", "-", server.url, text=False) as process:
            assert process.stdout.read(6000) == BODY[:6000]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=50)
        assert (process.returncode, out, err) == (130, b"", b"iointerrupt: stopped: 0 of 1 done\n")

    def test_reader_that_sleeps(self, fault_server):
        """A reader of standard output who does not read keeps nobody."""
        server = fault_server(
            [steps.expect(), steps.head(length=1 << 30), steps.repeat(steps.send(bytes(100_000)), times=5000)]
        )
        with child("-o", "-", server.url, text=False) as process:
            assert process.stdout.read(10) == bytes(10)
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130

    def test_reader_that_is_there(self, monkeypatch):
        """A reader that has room gets what is still said, however late this process is to say it; one that has none ends that."""
        monkeypatch.setattr(cli_events, "_LAST_WORDS", 0)
        ends = os.pipe()
        with open(ends[0], "rb", buffering=0) as reader, open(ends[1], "w") as writer:
            monkeypatch.setattr(sys, "stdout", writer)
            stop = StopEvent()
            output = cli_events.Output(stop)
            stop.set()
            output.hurry()
            output.write("x" * 5000)
            assert reader.read(10_000) == b"x" * 5000 + b"\n"
            with pytest.raises(Interrupted):
                output.write("x" * 1_000_000)

    def test_ignored(self, folder, fault_server):
        """In a shell's background, where SIGINT is ignored, it stays so."""
        script = [steps.expect(), steps.head(length=4), steps.mark("begun"), steps.stall(), steps.send(b"done")]
        server = fault_server(script)
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
            "from iointerrupt import cli; sys.exit(cli.main(sys.argv[1:]))"
        )
        with subprocess.Popen([sys.executable, "-c", code, "get", "-q", "-o", "x", server.url]) as process:
            server.wait_for("stall")
            process.send_signal(signal.SIGINT)
            server.resume()
            assert process.wait(50) == 0
        assert (folder / "x").read_bytes() == b"done"

    def test_second(self, monkeypatch, capsys):
        """A second Ctrl-C while the downloads are still ending ends the process without waiting for them."""

        def end(code):
            raise SystemExit(code)

        monkeypatch.setattr(os, "_exit", end)
        with running.stop_on_signals() as stop:
            report = running.report_for(stop, 1, quiet=True, as_json=False, source="url")

            def transfer():
                signal.raise_signal(signal.SIGINT)
                assert stop.is_set()
                signal.raise_signal(signal.SIGINT)

            with pytest.raises(SystemExit) as ended:
                running.run(transfer, report, Tally(1), stop)
        assert ended.value.code == 130
        assert capsys.readouterr() == ("", "")

    def test_in_another_thread(self, folder, fault_server, background):
        """Outside of the main thread there are no signals, and it works all the same."""
        server = fault_server(serving(file=FILE))
        assert background(get, "-q", f"{server.url}/file").result() == 0
        assert (folder / "file").read_bytes() == BODY


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, *arguments, columns=100):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "iointerrupt", "get", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def read_until(self, text):
        """Read until a text is shown."""
        while text not in self.plain():
            try:
                data = os.read(self.master, 65536)
            except OSError:  # how a terminal ends
                data = b""
            if not data:
                pytest.fail(f"{text!r} was not shown, but {self.shown!r}")
            self.shown += data.decode()

    def rest(self):
        """Read to the end."""
        try:
            while data := os.read(self.master, 65536):
                self.shown += data.decode()
        except OSError:
            pass
        return self.process.wait(50)

    def plain(self):
        """What was shown, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown)


@pytest.mark.usefixtures("ctrl_c")
class TestTerminal:
    """What is drawn on a terminal."""

    def test_one_file(self, fault_server):
        """A bar with the name and the size, and in its place a line at the end."""
        server = fault_server(serving(file=[*HALF, steps.send(BODY[6000:])]))
        with Terminal(f"{server.url}/file") as terminal:
            terminal.read_until("5.9 KiB of 10.0 KiB")
            assert "58%" in terminal.plain()
            assert "━" in terminal.plain()
            assert "of 1 done" not in terminal.plain()  # one file needs no total
            server.wait_for("stall")
            server.resume()
            assert terminal.rest() == 0
            assert "file  10.0 KiB  " in terminal.plain()
            assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1  # the cursor is back

    def test_several_files(self, fault_server):
        """At most -j bars, and the number of those that wait."""
        server = fault_server(serving(a=FILE, half=[*HALF, steps.send(BODY[6000:])], b=FILE, c=FILE))
        with Terminal("-j1", *(f"{server.url}/{name}" for name in ("a", "half", "b", "missing", "c"))) as terminal:
            terminal.read_until("5.9 KiB of 10.0 KiB")
            terminal.read_until("1 of 5 done ")
            terminal.read_until("3 waiting")
            server.wait_for("stall")
            server.resume()
            assert terminal.rest() == 1
        shown = terminal.plain()
        assert re.search(r"a  10\.0 KiB  .*B/s", shown)
        assert f"iointerrupt: {server.url}/missing: " in shown

    def test_ctrl_c(self, fault_server):
        """Ctrl-C takes the bar away and says how to go on."""
        server = fault_server([steps.expect(), *HALF])
        with Terminal(f"{server.url}/file", "-u", "me:secret") as terminal:
            terminal.read_until("5.9 KiB of 10.0 KiB")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.rest() == 130
            shown = terminal.plain().replace("\r", "")
            assert shown.endswith(
                "file  5.9 KiB of 10.0 KiB  stopped\n"
                "stopped: 0 of 1 done; to resume:\n"
                f"  iointerrupt get {server.url}/file -u me:secret\n"  # it came from here
            )
            assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")

    def test_retrying(self, fault_server):
        """Between two tries, the line says that."""
        server = fault_server(always(b"later", status=503, headers={"Retry-After": "60"}))
        with Terminal(f"{server.url}/file") as terminal:
            terminal.read_until("retrying")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.rest() == 130

    def test_narrow(self, fault_server):
        """On a narrow terminal no line is broken: the bar and the speed make room."""
        server = fault_server(serving(**{"a-name-that-is-longer-than-the-line-of-the-terminal": HALF}))
        with Terminal(f"{server.url}/a-name-that-is-longer-than-the-line-of-the-terminal", columns=50) as terminal:
            terminal.read_until("5.9 KiB of 10.0 KiB")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.rest() == 130
        assert "━" not in terminal.plain()
        assert "a-name-" in terminal.plain()

    def test_results_elsewhere(self, folder, fault_server):
        """Where standard output is a file, it gets the lines, and the terminal the bars."""
        server = fault_server(serving(file=FILE))
        code = (
            "import os, sys; sys.stdout = open('lines', 'w'); from iointerrupt import cli;"
            "sys.exit(cli.main(sys.argv[1:]))"
        )
        master, slave = pty.openpty()
        process = subprocess.Popen([sys.executable, "-c", code, "get", f"{server.url}/file"], stderr=slave)
        os.close(slave)
        try:
            while os.read(master, 65536):
                pass
        except OSError:
            pass
        os.close(master)
        assert process.wait(50) == 0
        assert (folder / "lines").read_text().startswith("file  10.0 KiB  ")


def test_two_servers(folder):
    """Hundreds of small files of a list come, each with its line, from two servers."""
    with FaultServer(serving(file=FILE)) as one, FaultServer(serving(file=FILE)) as two:
        urls = [f"{server.url}/file {number}" for number in range(100) for server in (one, two)]
        (folder / "list").write_text("\n".join(f"{url.partition(' ')[0]} {n}" for n, url in enumerate(urls)))
        done = subprocess.run(
            [sys.executable, "-m", "iointerrupt", "get", "-i", "list", "-d", "out", "-j", "8"],
            capture_output=True,
            text=True,
            timeout=50,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(list((folder / "out").iterdir())) == 200
