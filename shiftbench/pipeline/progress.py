"""Shows the progress of long work: a moving bar on a terminal, and a line after each stage that computes something."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from shiftbench import report

Advance = Callable[[bool], None]  # called after each unit; True: the unit was computed, False: the store had it
# Called with (the title, None) when a stage begins, and with ("TITLE DONE/TOTAL", whether the unit was computed) after
# each of its units.
Watch = Callable[[str, bool | None], None]


class Progress:
    """Shows stages one after the other, each of a known number of units."""

    def __init__(self, console: Console | None = None, watch: Watch | None = None) -> None:
        """console: where stages are shown; None: on standard error, or nowhere where `watch` is given.

        watch: called when a stage begins and after each of its units; None: nothing is called.
        """
        self._console = console or report.console(sys.stderr, quiet=watch is not None)
        self._watch = watch

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """Show a moving bar while the block runs, if the console is a terminal, and one line after the block.

        A stage that computes nothing, because the store has all its units, gets no line. Gives the block a function to
        call after each unit (`Advance`). title: what the bar and the line begin with. total: the number of units.
        """
        began = time.monotonic()
        computed = seen = 0
        if self._watch:
            self._watch(title, None)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = self._console.is_terminal
        with RichProgress(*columns, console=self._console, transient=True, disable=not shown) as bar:
            task = bar.add_task(title, total=total)

            def advance(explained: bool) -> None:
                nonlocal computed, seen
                computed, seen = computed + explained, seen + 1
                bar.advance(task)
                if self._watch:
                    self._watch(f"{title} {seen}/{total}", explained)

            yield advance
        if computed:
            stored = f", {total - computed} from the store" if computed < total else ""
            self.say(f"{title}: {computed} explained{stored}, {time.monotonic() - began:.1f} s")

    def say(self, line: str) -> None:
        """Print one line on the console. Square brackets in it are printed and not read as markup."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
