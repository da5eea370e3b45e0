"""The bars on a terminal, drawn with rich: one for each file under way, and one for all where there are several.

This is the one module that loads rich, so it is loaded only when there is a terminal to draw on. The bars are on stderr;
the lines of what is done go to stdout, by way of the bars where that is the same terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from iointerrupt._cli.amounts import show_rate, show_size, show_time
from iointerrupt._cli.events import Lines, Moment, Outcome, Output, Tally, line_of, name_of, plain

# What a file without a speed is at. A file that is under way has its time to go there instead.
_STATES: Final = {"queued": "waiting", "paused": "paused", "verifying": "verifying"}


@dataclass
class _Narrower:
    """Something drawn a little narrower than the terminal, which shows a Ctrl-C behind it: that must not begin a line."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        yield Constrain(self.inner, options.max_width - len("^C") - 1)


class _Bars(Progress):
    """Bars with the one for all at the bottom."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The table of them."""
        yield _Narrower(self.make_tasks_table(sorted(self.tasks, key=lambda task: bool(task.fields["of_all"]))))


class Screen(Lines):
    """Bars, and above them a line for each file that is done.

    Args:
        output: standard output, for results that go elsewhere than to this terminal.
        total: how many files there will be.
        results: False where standard output is the file itself.
    """

    every = 0.1

    def __init__(self, output: Output, total: int, *, results: bool = True) -> None:
        super().__init__(output)
        self._console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        # Narrow terminals keep what cannot be read off anything else: the name, how far, and how long.
        wide = self._console.width >= 72
        name = self._console.width * 2 // 5 - 6 if wide else max(8, self._console.width - 45)
        right: dict[str, Any] = {"justify": "right", "no_wrap": True}
        self._bars = _Bars(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(max_width=name, no_wrap=True, overflow="ellipsis"),
            ),
            *([BarColumn(bar_width=None)] if wide else []),
            TextColumn("{task.fields[percent]}", table_column=Column(min_width=4, **right)),
            TextColumn("{task.fields[size]}", table_column=Column(min_width=20 if wide else None, **right)),
            *([TextColumn("{task.fields[speed]}", table_column=Column(min_width=11, **right))] if wide else []),
            TextColumn("{task.fields[left]}", table_column=Column(min_width=10, **right)),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._here = not results or sys.stdout.isatty()
        self._tasks: dict[int, TaskID] = {}
        self._lines: list[Text] = []
        self._all = self._bars.add_task(of_all=True, **_fields_of_all((), Tally(total))) if total > 1 else None
        self._bars.start()

    def progress(self, active: Sequence[Moment], tally: Tally) -> None:
        """Draw."""
        # The line for all has to be in view.
        shown = {moment.number: moment for moment in active[: max(1, self._console.height - 3)]}
        for number in self._tasks.keys() - shown.keys():
            self._bars.remove_task(self._tasks.pop(number))
        for number, moment in shown.items():
            fields = _fields(moment)
            if number in self._tasks:
                self._bars.update(self._tasks[number], **fields)
            else:
                self._tasks[number] = self._bars.add_task(of_all=False, **fields)
        if self._all is not None:
            self._bars.update(self._all, **_fields_of_all(active, tally))
        self._print()
        self._bars.refresh()

    def done(self, outcome: Outcome) -> None:
        """The line, above the bars."""
        if self._here:
            self._above(line_of(outcome), "green")
        else:
            super().done(outcome)

    def stopped(self, moment: Moment) -> None:
        """A line for a file that was under way: what there is of it."""
        if moment.done:
            of = f" of {show_size(moment.size)}" if moment.size else ""
            self._above(f"{name_of(moment.source, moment.path)}  {show_size(moment.done)}{of}  stopped", "yellow")

    def error(self, text: str) -> None:
        """The line, above the bars."""
        self._above(plain(f"iointerrupt: {text}"), "red")

    def hurry(self) -> None:
        """As for other reports; and the bars have nothing to show any more."""
        super().hurry()
        self.close()

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()
        self._print()

    def _above(self, line: str, style: str) -> None:
        # All lines of a moment at once: the bars are drawn anew with each. When they are gone, at once.
        self._lines.append(Text(line, style=style))
        if not self._bars.live.is_started:
            self._print()

    def _print(self) -> None:
        if self._lines:
            self._console.print(*self._lines, sep="\n", soft_wrap=True)
            self._lines.clear()


def _fields(moment: Moment) -> dict[str, Any]:
    """What the bar of a file shows."""
    return {
        "description": name_of(moment.source, moment.path),
        "total": moment.size or None,
        "completed": moment.done,
        "percent": f"{min(100, 100 * moment.done // moment.size)}%" if moment.size else "",
        "size": _extent(moment),
        "speed": show_rate(moment.speed) if moment.state == "running" and moment.speed else "",
        "left": _left(moment),
    }


def _fields_of_all(active: Sequence[Moment], tally: Tally) -> dict[str, Any]:
    """What the bar of all files shows."""
    waiting = tally.total - tally.ended - len(active)
    speed = sum(moment.speed for moment in active)
    if waiting:
        left = f"{waiting:,} waiting"
    elif speed and all(moment.size is not None for moment in active):
        left = show_time(sum((moment.size or 0) - moment.done for moment in active) / speed)
    else:
        left = ""
    return {
        "description": f"{tally.done:,} of {tally.total:,} done"
        + (f", {tally.failed:,} failed" if tally.failed else ""),
        "total": tally.total,
        "completed": tally.ended + sum(moment.done / moment.size for moment in active if moment.size),
        "percent": "",
        "size": show_size(tally.transferred + sum(moment.done - moment.resumed_from for moment in active)),
        "speed": show_rate(speed) if speed else "",
        "left": left,
    }


def _extent(moment: Moment) -> str:
    if not moment.size:
        return show_size(moment.done) if moment.done else ""
    return f"{show_size(moment.done)} of {show_size(moment.size)}"


def _left(moment: Moment) -> str:
    if moment.state == "waiting":
        return "retrying"
    if moment.state != "running":
        return _STATES.get(moment.state, "")
    if not moment.done and not moment.size:
        return "connecting" if moment.attempt == 1 else f"try {moment.attempt}"
    return "" if moment.eta is None else show_time(moment.eta)
