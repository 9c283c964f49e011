"""Ends a failed or interrupted command immediately, with one line on standard error.

After Ctrl-C, the process exits from within its signal handler. It raises no ``KeyboardInterrupt``, because
libraries crash if that happens while they are imported, and lose it inside callbacks. Python calls signal
handlers only between bytecode instructions, so a process that waits for a device or a compiler would ignore
Ctrl-C until that is done. Therefore, the signal also wakes a thread, which ends the process if the handler
has not done so within half a second.
"""

import os
import signal
import socket
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from types import FrameType

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 plus the signal's number, as in shells."""

MISTAKE = 2
FAULT = 1

GRACE = 0.5
"""The seconds that the main thread has to react to Ctrl-C."""

FAREWELL_SECONDS = 5.0
"""The seconds that the farewell may take, including saving the last results."""

TRACEBACK = "WINDROW_TRACEBACK"
"""The environment variable that, set to anything, enables tracebacks."""

_PACKAGE = Path(__file__).parents[1]
_TASK_FILES = {("api", name) for name in ("task.py", "metrics.py", "samplers.py", "filter.py")}

_MISTAKES = (ValueError, TypeError, OSError, LookupError, ImportError, AssertionError)


class Ending:
    """Ends the command of this process.

    Args:
        owns_process: Whether to watch signals and possibly exit the process.

    Attributes:
        farewell: Returns the message after Ctrl-C; commands may replace it.
    """

    def __init__(self, owns_process: bool) -> None:
        self.owns_process = owns_process
        self.farewell: Callable[[], str] = lambda: "interrupted"
        self._leaving = Lock()

    def failed(self, error: Exception) -> int:
        """Prints an error and returns the exit status."""
        sys.stdout.flush()
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        print(f"windrow: {message_of(error)}", file=sys.stderr, flush=True)
        return MISTAKE if isinstance(error, _MISTAKES) else FAULT

    def interrupted(self) -> int:
        """Prints how to resume; returns the exit status."""
        # The main thread may have been interrupted while it was writing.
        with suppress(RuntimeError):
            sys.stdout.flush()
        farewell = f"\nwindrow: {self.farewell()}\n"
        try:
            sys.stderr.write(farewell)
            sys.stderr.flush()
        except RuntimeError:
            os.write(2, farewell.encode())
        return INTERRUPTED

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Makes Ctrl-C end the process within a second, whatever it is waiting for."""
        if not self.owns_process or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        here, there = socket.socketpair()
        there.setblocking(False)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._handle)
        listener = Thread(target=self._listen, args=(here,), name="windrow-interrupt", daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(before)
            there.close()
            # Otherwise the thread may hold the last reference to the model during interpreter exit.
            listener.join()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._leave()

    def _listen(self, signals: socket.socket) -> None:
        with signals:
            while numbers := signals.recv(16):
                if signal.SIGINT not in numbers:
                    continue
                sleep(GRACE)
                self._leave()
                sleep(FAREWELL_SECONDS)
                os._exit(INTERRUPTED)

    def _leave(self) -> None:
        """Exits, unless another thread, or this one after an earlier Ctrl-C, is doing so."""
        if self._leaving.acquire(blocking=False):
            os._exit(self.interrupted())


def message_of(error: Exception) -> str:
    """The error's message, with its location if that is in the user's or a task's code.

    >>> message_of(ValueError("--limit must be a number")), message_of(KeyError("no such task"))
    ('--limit must be a number', 'no such task')
    """
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if not words or not isinstance(error, _MISTAKES):
        words = f"{type(error).__name__}: {words}".rstrip(": ")
    if "RESOURCE_EXHAUSTED" in words:
        words += "; use smaller batches: --batch_size, or tokens_per_batch= in --model_args"
    frame = _own_frame(error)
    if frame is None and (frame := _task_frame(error)) is not None:
        kind = f"{type(error).__name__}: "
        words = f"lm_eval's own task code failed: {kind}{words.removeprefix(kind)}"
    if frame is None and error.__traceback__ and not str(error):
        frame = traceback.extract_tb(error.__traceback__)[-1]
    if frame is None and isinstance(error, _MISTAKES):
        return words
    where = f" ({frame.filename}, line {frame.lineno}, in {frame.name})" if frame else ""
    return f"{words}{where}; set {TRACEBACK}=1 to see the traceback"


def _task_frame(error: Exception) -> traceback.FrameSummary | None:
    """The innermost frame in lm_eval's task code, unless that called windrow."""
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
    """The innermost frame in the user's own code, not in Python, lm_eval, windrow or installed packages."""
    installed = [*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), str(_PACKAGE), str(_lm_eval())]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not path.is_file() or {"site-packages", "dist-packages"} & set(path.parts):
            continue
        if not frame.filename.startswith(tuple(installed)):
            return frame
    return None


def _lm_eval() -> Path | None:
    """The directory of the lm_eval package, which may be in a clone of its repository."""
    package = find_spec("lm_eval")
    places = package.submodule_search_locations if package is not None else None
    return Path(places[0]) if places else None
