"""Shows the progress of long work on standard error: a moving bar on a terminal, and one line for each stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Advance = Callable[[bool], None]  # called after each unit; True: the unit was computed, False: the store had it
# Called with (title and how far the stage is, what the unit was advanced with); None where the stage begins.
Watch = Callable[[str, bool | None], None]


class Progress:
    """Shows stages one after the other, each of a known number of units."""

    def __init__(self, console: Console | None = None, watch: Watch | None = None) -> None:
        """console: where stages are shown; None: standard error. watch: is called instead of showing anything."""
        self._console = console or Console(file=sys.stderr, quiet=watch is not None)
        self._watch = watch

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """Show a stage while the block runs, and one line when it ends.

        Gives the block a function to call after each unit. total: the number of units.
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
        self.say(f"{title}: {computed} explained, {total - computed} from the store, {time.monotonic() - began:.1f} s")

    def say(self, line: str) -> None:
        """Print one line, without markup."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
