"""A real nginx of the tests' own: a folder served over HTTP and HTTPS on free loopback ports.

The listening sockets are made here and inherited by nginx (its environment variable `NGINX`, which it has for upgrades of
itself), so no other process can take a port in between, and a client that connects before nginx has started is queued and
served. nginx stays in the foreground, with everything that it writes in a temporary folder. The kernel tells it to end if
the thread that started it dies in any way (`prctl(PR_SET_PDEATHSIG)`), so that none is left over. `Nginx` runs this file as
a program that asks for that and then becomes nginx: doing so between fork and exec is not safe in a process with threads.

A module of tests makes a fixture of its own of it::

    @pytest.fixture(scope="module")
    def server(tmp_path_factory):
        with nginx.serving(tmp_path_factory.mktemp("served")) as server:
            yield server
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

_HOST = "127.0.0.1"

# Seconds for nginx to start, and to end. Both take milliseconds; a machine may be busy.
_LIMIT = 60

_PR_SET_PDEATHSIG = 1

_CONFIGURATION = """\
daemon off;
{user}
worker_processes {workers};
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    keepalive_timeout 600s;
    log_format requests escape=json '{{"method":"$request_method","uri":"$request_uri","scheme":"$scheme",'
        '"host":"$http_host","range":"$http_range","if_range":"$http_if_range","authorization":"$http_authorization",'
        '"cookie":"$http_cookie","connection":$connection,"status":$status,"bytes":$body_bytes_sent}}';
    access_log {log};
    map $arg_rate $rate {{ "" {rate}; default $arg_rate; }}
    limit_conn_zone $server_port zone=connections:1m;
    server {{
        listen {host}:{ports[0]};
        listen {host}:{ports[1]};
        listen {host}:{ports[2]} ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/certificate.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root {root};
        location / {{ }}
        location /slow/ {{ alias {root}/; limit_rate $rate; }}
        location /limited/ {{
            alias {root}/;
            limit_rate $rate;
            limit_conn connections {connections};
            limit_conn_status 503;
            error_page 503 @busy;
        }}
        location @busy {{ add_header Retry-After {retry_after} always; return 503; }}
        location /gzip/ {{ alias {root}/; gzip on; gzip_types *; gzip_min_length 1; gzip_http_version 1.0; gzip_proxied any; }}
        location /noranges/ {{ alias {root}/; max_ranges 0; }}
        location /private/ {{ alias {root}/; auth_basic "the tests"; auth_basic_user_file {folder}/users; }}
        location /redirect/ {{ rewrite ^/redirect(/.*)$ http://localhost:{ports[1]}$1 redirect; }}
        location = /.sync {{ access_log off; return 204; }}
    }}
}}
"""


@dataclass(frozen=True)
class Request:
    """What the access log says of a request; headers that were not sent are empty.

    Attributes:
        uri: as it was sent, with the query.
        scheme: "http" or "https".
        host: the header Host.
        connection: a number, the same for all requests of one connection.
        bytes: how much of the body was handed to the kernel, which may be more than a client that left early has read.
    """

    method: str
    uri: str
    scheme: str
    host: str
    range: str
    if_range: str
    authorization: str
    cookie: str
    connection: int
    status: int
    bytes: int


def binary() -> str | None:
    """The path of nginx: the one on the PATH, or Debian's, which is not on everybody's; None where there is none."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Why there can be no server here."""
    return None if binary() else "there is no nginx (Debian: nginx)"


@contextmanager
def serving(folder: str | os.PathLike[str], **options: Any) -> Iterator[Nginx]:
    """An `Nginx` for tests: where it is not installed they are skipped, or fail if they are to be complete (CI=true)."""
    from tests.serving import require  # not at the top: this file is also run as a program, alone

    require(why_not())
    with Nginx(folder, **options) as server:
        yield server


