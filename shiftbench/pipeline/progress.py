"""How long work shows itself: a moving bar on a terminal, a line a stage in a pipe, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Advance = Callable[[bool], None]
Watch = Callable[[str, bool | None], None]


class Progress:
    """Stages of counted units. A unit is advanced with True where it was explained, False where the store had it."""

    def __init__(self, console: Console | None = None, watch: Watch | None = None) -> None:
        """watch: is told the stage and how far it is, in the place of the console, and what a unit is advanced with."""
        self._console = console or Console(file=sys.stderr, quiet=watch is not None)
        self._watch = watch

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """Shows the stage while it runs and one line when it ends."""
        began = time.monotonic()
        made = seen = 0
        if self._watch:
            self._watch(title, None)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = self._console.is_terminal
        with RichProgress(*columns, console=self._console, transient=True, disable=not shown) as bar:
            task = bar.add_task(title, total=total)

            def advance(explained: bool) -> None:
                nonlocal made, seen
                made, seen = made + explained, seen + 1
                bar.advance(task)
                if self._watch:
                    self._watch(f"{title} {seen}/{total}", explained)

            yield advance
        self.say(f"{title}: {made} explained, {total - made} from the store, {time.monotonic() - began:.1f} s")

    def say(self, line: str) -> None:
        """One plain line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
