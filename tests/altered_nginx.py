"""The nginx of the tests with lines of its configuration replaced, for what few tests need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tests import nginx

#: What to say for a rate that is kept in small steps: else what a second allows is sent at once.
SMOOTH = {"sendfile on;": "sendfile on; sendfile_max_chunk 8k;"}

#: For a server that sends files under /coded/ as what is packed by gzip, whether that is accepted or not.
CODED = {
    "location = /.sync": "location /coded/ { rewrite ^/coded(/.*) $1 break; add_header Content-Encoding gzip; }\n location = /.sync"
}

#: For a proxy: it fetches http URLs, at addresses that are numbers. A regular expression goes before its own folders.
PROXY = {"location / { }": "location ~ . { proxy_pass http://$http_host$request_uri; proxy_max_temp_file_size 0; }"}


class AlteredNginx(nginx.Nginx):
    """An `Nginx`.

    Args:
        folder: what it serves.
        changes: what is replaced in the configuration, and what by.
        options: of `Nginx`.
    """

    def __init__(self, folder: str | os.PathLike[str], changes: Mapping[str, str], **options: Any) -> None:
        super().__init__(folder, **options)
        self._changes = changes

    def _write_files(self, ports: list[int]) -> None:
        super()._write_files(ports)
        path = os.path.join(self._folder, "nginx.conf")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for old, new in self._changes.items():
            assert old in text, old
            text = text.replace(old, new)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
