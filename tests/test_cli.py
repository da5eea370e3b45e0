"""The command line as a whole: its help, what it loads, what is refused, completion; and the demonstration's three forms."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from iointerrupt import __version__, cli
from iointerrupt._cli.amounts import parse_size, show_rate, show_size, show_time

COMMANDS = ["get", "copy", "run", "demo", "completion"]


def run(*arguments, **options):
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "iointerrupt", *arguments], capture_output=True, text=True, timeout=50, **options
    )


def loaded(*arguments, of, **options):
    """Which of these modules the command has loaded at its end."""
    code = f"import sys; from iointerrupt import cli; cli.main(sys.argv[1:]); print(*sorted({set(of)!r} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=50, check=True, **options
    )
    return done.stderr.split()


class TestDemo:
    """`iointerrupt demo`."""

    def test_as_json(self):
        """All seven operations stop and say how much had come, while each usual loop is still blocked; the exit code is 0."""
        done = run("demo", "--json", check=True)
        rows = {row["operation"]: row for row in json.loads(done.stdout)}
        assert len(rows) == 7
        assert all(row["stopped_after"] is not None for row in rows.values())
        assert all(row["usual_blocked_for"] is not None for row in rows.values())
        moved = {name for name, row in rows.items() if row["moved"]}
        assert moved == {"read of a FIFO", "read of a large file", "HTTP body that stalls", "socket receive"}
        assert done.stderr == ""

    def test_does_not_depend_on_the_environment(self):
        """A proxy in the environment is not asked for loopback addresses."""
        done = run("demo", "--json", check=True, env={**os.environ, "http_proxy": "http://127.0.0.1:9"})
        assert all(row["stopped_after"] is not None for row in json.loads(done.stdout))

    def test_into_a_pipe_is_plain_text(self):
        """Without a terminal it prints aligned lines and no escape sequences."""
        lines = run("demo", check=True).stdout.splitlines()
        assert lines[0].split() == [
            "operation",
            "moved",
            "before",
            "the",
            "stop",
            "stopped",
            "after",
            "the",
            "usual",
            "loop",
        ]
        assert lines[-1] == "7 of 7 stopped; of the usual loops, 7 of 7 were still blocked."
        assert "\x1b" not in "".join(lines)

    def test_on_a_terminal_draws(self):
        """On a terminal it draws a table with rich."""
        master, slave = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-m", "iointerrupt", "demo"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(slave)
        shown = b""
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
        os.close(master)
        assert child.wait(50) == 0
        assert "one threading.Event, set once" in shown.decode()
        assert "┃" in shown.decode()

    def test_exit_code_says_what_did_not_stop(self, monkeypatch, capsys):
        """An operation that did not stop is named, and the exit code is 1."""
        from iointerrupt import _demo

        rows = [
            _demo.Row("stubborn", 5, usual_blocked_for=0.5),
            _demo.Row("broken", failure="OSError('no such luck')", usual_blocked_for=0.5),
            _demo.Row("good", stopped_after=0.001),
        ]
        monkeypatch.setattr(_demo, "run", lambda: rows)
        assert cli.main(["demo"]) == 1
        shown = capsys.readouterr().out
        assert "not stopped" in shown
        assert "ended" in shown
        assert "no such luck" in shown
        assert "1 of 3 stopped" in shown


class TestHelp:
    """What it says of itself."""

    def test_version(self, capsys):
        """--version says which one it is."""
        assert cli.main(["--version"]) == 0
        assert capsys.readouterr().out == f"iointerrupt {__version__}\n"

    def test_names_the_commands(self, capsys):
        """--help names each command, and how the shell completes them."""
        assert cli.main(["--help"]) == 0
        shown = capsys.readouterr().out
        assert all(f"\n  {command} " in shown for command in COMMANDS)
        assert 'eval "$(iointerrupt completion bash)"' in shown

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_a_command(self, capsys, command):
        """The help of each is a page of the manual, in lines that fit a terminal."""
        assert cli.main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"SYNOPSIS\n  iointerrupt {command} " in shown
        assert "\nDESCRIPTION\n" in shown
        assert all(len(line) <= 80 for line in shown.splitlines())

    @pytest.mark.parametrize(
        ("command", "sections"),
        [
            ("get", ["OUTPUT", "EXAMPLES", "EXIT STATUS", "FILES", "SIGNALS", "ENVIRONMENT"]),
            ("copy", ["OUTPUT", "EXAMPLES", "EXIT STATUS", "FILES", "SIGNALS"]),
            ("run", ["EXAMPLES", "SIGNALS", "EXIT STATUS", "LIMITS"]),
        ],
    )
    def test_sections(self, capsys, command, sections):
        """What a user looks for has a heading, in the usual order, and the events of --json are all there."""
        assert cli.main([command, "-h"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line in sections] == sections
        if command == "get":
            for event in ("start", "progress", "retry", "done", "failed", "stopped", "summary"):
                assert any(line.startswith(f"  {event} ") for line in lines)

    def test_as_a_module(self):
        """`python -m iointerrupt` is the same program under the same name."""
        done = run("get")
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: iointerrupt get [OPTIONS] URL...\n")


class TestLoads:
    """What it loads, which is what it takes to start."""

    def test_help_is_light(self):
        """The help and the completion load neither requests nor rich."""
        heavy = {"requests", "urllib3", "rich", "aiofiles", "asyncio", "iointerrupt.http", "iointerrupt.downloads"}
        assert loaded("get", "--help", of=heavy) == []
        assert loaded("run", "--help", of={*heavy, "ssl", "iointerrupt.monkey"}) == []
        assert loaded("completion", "zsh", of=heavy) == []

    def test_copy_is_light(self, tmp_path):
        """A copy has nothing to do with HTTP, and in a pipe nothing with rich."""
        (tmp_path / "a").write_bytes(b"a")
        assert loaded("copy", "a", "b", of={"requests", "urllib3", "rich"}, cwd=tmp_path) == []

    def test_without_click(self):
        """Where click is not installed, it says what to install, and ends with 2."""
        code = "import sys; sys.modules['click'] = None; from iointerrupt import cli; sys.exit(cli.main(['get']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
        assert done.returncode == 2
        assert done.stderr == "iointerrupt: the command line takes click: pip install 'iointerrupt[cli]'\n"


class TestRefuses:
    """What it does not understand ends with 2 and one message."""

    @pytest.mark.parametrize("arguments", [[], ["fly"], ["demo", "--loud"], ["copy", "one"], ["completion", "tcsh"]])
    def test_wrong_arguments(self, arguments, capsys):
        """A missing or unknown command, argument or option ends with 2 and the usage."""
        assert cli.main(arguments) == 2
        shown = capsys.readouterr()
        assert "Usage: iointerrupt " in shown.err
        assert shown.out == ""

    def test_output_that_cannot_be_written(self):
        """A full disk under standard output is one line, not a traceback."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "iointerrupt", "--help"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=50,
            )
        assert done.returncode == 1
        assert done.stderr == "iointerrupt: No space left on device\n"

    def test_output_that_nobody_reads(self):
        """Where the reader has gone, it ends without a word."""
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "iointerrupt", "get", "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
        )
        os.close(writer)
        assert done.returncode == 141
        assert done.stderr == ""


