"""The command line: the demonstration in its three forms, and what is refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from iointerrupt import __version__, cli


def run(*arguments, **options):
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "iointerrupt", *arguments], capture_output=True, text=True, timeout=50, **options
    )


def test_demo_as_json():
    """All seven operations stop and say how much had come, while each usual loop is still blocked; the exit code is 0."""
    done = run("demo", "--json", check=True)
    rows = {row["operation"]: row for row in json.loads(done.stdout)}
    assert len(rows) == 7
    assert all(row["stopped_after"] is not None for row in rows.values())
    assert all(row["usual_blocked_for"] is not None for row in rows.values())
    moved = {name for name, row in rows.items() if row["moved"]}
    assert moved == {"read of a FIFO", "read of a large file", "HTTP body that stalls", "socket receive"}
    assert done.stderr == ""


def test_demo_does_not_depend_on_the_environment():
    """A proxy in the environment is not asked for loopback addresses."""
    done = run("demo", "--json", check=True, env={**os.environ, "http_proxy": "http://127.0.0.1:9"})
    assert all(row["stopped_after"] is not None for row in json.loads(done.stdout))


def test_demo_into_a_pipe_is_plain_text():
    """Without a terminal it prints aligned lines and no escape sequences."""
    done = run("demo", check=True)
    lines = done.stdout.splitlines()
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
    assert "\x1b" not in done.stdout


def test_demo_on_a_terminal_draws():
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


def test_exit_code_says_what_did_not_stop(monkeypatch, capsys):
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


def test_version_and_help(capsys):
    """--version and --help answer and end with 0."""
    for argument, expected in (("--version", __version__), ("--help", "demo")):
        with pytest.raises(SystemExit) as ended:
            cli.main([argument])
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["demo", "--loud"]])
def test_wrong_arguments(arguments, capsys):
    """A missing or unknown command or option ends with 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
