"""Whether scripts can be run at all: `check_scripts`. Nothing here does anything.

A script is followed step by step with the facts that hold between two steps, such as that a request has been read. Each fact
is known by the step that has made it so. `_RULES` says which fact a step needs, or must not find; `_EFFECTS` which ones it
makes and unmakes. A callable may do anything, so behind it whatever a step can need is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from iointerrupt.testing._step import Script, Step, name_of

#: Fact to the step that has made it so.
_Facts = dict[str, str]

_SENDING = {"send", "head", "chunk", "last_chunk", "answer", "redirect", "serve", "drip", "half_close"}
_READING = {"expect", "expect_bytes", "read", "read_to_end", "route"}
_BEGINNING = {"handshake", "stall_handshake"}
_CALLABLE = "a callable"


class _Rule(NamedTuple):
    steps: set[str] | None  # None: all of them
    fact: str
    holds: bool  # whether the fact must hold, or must not
    reason: str


_RULES = (
    _Rule(None, "ended", False, "the connection has ended there"),
    _Rule(_SENDING | {"route"}, "half closed", False, "nothing more can be sent"),
    _Rule(_READING, "read to its end", False, "there is nothing more to read"),
    _Rule(_BEGINNING, "begun", False, "a handshake comes before anything else is sent or read"),
    _Rule({"head", "answer", "redirect", "serve"}, "request", True, "it answers a request: put an expect() before it"),
    _Rule({"chunk", "last_chunk"}, "chunked", True, "it needs a head(chunked=True) before it"),
)

_TLS_ONLY = "it needs a server with TLS: FaultServer(..., tls=True)"

#: What each step makes so, and what it ends.
_EFFECTS: dict[str, tuple[set[str], set[str]]] = {
    **dict.fromkeys(_SENDING | {"expect_bytes", "read"} | _BEGINNING, ({"begun"}, set())),
    "expect": ({"begun", "request"}, {"chunked"}),
    "route": ({"begun", "request"}, {"chunked"}),
    "last_chunk": ({"begun"}, {"chunked"}),
    "read_to_end": ({"begun", "read to its end"}, set()),
    "half_close": ({"begun", "half closed"}, set()),
    "close": ({"ended"}, set()),
    "reset": ({"ended"}, set()),
    _CALLABLE: ({"request", "chunked"}, set()),
}

#: What is enough for an endless repeat not to turn without ever meeting the client or a wait.
_WAITING = _SENDING | _READING | {"stall", _CALLABLE}

_ACCEPTED = "accepted are the steps of iointerrupt.testing.steps, and callables that take the Connection"


def check_scripts(scripts: Sequence[Script], *, tls: bool) -> tuple[Script, ...]:
    """The scripts as tuples, or an error that says what is wrong with them.

    Raises:
        TypeError: something in them is no step.
        ValueError: there is no script, or steps are in an order in which they cannot be done.
    """
    if not scripts:
        raise ValueError(
            "FaultServer needs a script: a list of steps, such as [steps.expect(), steps.answer(b'hello')]"
        )
    for number, script in enumerate(scripts, 1):
        where = f"script {number}"
        _check_types(script, where)
        facts: _Facts = {}
        if tls and not _has_handshake(script):
            facts["begun"] = "the handshake that a script over TLS begins with"
        for position, step in enumerate(script, 1):
            at = f"{where}, step {position}: {name_of(step)}"
            if kind(step) == "stall_connect" and (number, position) != (1, 1):
                raise ValueError(
                    f"{at}: only the first step of the first script can be it, as it is before any connection"
                )
            _follow(step, at, facts, tls=tls, outermost=True)
    return tuple(tuple(script) for script in scripts)


def names(scripts: Iterable[Script]) -> set[str] | None:
    """The names that `FaultServer.wait_for` knows for the scripts; None for any, since callables make their own."""
    found: set[str] = set()
    for script in scripts:
        for step in script:
            if not isinstance(step, Step):
                return None
            inner = names(step.inner)
            if inner is None:
                return None
            found |= inner | {step.name}
    return found


def kind(step: object) -> str:
    """Which step it is, whatever `wait_for` knows it by."""
    return type(step).__name__ if isinstance(step, Step) else _CALLABLE


def begins_with_handshake(script: Script) -> bool:
    """Whether, over TLS, the handshake comes before the script, which says nothing of one."""
    return not _has_handshake(script)


def _has_handshake(script: Script) -> bool:
    return any(kind(step) in _BEGINNING for step in script)


def _check_types(script: object, where: str) -> None:
    if isinstance(script, str | bytes) or not isinstance(script, Sequence):
        hint = ": put the steps into a list" if isinstance(script, Step) or callable(script) else ""
        raise TypeError(f"{where} must be a list of steps, not {type(script).__name__}{hint}")
    for position, step in enumerate(script, 1):
        at = f"{where}, step {position}"
        if isinstance(step, type) and issubclass(step, Step):
            raise TypeError(f"{at} is {step.__name__} without its parentheses: write steps.{step.__name__}(...)")
        if isinstance(step, Step):
            for inner in step.inner:
                _check_types(inner, f"{at}, within {step.name}")
        elif not callable(step):
            raise TypeError(f"{at} is {step!r}, of type {type(step).__name__}: {_ACCEPTED}")


def _follow(step: object, at: str, facts: _Facts, *, tls: bool, outermost: bool = False) -> None:
    """Check a step against what holds before it, and make `facts` what holds behind it."""
    what = kind(step)
    _check_place(step, what, at, tls=tls, outermost=outermost)
    _check_rules(what, at, facts)
    made, ended = _EFFECTS.get(what, (set(), set()))
    for fact in ended:
        facts.pop(fact, None)
    facts.update(dict.fromkeys(made, name_of(step)))
    if what == "head" and getattr(step, "chunked", False):
        facts["chunked"] = name_of(step)
    if isinstance(step, Step) and what == "repeat":
        _follow_repeat(step, at, facts, tls=tls)
    elif isinstance(step, Step) and step.inner:
        _follow_branches(step, at, facts, tls=tls)


def _check_place(step: object, what: str, at: str, *, tls: bool, outermost: bool) -> None:
    """Check what does not depend on the steps before it."""
    if not tls and (what in _BEGINNING or (what == "close" and not getattr(step, "notify", True))):
        raise ValueError(f"{at}: {_TLS_ONLY}")
    if tls and what == "half_close":
        raise ValueError(f"{at}: over TLS there is no half-closed connection: use close()")
    if what in _BEGINNING | {"stall_connect"} and not outermost:
        raise ValueError(f"{at}: it cannot be within another step, as a connection does it once, at its beginning")


def _check_rules(what: str, at: str, facts: _Facts) -> None:
    for rule in _RULES:
        if rule.steps is not None and what not in rule.steps:
            continue
        if rule.holds and rule.fact not in facts:
            raise ValueError(f"{at}: {rule.reason}")
        if not rule.holds and rule.fact in facts:
            raise ValueError(f"{at} cannot follow {facts[rule.fact]}: {rule.reason}")


def _follow_repeat(step: Step, at: str, facts: _Facts, *, tls: bool) -> None:
    times = getattr(step, "times", None)
    (script,) = step.inner
    # What holds behind the first turn holds before the second, and behind that nothing new can come.
    for _ in range(1 if times == 1 else 2):
        _follow_all(script, at, facts, tls=tls)
    if times is None:
        if not any(_waits(inner) for inner in script):
            raise ValueError(f"{at} would turn for ever without waiting: it has no step that reads, sends or stalls")
        facts["ended"] = f"{name_of(step)}, which ends with the connection"


def _waits(step: object) -> bool:
    return kind(step) in _WAITING or (
        isinstance(step, Step) and any(_waits(inner) for script in step.inner for inner in script)
    )


def _follow_branches(step: Step, at: str, facts: _Facts, *, tls: bool) -> None:
    # What may hold behind them: what one of them makes so, except for an end, as there is always the answer 404 as well.
    found: _Facts = {}
    for branch in step.inner:
        behind = dict(facts)
        _follow_all(branch, at, behind, tls=tls)
        found.update({fact: by for fact, by in behind.items() if fact in {"chunked", "request"}})
    facts.update(found)


def _follow_all(script: Script, at: str, facts: _Facts, *, tls: bool) -> None:
    for position, step in enumerate(script, 1):
        _follow(step, f"{at}: step {position} of it, {name_of(step)}", facts, tls=tls)
