# Made by tools/stubs.py; edit the notebook, not this file.
"""The one thread that owns processes and pipes, and what all processes of a manager have in common."""
from typing import Any as _Any
__all__ = ['open_fds', 'Timer', 'Supervisor', 'close_in_forks', 'Guard', 'sys_path', 'python_command', 'describe_exit']
import contextlib
import functools
import heapq
import itertools
import logging
import multiprocessing.spawn
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from fastcore.basics import patch
_log = logging.getLogger(__name__)

class Timer:
    """Something that will happen, unless it is cancelled."""
    __slots__ = ('when', 'action', 'args')
    when: float
    args: tuple[Any, ...]
    action: Callable[..., Any] | None

    def __init__(self, when: float, action: Callable[..., Any], args: tuple[Any, ...]): ...

    def cancel(self) -> None:
        """Let it not happen, and hold on to nothing until its hour."""
        ...

class Supervisor:
    """The thread that owns processes and pipes: descriptors, calls from outside, timers."""
    after_round: Callable[[], None]
    thread: threading.Thread
    _selector: selectors.DefaultSelector
    _calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]]
    _timers: list[tuple[float, int, Timer]]
    _count: _Any
    _sweep_at: int
    _wake_fd: _Any
    _wake_write_fd: _Any
    _is_awake: bool
    _is_ending: bool
    _has_ended: bool
    _wake_lock: threading.RLock

    def __init__(self, name: str, after_round: Callable[[], None]=lambda: None, target: Callable[[], None] | None=None): ...

    def is_current(self) -> bool:
        """Whether the caller is in this thread."""
        ...

    def watch(self, fd: int, events: int, action: Callable[[], Any]) -> None:
        """Call `action()` in the thread whenever `fd` is ready for `events`."""
        ...

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no more; harmless when it is not watched."""
        ...

    def call(self, action: Callable[..., Any], *args: Any) -> None:
        """Have `action(*args)` run in the thread, soon. From any thread."""
        ...

    def _woken(self) -> None: ...

    def end(self) -> None:
        """Let the thread end after this round. From any thread."""
        ...

    def call_later(self, seconds: float, action: Callable[..., Any], *args: Any) -> Timer:
        """Have `action(*args)` run in the thread after `seconds`. From any thread."""
        ...

    def _add_timer(self, timer: Timer) -> None: ...

    def _pause(self) -> float | None:
        """Seconds until the next timer; None: there is none."""
        ...

    def _run_timers(self) -> None: ...

    def run(self) -> None:
        """The loop; returns after `end`."""
        ...

    def _do(self, action: Callable[..., Any], *args: Any) -> None: ...

    def close(self) -> None:
        """The end of the thread: carry out what is still queued; there is nothing left that it could break."""
        ...

    def _sweep(self, most: int=2 ** 30) -> None: ...
open_fds: set[int] = set()

def _close_inherited() -> None: ...

@functools.cache
def close_in_forks() -> None:
    """Arrange it, once per process, and not before there is something to close."""
    ...
_GUARD = '\ngroups=\nwhile read -r sign id; do\n  others=\n  for g in $groups; do [ "$g" = "$id" ] || others="$others $g"; done\n  groups=$others\n  [ "$sign" = - ] || groups="$groups $id"\ndone\nfor id in $groups; do kill -s KILL -- "-$id" 2>/dev/null; done\n'

class Guard:
    """A process that ends our process groups when the app is gone, however it went."""
    _process: subprocess.Popen[bytes] | None
    _fd: _Any
    _groups: _Any

    def __init__(self) -> None: ...

    def _start(self) -> None: ...

    def _close_pipe(self) -> None: ...

    def tell(self, sign: str, group: int) -> None:
        """Put a group on the list, or take it off."""
        ...

    def _write(self, lines: str) -> None: ...

    def close(self) -> None:
        """Send it home."""
        ...
_PACKAGE_HOME = str(Path(__file__).resolve().parents[2]) if '__file__' in globals() else os.getcwd()

def sys_path() -> list[str]: ...

def python_command(name: str, call: str) -> list[str]:
    """A command that imports `name` from the worker's module and does `call`."""
    ...

def describe_exit(exitcode: int | None) -> str:
    """An exit code in words."""
    ...
