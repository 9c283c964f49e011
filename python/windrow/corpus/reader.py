"""Reads and encodes the windows of large inputs in a process of its own.

Decoding rows holds the interpreter's lock, and so does handing batches to the devices. In one process, each
would wait for the other. The reader is started with the interpreter that runs this process. It receives a
pickled `Reading` and returns pickled `Encoded` windows, a few in advance. It ends with this process, at the
latest when it has finished a window.

```text
reader          read 2        encode 2   read 3        encode 3   read 4
this process    plan 1, run 0            plan 2, run 1            plan 3, run 2
```

Small inputs are read in this process, by a thread: a reader takes a second or two to start. So are objects
in memory, and documents whose tokenizer cannot be pickled.
"""

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from windrow.corpus.source import FileSource
from windrow.corpus.windows import Encoded, Reading, one_ahead

LEAST_BYTES = 8 << 20
"""The size of files from which on a reader is worth its start."""

PIPE_BYTES = 1 << 20
"""The size of the pipe for windows, where it can be set. This is the most that Linux allows by default."""

_CODE = """
import pickle, sys
sys.path[:], reading = pickle.load(sys.stdin.buffer)
from windrow.corpus.reader import serve
serve(reading)
"""


@contextmanager
def encoded_windows(reading: Reading) -> Iterator[Iterator[Encoded]]:
    """The windows of this host that are not done yet, in order, encoded.

    Raises:
        OSError, ValueError: A file cannot be read.
        RuntimeError: The reader ended before its work was done.
    """
    process = _start(reading)
    if process is None:
        yield map(reading.encode, reading.rows())
        return
    try:
        yield _received(process, reading)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _start(reading: Reading) -> Any:
    """The reader's process; ``None`` if reading needs none, or cannot be passed on."""
    source = reading.source
    if not isinstance(source, FileSource) or sum(source.sizes or ()) < LEAST_BYTES or not sys.executable:
        return None
    try:
        pickled = pickle.dumps(reading)
    except Exception:  # a tokenizer's own, of any kind
        return None
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},  # the devices are this process's
        pipesize=PIPE_BYTES,
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(pickle.dumps((sys.path, pickled)))
    return process


def _received(process: Any, reading: Reading) -> Iterator[Encoded]:
    if not _next_of(process):
        yield from map(reading.encode, reading.rows())  # it cannot import what the tokenizer needs
        return
    while (item := _next_of(process)) is not None:
        if isinstance(item, Exception):
            raise item
        yield item


def _next_of(process: Any) -> Any:
    try:
        return pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise RuntimeError(
            f"the process that reads the input ended with status {process.wait()}; run again to resume"
        ) from None


def serve(pickled: bytes) -> None:
    """Reads and encodes windows, and writes them to standard output; runs in the reader.

    It writes whether it can read the input, then the windows, and at the end ``None`` or an exception.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides when to stop
    gc.disable()  # rows hold no cycles, and there are many of them
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    try:
        for item in _served(pickled):
            pickle.dump(item, stream, pickle.HIGHEST_PROTOCOL)
            stream.flush()
    except BrokenPipeError:
        pass
    os._exit(0)  # without waiting for a window that is being read


def _served(pickled: bytes) -> Iterator[Any]:
    try:
        reading: Reading = pickle.loads(pickled)
    except Exception:
        yield False
        return
    yield True
    try:
        with one_ahead(reading.rows()) as rows:
            yield from map(reading.encode, rows)
        yield None
    except Exception as error:
        yield _portable(error)


def _portable(error: Exception) -> Exception:
    """An exception that the other process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