class TestCompletion:
    """A shell completes it."""

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_prints_the_script(self, capsys, shell):
        """What it prints calls it back by click's variable."""
        assert cli.main(["completion", shell]) == 0
        assert f"_IOINTERRUPT_COMPLETE={shell}_complete" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "cword", "expected"),
        [
            ("iointerrupt ", 1, "plain,get"),
            ("iointerrupt get --seg", 2, "plain,--segments"),
            ("iointerrupt copy a", 2, "file,a"),
        ],
    )
    def test_completes(self, words, cword, expected):
        """Commands, options and files are completed."""
        done = run(
            env={**os.environ, "_IOINTERRUPT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(cword)}
        )
        assert expected in done.stdout.splitlines()


class TestAmounts:
    """Sizes and times, read and shown."""

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("500k", 500 * 1024),
            ("2M", 2 << 20),
            ("1.5G", 3 << 29),
            ("64KiB", 65536),
            ("64 kb", 65536),
            ("1T", 1 << 40),
            ("7b", 7),
        ],
    )
    def test_sizes(self, text, size):
        """Units are binary, whatever they are called."""
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "M", "-1", "1e3", "1,5M", "0", "0.5", "1X", "1 M M", "²"])
    def test_no_sizes(self, text):
        """Anything else, and nothing, is none."""
        with pytest.raises(ValueError, match=r"is no size|less than a byte"):
            parse_size(text)

    def test_shown(self):
        """They are shown in the unit that fits."""
        sizes = (0, 1023, 1024, 1023 * 1024, 5 << 20, 5 << 30, 5 << 40)
        assert [show_size(each) for each in sizes] == [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.0 MiB",
            "5.0 MiB",
            "5.0 GiB",
            "5.0 TiB",
        ]
        assert show_rate(2048) == "2.0 KiB/s"
        assert [show_time(each) for each in (0, 6.6, 59.7, 3600, 3723, 500 * 3600)] == [
            "0:00",
            "0:07",
            "1:00",
            "1:00:00",
            "1:02:03",
            "20 days",
        ]
