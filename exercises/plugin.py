"""The pytest plugin that runs an answer before its check and says, one JSON object a line, what came of it.

`python -m pytest -p exercises.plugin --answer FILE --rows FILE --memory GIB CHECK`, as `exercises.command` calls it in
a process of its own. The rows: `step`, what runs now; `ran`; `finding`; `printed`; `error`, where the answer ends the
check; `broken`, where the check itself fails; `end`, where it is through.
"""

import json
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from exercises.answer import Source, read
from sublim_theory.protocols import SublimError

LARGEST = 16 << 20
"""Bytes that a file may have which the answer writes, what it prints included."""

PRINTED = 2_000
"""Characters that are kept of what an answer prints in one step."""


def execute(source: Source) -> types.ModuleType:
    """Run a student's file, with a `__name__` of `answer`, so that what stands under `__main__` is left out.

    Returns:
        The module of what it defines; a name that it does not define is an `AssertionError` with a hint.
    """
    module = sys.modules["answer"] = types.ModuleType("answer")  # dataclasses look their module up
    vars(module).update(__file__=str(source.path), __getattr__=_missing)
    for filename, code in source.cells.items():
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        exec(compile(code, filename, "exec", dont_inherit=True), vars(module))
    if jax := sys.modules.get("jax"):
        jax.config.update("jax_enable_x64", False)  # the file may have set it; a check says where it needs it
    return module


def _missing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AssertionError(f"the file defines no `{name}`; the statement gives the names")


class File(pytest.Item):
    """The first test: the student's file runs."""

    source: Source

    def runtest(self) -> None:
        """Run the file."""
        execute(self.source)


class Unfinished(Exception):
    """Stands for what would end pytest itself, its cause."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--answer", type=Path)
    parser.addoption("--rows", type=Path)
    parser.addoption("--memory", type=float)


def pytest_configure(config: pytest.Config) -> None:
    """Bound what the process may take, and watch it."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        pass
    else:
        memory = int(config.getoption("memory") * 2**30)
        for which, size in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, LARGEST)):
            hard = resource.getrlimit(which)[1]
            resource.setrlimit(which, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    config.pluginmanager.register(Checking(config))


class Checking:
    """What pytest calls while an answer is checked."""

    def __init__(self, config: pytest.Config):
        self._source, self._limit = read(config.getoption("answer")), config.getoption("timeout")
        self._rows, self._process = config.getoption("rows").open("a", encoding="utf-8"), os.getpid()
        self._library: dict[str, Any] = {}

    @pytest.fixture(scope="session")
    def answer(self) -> types.ModuleType:
        """What the student's file defines, as a module."""
        return sys.modules["answer"]

    @pytest.fixture(scope="module")
    def right_so_far(self, request: pytest.FixtureRequest) -> None:
        """Skip what takes long where a finding before is not right."""
        if request.session.testsfailed:
            pytest.skip("not tried: first put right what is above")

    @pytest.fixture
    def conclude(self, record_property: Callable[[str, object], None]) -> Callable[[bool, str], None]:
        """`conclude(right, remark)` ends a test with a remark that is shown in either case."""

        def conclude(right: bool, remark: str) -> None:
            record_property("remark", remark)
            assert right, remark

        return conclude

    def _say(self, **row: Any) -> None:
        print(json.dumps(row), file=self._rows, flush=True)

    def _end(self, item: pytest.Item, **row: str) -> None:
        self._say(**row)
        item.session.shouldstop = "the check cannot go on"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Say where a check cannot be read."""
        if report.failed:
            self._say(broken=report.longreprtext)

    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Run the file first."""
        file: File = File.from_parent(session, name="the file")
        file.source = self._source
        items.insert(0, file)
        self._library = _library()
        sys.path.append(str(self._source.path.parent))  # modules of the student's own, after everybody else's

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Keep the session from ending with the answer, and the answer from going on in two processes."""
        self._say(step=_what(item))
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            raise Unfinished from error
        finally:
            if os.getpid() != self._process:
                os._exit(0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say what came of a test."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        hint = self._hint(error) if error else ""
        now = _library()
        if touched := [name for name, value in self._library.items() if now.get(name) is not value]:
            self._end(item, error=f"the answer changes `{touched[0]}`; it must leave the library as it is")
        elif error and (isinstance(item, File) or _timed_out(error)):
            self._end(item, error=f"{_what(item)} {hint}")
        elif error and call.when != "call" and not report.skipped:
            self._end(item, broken=report.longreprtext)
        elif isinstance(item, File):
            self._say(ran=True)
        elif error or call.when == "call":
            remark = hint or str(dict(item.user_properties).get("remark", ""))
            self._say(finding={"what": _what(item), "right": error is None, "remark": remark})
        if call.when == "teardown" and (printed := report.capstdout + report.capstderr):
            rest = len(printed) - PRINTED
            self._say(printed=printed[:PRINTED] + (f"\n... and {rest:,} characters more\n" if rest > 0 else ""))
        return report

    def pytest_sessionfinish(self) -> None:
        """Say that the check is through, and leave at once: whatever the answer has started ends with this process."""
        self._say(end=True)
        os._exit(0)

    def _hint(self, error: BaseException) -> str:
        """What a test raised, in one line for the student, with the last line of their own that led there."""
        if isinstance(error, Unfinished):
            error = error.__cause__ or error
        frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        own = [where for place in frames if (where := self._source.where(*place))]
        at = f", {own[-1]}" if own else ""
        if _timed_out(error):
            return f"did not come to an end within {self._limit:g} s (--limit){at}"
        if isinstance(error, SublimError | AssertionError | pytest.skip.Exception) and not own:
            return " ".join(str(error).split())
        if isinstance(error, SyntaxError) and (where := self._source.where(error.filename or "", error.lineno or 0)):
            return f"does not compile: {error.msg}, {where}"
        if isinstance(error, NotImplementedError) and own and self._source.where(*frames[-1]):
            return f"is still to do{at}"
        if isinstance(error, SystemExit):
            return f"ends Python (sys.exit, exit or quit){at}; an answer must not"
        if own:
            return f"raised {_text(error)}{at}"
        return f"has a value that leads to {_text(error)} ({Path(frames[-1][0]).name}, line {frames[-1][1]})"


def _what(item: pytest.Item) -> str:
    """The first line of a test's docstring, and where it has parameters their name."""
    function, call = getattr(item, "function", None), getattr(item, "callspec", None)
    what = (function.__doc__ or item.name).strip().splitlines()[0].rstrip(".") if function else item.name
    return f"{what}, {call.id}" if call else what


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout")  # of pytest-timeout


def _text(error: BaseException) -> str:
    """Type and message of an exception on one line, whatever its class does when asked."""
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
    except BaseException:
        return name
    return f"{name}: {message[:300]}" if message else name


def _library() -> dict[str, Any]:
    """What the names of the library's modules mean."""
    ours = [name for name in sys.modules if name.split(".")[0] in ("sublim_theory", "experiments", "exercises")]
    return {f"{name}.{key}": value for name in ours for key, value in vars(sys.modules[name]).items()}
