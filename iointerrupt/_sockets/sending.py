"""What sending takes besides attempts: its waits, and the error that says how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iointerrupt._sockets.base import Pauses
from iointerrupt._wait import WRITE

if TYPE_CHECKING:
    from iointerrupt._sockets.socket import Socket


class SendTimeout(TimeoutError):
    """The timeout of a `sendall` or a `sendfile` passed after part of the data.

    Attributes:
        transferred: how many bytes had been handed to the kernel; the rest can be sent later.
    """

    def __init__(self, message: str, transferred: int) -> None:
        super().__init__(message)
        self.transferred = transferred

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.transferred)


class SendWaits:
    """The waits of one `_ii_send_all`: with one deadline for all, or `anew` with one for each wait after something was sent."""

    def __init__(self, sock: Socket, *, anew: bool) -> None:
        self._sock, self._anew = sock, anew
        self._deadline = sock._ii_deadline()
        self._sent = -1  # at the last wait
        self._pauses = Pauses(sock._ii_stop, self._deadline)

    def wait(self, sent: int) -> None:
        sock = self._sock
        if sent == self._sent:
            self._pauses.sleep()  # the last wait has led to nothing
        else:
            if self._anew:
                self._deadline = sock._ii_deadline()
            self._sent, self._pauses = sent, Pauses(sock._ii_stop, self._deadline)
        sock._ii_wait(WRITE, sock._ii_stop, self._deadline)