class Nginx:
    """A running nginx, as a context manager.

    Args:
        folder: what it serves: `{url}/NAME` is the file NAME in it, with ranges, ETag and Last-Modified. So is each of

            - `{url}/slow/NAME`, at no more than `rate` bytes a second for a request; `?rate=5k` at another rate. The first
              second's worth comes at once.
            - `{url}/limited/NAME`, as slow, and to no more than `connections` connections of a port at a time: 503 with
              a Retry-After to the others.
            - `{url}/gzip/NAME`, compressed for who accepts that; the ETag is weak then, and there are no ranges.
            - `{url}/noranges/NAME`, always the whole of it.
            - `{url}/private/NAME`, for the user `user` with the password `password`.
            - `{url}/redirect/NAME`, which refers to `{other_url}/NAME`: another port, and a host of another name.
        rate: bytes a second, as nginx writes it ("64k").
        connections: of `/limited/`.
        retry_after: seconds, what `/limited/` asks for.
        workers: processes. `requests` takes that there is one.

    Attributes:
        url: of HTTP, without a slash at its end.
        other_url: of HTTP on the second port, by the name localhost.
        tls_url: of HTTPS.
        ca_file: the path of the certificate of the authority that the server's, for 127.0.0.1 and localhost, is from.
        pid: its main process.

    Raises:
        RuntimeError: nginx is not there, or could not be started; the message has what it said.
    """

    url: str
    other_url: str
    tls_url: str
    ca_file: str
    pid: int

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        rate: str = "64k",
        connections: int = 1,
        retry_after: int = 1,
        workers: int = 1,
    ) -> None:
        self._root = os.path.abspath(folder)
        self._rate = rate
        self._connections = connections
        self._retry_after = retry_after
        self._workers = workers
        self._seen = 0  # bytes of the log that were forgotten

    def __enter__(self) -> Self:
        program = binary()
        if program is None:
            raise RuntimeError(why_not())
        with ExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx-"))
            with ExitStack() as sockets:  # ours, closed as soon as nginx has its own
                listeners = [sockets.enter_context(socket.create_server((_HOST, 0), backlog=511)) for _ in range(3)]
                ports = [listener.getsockname()[1] for listener in listeners]
                for listener in listeners:
                    listener.setblocking(False)  # nginx takes it that what it inherits is so
                self._port = ports[0]
                self._write_files(ports)
                self._process = self._start(program, [listener.fileno() for listener in listeners])
            stack.callback(self._end)
            self.pid = self._process.pid
            try:
                self._sync()  # it is answered once nginx runs; if it fails to, its sockets are closed, and this too
            except (OSError, http.client.HTTPException) as error:
                raise RuntimeError(f"nginx could not be started:\n{self._said()}") from error
            self._stack = stack.pop_all()
        self.url = f"http://{_HOST}:{ports[0]}"
        self.other_url = f"http://localhost:{ports[1]}"
        self.tls_url = f"https://{_HOST}:{ports[2]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def requests(self) -> list[Request]:
        """The requests that have ended since the start, or since `forget`, in the order of their ends.

        Those of connections that the client has closed, and those whose whole body it has read, are among them: the only
        worker writes them to the log before it gets to the request that is made here.
        """
        assert self._workers == 1, "with several workers nothing says when all has been logged"
        self._sync()
        with open(os.path.join(self._folder, "access.log"), "rb") as log:
            log.seek(self._seen)
            return [Request(**json.loads(line)) for line in log]

    def forget(self) -> None:
        """Leave out of `requests` what it would return now."""
        self._sync()
        self._seen = os.path.getsize(os.path.join(self._folder, "access.log"))

    def _write_files(self, ports: list[int]) -> None:
        import trustme  # the certificates of the testing kit are for contexts, and have no files

        authority = trustme.CA()
        self.ca_file = os.path.join(self._folder, "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = authority.issue_cert(_HOST, "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(os.path.join(self._folder, "certificate.pem"))
        with open(os.path.join(self._folder, "users"), "w", encoding="ascii") as users:
            users.write("user:{PLAIN}password\n")
        with open(os.path.join(self._folder, "nginx.conf"), "w", encoding="utf-8") as configuration:
            configuration.write(
                _CONFIGURATION.format(
                    # Root's worker becomes another user otherwise, and cannot get to the folder.
                    user="user root root;" if os.geteuid() == 0 else "",
                    workers=self._workers,
                    folder=self._folder,
                    root=self._root,
                    host=_HOST,
                    ports=ports,
                    rate=self._rate,
                    connections=self._connections,
                    retry_after=self._retry_after,
                    log=f"{self._folder}/access.log requests" if self._workers == 1 else "off",
                )
            )

    def _start(self, program: str, descriptors: list[int]) -> subprocess.Popen[bytes]:
        command = [program, "-p", self._folder, "-c", os.path.join(self._folder, "nginx.conf")]
        with open(os.path.join(self._folder, "output"), "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                env=os.environ | {"NGINX": "".join(f"{number};" for number in descriptors)},
                start_new_session=True,  # so that a Ctrl-C at the tests leaves the order of things to them
            )

    def _sync(self) -> None:
        """Have a request answered, and everything that came before it."""
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_LIMIT)
        try:
            connection.request("GET", "/.sync", headers={"Connection": "close"})
            connection.getresponse().read()
        finally:
            connection.close()

    def _end(self) -> None:
        self._process.terminate()  # at once: an orderly end (SIGQUIT) would wait for clients that are slow
        try:
            self._process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        said = ""
        for name in ("output", "error.log"):
            path = os.path.join(self._folder, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as lines:
                    said += lines.read()
        return said


def _become(parent: int, command: list[str]) -> None:
    """Become nginx, which ends with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it has died before that could be noticed
        os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
