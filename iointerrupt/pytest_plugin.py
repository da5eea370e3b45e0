"""The pytest plugin: fixtures for tests of what stops, and the marker `stops_within`. docs/testing.md shows them in use.

Every pytest run in an environment with this package loads it, so it imports nothing before a fixture is used.

What the fixtures leave is put away in one order, in whichever order a test names them: the stop is set, so that whoever is
blocked on it ends; the servers are closed; the threads are joined; and then it is looked at what is left. pytest tears down
in the reverse of the order of `item.fixturenames`, which is why that is arranged before the fixtures are made. What a test
asks for by `request.getfixturevalue` takes its place when it is asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress

import pytest

TYPE_CHECKING = False  # typing is for checkers, which know the name
if TYPE_CHECKING:
    import ssl
    from typing import Any, ParamSpec, Protocol, TypeVar

    from iointerrupt import StopEvent
    from iointerrupt.testing import Background, FaultServer
    from iointerrupt.testing._step import Script

    T = TypeVar("T")
    P = ParamSpec("P")

    class Start(Protocol):
        """What the fixture `background` is."""

        def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Background[T]:
            """Run the function in a thread."""


#: In the order in which they are set up.
_ORDER = ("background", "fault_server", "stop")

_PASSED = pytest.StashKey[bool]()

#: Seconds for all threads of `background` to end, once the stop is set and the servers are closed.
_JOIN = 10.0


@pytest.fixture
def stop() -> Iterator[StopEvent]:
    """A fresh `StopEvent`, which is set after the test, so that no thread stays blocked on it."""
    from iointerrupt import StopEvent  # noqa: PLC0415 - see the module's docstring; so below

    event = StopEvent()
    yield event
    event.set("end of test")


class FaultServers:
    """What the fixture `fault_server` is: call it for a `FaultServer`, which is started, and closed after the test."""

    def __init__(self, servers: ExitStack) -> None:
        self._servers = servers

    def __call__(self, *scripts: Script, tls: bool | ssl.SSLContext = False, port: int = 0) -> FaultServer:
        """Start a server.

        Args:
            *scripts: the steps for each connection, the last ones for all further; see `FaultServer`.
            tls: True for a certificate that `server.client_context()` trusts, or a context of your own.
            port: of the loopback; 0 for any that is free.

        Raises:
            TypeError, ValueError: a script that cannot be.
            OSError: EADDRINUSE, the port is taken.
        """
        from iointerrupt.testing import FaultServer  # noqa: PLC0415

        return self._servers.enter_context(FaultServer(*scripts, tls=tls, port=port))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"fault_server has no {name}: it makes servers. Call it with a script, and the server that it returns has the"
            " url and all else: server = fault_server([steps.expect(), steps.answer(b'hello')])"
        )


@pytest.fixture
def fault_server() -> Iterator[FaultServers]:
    """Call it with scripts for a `FaultServer` that is started, and is closed after the test.

        server = fault_server([steps.expect(), steps.stall()])

    What failed in a server, such as a request that was not the expected one, fails the test.
    """
    with ExitStack() as servers:
        yield FaultServers(servers)


@pytest.fixture
def background() -> Iterator[Start]:
    """Call it with a function for a `Background` that runs it in a thread, which has ended after the test.

        running = background(download, url)

    One that has not, some ten seconds after, fails the test with where it stands. What one has raised is told by its `result()` and
    `error()`, and not otherwise.
    """
    from iointerrupt.testing import Background  # noqa: PLC0415

    started: list[Background] = []

    def start(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Background[T]:
        running = Background(function, *args, **kwargs)
        started.append(running)
        return running

    yield start
    deadline = time.monotonic() + _JOIN
    stuck = []
    while started:  # emptied, since the errors that they hold refer to what a leak check wants to see gone
        one = started.pop()
        one.thread.join(max(0.0, deadline - time.monotonic()))
        if one.thread.is_alive():
            stuck.append(f"{one.thread.name}:\n{one.stack()}")
    if stuck:
        pytest.fail("\n".join([f"still running {_JOIN:g} s after the test:", *stuck]), pytrace=False)


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test has to end with the descriptors, threads, children and helpers that it began with; see `testing.no_leaks`.

    For all tests of a file: `pytestmark = pytest.mark.usefixtures("no_leaks")`; of a suite, in the configuration of pytest:
    `usefixtures = no_leaks`.
    """
    from iointerrupt.testing import no_leaks  # noqa: PLC0415

    try:
        with suppress(_HasFailed), no_leaks("the test"):
            yield
            if not request.node.stash.get(_PASSED, False):
                raise _HasFailed
            # What the other fixtures made, they have put away; pytest would refer to it for a moment longer, and what is
            # closed with its last reference would be open.
            request.node.funcargs.clear()
    except AssertionError as leaks:
        said = str(leaks)
    else:
        return
    pytest.fail(said, pytrace=False)


