# Made by tools/stubs.py; edit the notebook, not this file.
"""A process that has imported what the workers need, and forks them."""
from typing import Any as _Any
__all__ = ['Forked', 'ForkServer']
import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol
from fastcore.basics import patch
from ..core.config import WorkerConfig as WorkerConfig
from .thread import Guard as Guard, Supervisor as Supervisor, describe_exit as describe_exit, open_fds as open_fds, python_command as python_command, sys_path as sys_path
_log = logging.getLogger(__name__)

class Forked(Protocol):
    """Who asks for a process, and hears of its beginning and its end; a `WorkerHandle`."""
    was_ready: bool
    is_excused: bool
    error: str | None
    error_traceback: str | None

    def on_forked(self, pid: int) -> None: ...

    def on_forked_exit(self, exitcode: int | None=None) -> None: ...

    def on_orphaned(self, why: str) -> None: ...

class ForkServer:
    """A process that forks workers for us; of the supervisor's thread."""
    supervisor: Supervisor
    guard: Guard
    config: WorkerConfig
    forked: dict[int, Forked]
    _asked: deque[Forked | None]
    _asked_at: float
    _has_answered: bool
    _process: subprocess.Popen[bytes] | None
    _socket: socket.socket
    _output_fd: _Any
    _text: bytes
    _said: bytes
    _last_lines: deque[str]

    def __init__(self, supervisor: Supervisor, guard: Guard, config: WorkerConfig): ...

    def fork(self, handle: Forked, fds: list[int]) -> None:
        """Ask for a new process; `OSError` if that cannot be."""
        ...

    def _ask(self, fds: list[int]) -> None: ...

    def _start(self) -> None: ...

    def _launch(self, fd: int, output: int) -> subprocess.Popen[bytes]: ...

    def _read(self) -> None: ...

    def _take_answers(self) -> bool: ...

    def _receive(self) -> bytes: ...

    def _take(self, kind: str, what: str, rest: str='') -> None: ...

    def _take_end(self, handle: Forked | None, exitcode: int) -> None: ...

    def _read_output(self) -> None: ...

    def abandon(self, handle: Forked) -> None:
        """Let nobody wait for the process that was asked for."""
        ...

    def close(self, why: str='') -> None:
        """End it and what it left behind; the next `fork` starts another one."""
        ...
