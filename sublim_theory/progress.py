"""A progress bar with the seconds an item takes, on standard error and only on a terminal."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text


class _RateColumn(ProgressColumn):
    """Seconds an item."""

    def render(self, task: Task) -> Text:
        done = f"{task.elapsed / task.completed:.1f} s each" if task.elapsed and task.completed else "compiling"
        return Text(done, style="progress.percentage")


class progress:
    """A progress bar on standard error as a context; entering gives `advance(count)`."""

    def __init__(self, label: str, total: int):
        console = Console(stderr=True)
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda count: self._bar.update(self._task, advance=count)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