class _HasFailed(Exception):
    """Ends the check of a test that did not pass: what its traceback still refers to is no leak."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "stops_within(seconds): the test has to end within so many seconds after its fixture `stop` was set; it fails then,"
        " even if it hangs.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Arrange the fixtures, and refuse a marker that makes no sense.

    That is an error of this one test. Raised while tests are collected, it would end the run, with the other tests unrun.
    """
    item.stash[_PASSED] = False
    names: list[str] = getattr(item, "fixturenames", [])
    marker = item.get_closest_marker("stops_within")
    if marker is not None and (wrong := _what_is_wrong(marker, names)):
        pytest.fail(wrong, pytrace=False)
    info = getattr(item, "_fixtureinfo", None)
    if info is not None:
        item.fixturenames = _arranged(names, info.name2fixturedefs)  # type: ignore[attr-defined]  # of test functions


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hold the test to its marker."""
    marker = item.get_closest_marker("stops_within")
    if marker is None:
        return (yield)
    from iointerrupt.testing._limit import Limit  # noqa: PLC0415

    limit = Limit(item.funcargs["stop"], _seconds(marker), pytest.fail.Exception)  # type: ignore[attr-defined]  # as above
    try:
        with limit:
            return (yield)
    finally:
        limit.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Remember whether the test has passed: where a Ctrl-C ends the run there is no report, and it has not."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = call.excinfo is None
    return report


def _seconds(marker: pytest.Mark) -> Any:
    if len(marker.args) == 1 and not marker.kwargs:
        return marker.args[0]
    if not marker.args and set(marker.kwargs) == {"seconds"}:
        return marker.kwargs["seconds"]
    return None


def _what_is_wrong(marker: pytest.Mark, names: list[str]) -> str | None:
    said = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
    seconds = _seconds(marker)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        return f"stops_within({said}): it takes one number of seconds, more than 0 and finite, as in stops_within(0.5)"
    if "stop" not in names:
        return (
            f"stops_within({said}): the time runs from when the fixture `stop` is set, and this test does not have it: name"
            " it among the test's arguments"
        )
    return None


def _arranged(names: list[str], definitions: Any) -> list[str]:
    """`names` with ours in their order: the leak check before all that is made for one test, the others in `_ORDER`.

    Those stand before the first of them, and before what needs one of them, so that what other fixtures have made of them
    is gone before they are.
    """
    arranged = [name for name in names if name != "no_leaks" and name not in _ORDER]
    ours = [name for name in _ORDER if name in names]
    if ours:
        first = next(name for name in names if _needs_one(name, ours, definitions, set()))
        at = arranged.index(first) if first in arranged else _rank(names, first, arranged)
        arranged[at:at] = ours
    if "no_leaks" in names:
        at = next((at for at, name in enumerate(arranged) if _scope(name, definitions) == "function"), len(arranged))
        arranged.insert(at, "no_leaks")
    return arranged


def _rank(names: list[str], name: str, among: list[str]) -> int:
    return sum(other in among for other in names[: names.index(name)])


def _scope(name: str, definitions: Any) -> str:
    return str(definitions[name][-1].scope) if definitions.get(name) else "function"


def _needs_one(name: str, wanted: list[str], definitions: Any, seen: set[str]) -> bool:
    if name in wanted:
        return True
    seen.add(name)
    needed = definitions[name][-1].argnames if definitions.get(name) else ()
    return any(_needs_one(other, wanted, definitions, seen) for other in needed if other not in seen)
