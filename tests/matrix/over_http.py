"""Clients that speak HTTP: sessions, bodies of ours and of other people's sessions, bodies as files, downloads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

import requests

from iointerrupt import Interrupted, downloads, http
from tests.matrix.client import CHUNK, Client, Family, octets
from tests.matrix.faults import Does, Fault, Phase
from tests.matrix.scenes import LONG, Scene


class OverHTTP(Client):
    """A client with a session, which has one place for connections: one that is lost would be missed."""

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        if fault.phase is Phase.UPLOAD:
            return "a GET sends no body"
        return super().unfit(fault)

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.is_there.set()
        self.session = self.resources.enter_context(self._session())

    def _session(self) -> requests.Session:
        scene = self.scene
        retries = http.Retry(scene.fault.retries, status_forcelist={503}) if scene.fault.retries else 0
        return http.Session(
            stop=scene.stop,
            timeout=self._timeout(),
            retries=retries,
            pool_size=1,
            # requests leaves a response open whose body cannot be decoded, and then nobody gives its place back.
            pool_block=self.streams or scene.fault.does is not Does.BREAKS_THE_CODING,
            ssl_context=scene.server.client_context() if scene.tls else None,
        )

    def _timeout(self) -> tuple[float, float]:
        # requests sends under the timeout for connecting, too.
        seconds = self.scene.seconds
        return (LONG, seconds) if self.scene.fault.phase in (Phase.HEAD, Phase.BODY) else (seconds, LONG)

    def go_on(self, outcome: type[BaseException] | None) -> None:
        """The session goes on to work, twice, and its only place is free."""
        if isinstance(self.session, http.Session):
            self.session.stop = None
        for _ in range(2):
            answer = self.session.get(self.scene.good_url, timeout=LONG)
            assert answer.content == self.scene.fault.later


class Get(OverHTTP):
    name = "Session.get"
    about = "`http.Session.get(url).content`"
    family = Family.SESSION
    streams = keeps = False

    def run(self) -> None:
        self.delivered += self.session.get(self.scene.url).content


class Post(OverHTTP):
    name = "Session.post"
    about = "`http.Session.post(url, data=...).content`"
    family = Family.SESSION
    streams = keeps = False

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        if fault.phase is Phase.PAUSE:
            return "a POST is not tried again"
        return "" if fault.phase is Phase.UPLOAD else super().unfit(fault)

    def run(self) -> None:
        self.delivered += self.session.post(self.scene.url, data=self.scene.request or b"what is sent").content


class IterChunks(OverHTTP):
    name = "Session, iter_chunks"
    about = "`http.iter_chunks(session.get(url, stream=True))`, of an `http.Session`"
    family = Family.CHUNKS

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._has_begun = False
        if scene.fault.phase is Phase.BODY:
            self.is_there.clear()

    def run(self) -> None:
        response = self.session.get(self.scene.url, stream=True)
        self.resources.callback(response.close)
        self._take(http.iter_chunks(response, chunk_size=CHUNK))

    def _take(self, chunks: Iterable[bytes]) -> None:
        self._has_begun = True
        self.is_there.set()
        for chunk in chunks:
            self.delivered += chunk

    def check_stop(self, stopped: Interrupted) -> None:
        if self._has_begun:
            assert stopped.transferred == len(self.delivered)


class Foreign(IterChunks):
    name = "foreign, iter_chunks"
    about = "`http.iter_chunks(response, stop=stop)`, of a `requests.Session`"
    begins_at_body = True

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        if fault.phase is not Phase.BODY:
            return "until the head is there, requests is at work alone"
        return super().unfit(fault)

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # which may name other certificates
        session.mount("http://", requests.adapters.HTTPAdapter(1, 1, pool_block=self.streams))
        session.mount("https://", requests.adapters.HTTPAdapter(1, 1, pool_block=self.streams))
        if self.scene.tls:
            session.verify = self.scene.server.ca_file
        return session

    def run(self) -> None:
        response = self.session.get(self.scene.url, stream=True, timeout=self._timeout())
        self.resources.callback(response.close)
        self._take(http.iter_chunks(response, stop=self.scene.stop, chunk_size=CHUNK))


class Reference(Foreign):
    name = "requests itself"
    about = "`requests.Session.get(url).content`, for comparison"
    family = Family.SESSION
    stops = False
    streams = keeps = False

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        return OverHTTP.unfit(fault)

    def run(self) -> None:
        self.delivered += self.session.get(self.scene.url, timeout=self._timeout()).content


class Open(OverHTTP):
    name = "http.open"
    about = "`http.open(url, session=session).read(n)`, of an `http.Session`"
    family = Family.FILE
    keeps = False  # a read that is broken off has delivered nothing

    def run(self) -> None:
        with http.open(self.scene.url, session=self.session) as file:
            try:
                while data := file.read(CHUNK):
                    self.delivered += data
            except Interrupted as stopped:
                assert len(stopped.partial or b"") == stopped.transferred
                self.delivered += octets(stopped.partial)
                raise


class Download(OverHTTP):
    name = "download"
    about = "`downloads.download(url, path, session=session)`"
    family = Family.DOWNLOAD

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._folder = tempfile.mkdtemp()
        self.resources.callback(shutil.rmtree, self._folder)
        self._path = os.path.join(self._folder, "file")
        self._part = self._path + ".part"
        self._options: dict[str, Any] = {"retries": scene.fault.retries, "timeout": scene.seconds}

    def run(self) -> None:
        try:
            self._download(self.scene.url, self._path, stop=self.scene.stop, **self._options)
        finally:
            assert not (os.path.exists(self._path) and os.path.exists(self._part))
            for path in (self._path, self._part):
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        self.delivered[:] = file.read()

    def _download(self, url: str, path: str, **options: Any) -> downloads.Downloaded:
        return downloads.download(url, path, session=self.session, **options)

    def check_stop(self, stopped: Interrupted) -> None:
        assert stopped.transferred == len(self.delivered)

    def go_on(self, outcome: type[BaseException] | None) -> None:
        """The download goes on with what has come, and nothing is left of its part; then the session works."""
        fault, kept = self.scene.fault, len(self.delivered)
        if outcome is not None:
            assert os.path.exists(self._path) is False
            assert isinstance(self.session, http.Session)
            self.session.stop = None
            done = self._download(self.scene.url, self._path)
            with open(self._path, "rb") as file:
                assert file.read() == fault.later
            assert done.resumed_from == (kept if fault.may_resume else 0)
        assert os.listdir(self._folder) == ["file"]
        super().go_on(outcome)


class Managed(Download):
    name = "DownloadManager"
    about = "`DownloadManager(session=session).submit(url, path).result()`"

    def _download(self, url: str, path: str, *, stop: Any = None, **options: Any) -> downloads.Downloaded:
        with downloads.DownloadManager(session=self.session, stop=stop) as manager:
            return manager.submit(url, path, **options).result()
