"""How a command ends that does not end well: one line on standard error, and no waiting.

Python raises ``KeyboardInterrupt`` only between two of its own instructions, so a
process that waits for a device or a compiler would not heed Ctrl-C until that is
done, and where it is raised inside a callback, such as one of the garbage
collector's, it is lost. Here a thread is woken by the signal itself and ends the
process if nobody else has done so within half a second.
"""

import os
import signal
import socket
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the signal's number, as shells have it."""

MISTAKE = 2
FAULT = 1

GRACE = 0.5
"""Seconds that the main thread has to heed Ctrl-C by itself."""

TRACEBACK = "WINDROW_TRACEBACK"
"""The environment variable that, set to anything, brings tracebacks back."""

_PACKAGE = Path(__file__).parents[1]
_TASK_FILES = {("api", name) for name in ("task.py", "metrics.py", "samplers.py", "filter.py")}

_MISTAKES = (ValueError, TypeError, OSError, LookupError, ImportError, AssertionError)


class Ending:
    """How this process's command ends.

    Args:
        owns_process: Whether the process may be ended and its signals be watched.

    Attributes:
        farewell: Makes what is said after Ctrl-C; a command puts its own here.
    """

    def __init__(self, owns_process: bool) -> None:
        self.owns_process = owns_process
        self.farewell: Callable[[], str] = lambda: "interrupted"
        self._signalled, self._said, self._lock = Event(), Event(), Lock()

    def failed(self, error: Exception) -> int:
        """Says what is wrong; returns the exit status. What Ctrl-C led to is no error of its own."""
        if self._signalled.is_set():
            return self.interrupted()
        sys.stdout.flush()
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        print(f"windrow: {told(error)}", file=sys.stderr, flush=True)
        return MISTAKE if isinstance(error, _MISTAKES) else FAULT

    def interrupted(self) -> int:
        """Says how to go on, once; returns the exit status."""
        with self._lock:
            if not self._said.is_set():
                self._said.set()
                sys.stdout.flush()
                print(f"\nwindrow: {self.farewell()}", file=sys.stderr, flush=True)
        return INTERRUPTED

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Ctrl-C ends what runs inside within a second, whatever it waits for."""
        if not self.owns_process:
            yield
            return
        here, there = socket.socketpair()
        there.setblocking(False)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        hook, sys.unraisablehook = sys.unraisablehook, _say_unraisable
        listener = Thread(target=self._listen, args=(here,), name="windrow-interrupt", daemon=True)
        listener.start()
        try:
            yield
        except KeyboardInterrupt:
            self._signalled.set()
            raise
        finally:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(before)
            there.close()
            if not self._signalled.is_set():
                # Otherwise it may be the last to let go of the model, in the midst of Python's own end.
                listener.join()

    def _listen(self, signals: socket.socket) -> None:
        with signals:
            while numbers := signals.recv(16):
                if signal.SIGINT not in numbers:
                    continue
                self._signalled.set()
                if not self._said.wait(GRACE):
                    os._exit(self.interrupted())


def _say_unraisable(unraisable: Any) -> None:
    """Python's own words for an error that nobody can catch; none for Ctrl-C, which the thread heeds."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def told(error: Exception) -> str:
    """What is wrong, in the error's own words, and where if that is the caller's code or a task's.

    >>> told(ValueError("--limit must be a number")), told(KeyError("no such task"))
    ('--limit must be a number', 'no such task')
    """
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if not words or not isinstance(error, _MISTAKES):
        words = f"{type(error).__name__}: {words}".rstrip(": ")
    if "RESOURCE_EXHAUSTED" in words:
        words += "; ask for smaller batches: --batch_size, or tokens_per_batch= in --model_args"
    frame = _own_frame(error)
    if frame is None and (frame := _task_frame(error)) is not None:
        kind = f"{type(error).__name__}: "
        words = f"lm_eval's own task code failed: {kind}{words.removeprefix(kind)}"
    if frame is None and error.__traceback__ and not str(error):
        frame = traceback.extract_tb(error.__traceback__)[-1]
    if frame is None and isinstance(error, _MISTAKES):
        return words
    where = f" ({frame.filename}, line {frame.lineno}, in {frame.name})" if frame else ""
    return f"{words}{where}; with {TRACEBACK}=1 the traceback is shown"


def _task_frame(error: Exception) -> traceback.FrameSummary | None:
    """The innermost frame in lm_eval's code of tasks, unless that had called windrow."""
    folder = _lm_eval()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(_PACKAGE):
            return None
        if folder is not None and Path(frame.filename).is_relative_to(folder):
            part, *inner = Path(frame.filename).relative_to(folder).parts
            if part == "filters" or (part == "tasks" and len(inner) > 1) or (part, *inner) in _TASK_FILES:
                return frame
    return None


def _own_frame(error: Exception) -> traceback.FrameSummary | None:
    """The innermost frame in code that is neither installed nor Python's own nor lm_eval's nor windrow's."""
    installed = [*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), str(_PACKAGE), str(_lm_eval())]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not path.is_file() or {"site-packages", "dist-packages"} & set(path.parts):
            continue
        if not frame.filename.startswith(tuple(installed)):
            return frame
    return None


def _lm_eval() -> Path | None:
    """The folder of lm_eval's package; it may be a clone of its repository."""
    package = find_spec("lm_eval")
    places = package.submodule_search_locations if package is not None else None
    return Path(places[0]) if places else None
