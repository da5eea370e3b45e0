"""Servers of other protocols than HTTP that answer up to a given point, and then say nothing: scripts for `FaultServer`.

A dialogue is written as it goes over the wire, a line for each: `>` for what the server says, `<` for what it wants to hear::

    FaultServer(dialogue("> 220 ready", "< EHLO", "> 250 hello", "< QUIT"))

After its last line the server stalls, and reads nothing more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from iointerrupt.testing import Connection, steps

#: What comes after a dialogue, if nothing else does.
STALLED: steps.Script = [steps.stall()]


def dialogue(*lines: str, then: steps.Script = STALLED) -> list[steps.Step | Callable[[Connection], object]]:
    """A script that says and hears lines, and then does what `then` says.

    What is wanted need only be the beginning of what the client says, in capitals or not; after a `<` with nothing behind it
    comes any line. The first word that a client of IMAP says, its tag, stands for `{tag}` in both.
    """
    return [*map(_Line, lines), *then]


class _Line:
    """One line of a dialogue: what is said, or what is to be heard."""

    def __init__(self, line: str) -> None:
        self._side, _, self._text = line.partition(" ")
        assert self._side in {">", "<"}, line

    def __call__(self, connection: Connection) -> None:
        if self._side == ">":
            connection.send(self._text.replace("{tag}", _tags.get(connection, "")).encode() + b"\r\n")
            return
        heard = read_line(connection)
        wanted = self._text
        if "{tag}" in wanted:
            _tags[connection] = heard.partition(" ")[0]
            wanted = wanted.replace("{tag}", _tags[connection])
        assert heard.upper().startswith(wanted.upper()), f"heard {heard!r}, not {wanted!r}"


#: The tag of the command that was heard last on a connection.
_tags: weakref.WeakKeyDictionary[Connection, str] = weakref.WeakKeyDictionary()


def read_line(connection: Connection) -> str:
    """A line that the client has sent, without its end.

    Raises:
        ConnectionResetError: there is none: the client has gone.
    """
    line = b""
    while not line.endswith(b"\r\n"):
        more = connection.read(1)
        if not more:
            raise ConnectionResetError("the client has gone")
        line += more
    return line[:-2].decode()


#: A reader of mail has logged in.
IMAP_LOGIN = (
    "> * OK ready",
    "< {tag} CAPABILITY",
    "> * CAPABILITY IMAP4REV1",
    "> {tag} OK done",
    "< {tag} LOGIN",
    "> {tag} OK [CAPABILITY IMAP4REV1] done",
)
IMAP_SELECTED = (*IMAP_LOGIN, "< {tag} SELECT", "> * 1 EXISTS", "> {tag} OK done")

#: A sender of mail has been greeted; it gives its name as "client".
SMTP_GREETED = ("> 220 ready", "< EHLO client", "> 250 hello")
SMTP_DATA = (*SMTP_GREETED, "< MAIL FROM", "> 250 ok", "< RCPT TO", "> 250 ok", "< DATA", "> 354 go on")

POP_LOGIN = ("> +OK ready", "< USER", "> +OK", "< PASS", "> +OK")

FTP_LOGIN = ("> 220 ready", "< USER", "> 331 and the password?", "< PASS", "> 230 welcome")


def ftp_transfer(command: str, data_port: int) -> tuple[str, ...]:
    """The dialogue up to a transfer that has begun, by the data connection to another port of the loopback."""
    port = f"{data_port // 256},{data_port % 256}"
    passive = ("< TYPE I", "> 200 ok", "< PASV", f"> 227 Entering Passive Mode (127,0,0,1,{port})")
    return (*FTP_LOGIN, *passive, f"< {command}", "> 150 here it comes")
