# Made by tools/stubs.py; edit the notebook, not this file.
"""One child's life: start it, watch it, ask it to end, make it end. And the one thread that owns processes and pipes."""
from typing import Any as _Any
__all__ = ['LEASE_SECONDS', 'backoff_seconds', 'RestartBudget', 'Timer', 'Supervisor', 'Guard', 'Launch', 'WorkerOwner', 'WorkerHandle', 'memory_kills', 'describe_exit', 'ForkServer', 'Lease']
import asyncio
import contextlib
import functools
import heapq
import itertools
import logging
import math
import multiprocessing.process
import multiprocessing.spawn
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from fastcore.basics import patch
from ..core.channels import Files as Files, Receiver as Receiver, Sealed as Sealed, Sender as Sender, Turns as Turns, open_channel as open_channel, set_pipe_size as set_pipe_size, unread_bytes as unread_bytes
from ..core.config import RestartPolicy as RestartPolicy, WorkerConfig as WorkerConfig
from ..core.errors import ChannelClosed as ChannelClosed, ChannelCorrupt as ChannelCorrupt
from ..core.protocol import WorkerRequestType as WorkerRequestType
_log = logging.getLogger(__name__)

def backoff_seconds(config: WorkerConfig, n: int) -> float:
    """The pause after the `n`th failure in a row."""
    ...

@dataclass
class RestartBudget:
    """How often a worker crashed in a row, and what follows from it."""
    config: WorkerConfig
    failures: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it is time to give up."""
        ...

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the next start."""
        ...

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
_open_fds: set[int] = set()

def _close_inherited() -> None: ...

@functools.cache
def _close_in_forks() -> None:
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

@dataclass(frozen=True)
class Launch:
    """What a worker process is started with."""
    config: WorkerConfig
    env: dict[str, str] = field(default_factory=dict)

class WorkerOwner(Protocol):
    """Who is told what happens to a worker, by the supervisor's thread; of what `is_quick`, also by an event loop."""

    def on_message(self, handle: 'WorkerHandle', message: Any) -> None: ...

    def on_nonsense(self, handle: 'WorkerHandle', message: Any, error: Exception) -> None: ...

    def on_output(self, handle: 'WorkerHandle', data: bytes) -> None: ...

    def is_quick(self, handle: 'WorkerHandle', message: Any) -> bool: ...

    def on_exit(self, handle: 'WorkerHandle') -> None: ...

class WorkerHandle:
    """One worker process, from its start to its end."""
    supervisor: Supervisor
    guard: Guard
    owner: WorkerOwner
    launch: Launch
    fork_server: Any
    index: int
    generation: int
    state: str
    pid: int | None
    _pid: _Any
    requests: Sender
    control: Sender
    results: Receiver
    responses: Receiver
    turns: Turns
    files: Files
    exitcode: int | None
    error: str | None
    error_traceback: str | None
    job: Any
    loaded: set[str]
    changes: int
    last_used: float
    jobs_done: int
    ahead: Any
    pace_seconds: float
    most_ahead: int
    has_printed: bool
    _is_silent: bool | None
    commands: dict[int, Any]
    is_initialised: bool
    early: list[dict[str, Any]]
    configured: dict[str, Any]
    start_timer: Timer | None
    job_at: int
    bytes_read: int | None
    was_standby: bool
    was_ready: bool
    is_excused: bool
    stop_reason: str | None
    waited: list[Any] | None
    tail: bytes
    last_lines: deque[str]
    _memory_kills: _Any
    _read_texts: int
    reading: threading.RLock
    lease: Lease | None
    _passed_on: deque[Any]
    _popen: subprocess.Popen[bytes]
    _timer: Timer | None
    _fds: _Any
    _pidfd: _Any
    _output_fd: _Any

    def __init__(self, supervisor: Supervisor, guard: Guard, owner: WorkerOwner, launch: Launch, fork_server: Any=None, index: int=0, generation: int=1): ...

    def __repr__(self) -> str: ...

    def is_alive(self) -> bool:
        """Whether the process is there, or about to be."""
        ...

    @property
    def last_words(self) -> str | None:
        """The traceback that it sent, or the last that it printed."""
        ...

    def describe_end(self) -> str:
        """One line on how this worker ended."""
        ...

    def was_killed_for_memory(self) -> bool:
        """Whether it got a SIGKILL while the kernel was short of memory."""
        ...

    def rss_mb(self) -> float:
        """Memory that it holds, in MiB."""
        ...

    def stats(self) -> dict[str, Any]:
        """Numbers about it."""
        ...

    def start(self) -> None:
        """Start the process; a failure is told to the owner like an end."""
        ...

    def _abandon(self) -> None:
        """There is a process, but it cannot be watched: end it here and now."""
        ...

    def _launch(self) -> None: ...

    def watch_results(self) -> None:
        """Let the supervisor read the results; harmless when it does already."""
        ...

    def _begin(self) -> None:
        """The process is there, or asked for: tell it what to do."""
        ...

    def _follow(self) -> None:
        """Its number is known: guard it, watch it, and not before that listen to it."""
        ...

    def on_forked(self, pid: int) -> None:
        """There is a process now."""
        ...

    def on_forked_exit(self, exitcode: int | None=None) -> None:
        """It ended, with this exit code."""
        ...

    def on_orphaned(self, why: str) -> None:
        """There will be no process, or nobody to say how it ended; on Linux it ends with the one that it was forked from."""
        ...

    def _watch_exit(self) -> None: ...

    def _wait_exit(self) -> None:
        """Where there is no pidfd: wait, in a thread of its own."""
        ...

    def _on_exit(self) -> None:
        """The process is dead: read what it still said, end what it left behind, then tell."""
        ...

    def _end_unreported(self) -> None:
        """The process that it was forked from is silent: it was stopped, or is about to die."""
        ...

    def _reap(self) -> None: ...

    def _finish(self) -> None: ...

    def _close_pipes(self) -> None: ...

    def _read(self, channel: Receiver) -> None: ...

    def _deliver(self, read: Callable[[], list[Any]]) -> None: ...

    def _tell(self, message: Any) -> None: ...

    def _distrust(self, e: ChannelCorrupt) -> None: ...

    def _end_mute(self) -> None: ...

    def drain(self) -> None:
        """Hand over everything that has arrived by now."""
        ...

    def read_output(self, everything: bool=False) -> None:
        """Hand over what the process printed."""
        ...

    def has_output(self) -> bool:
        """Whether it printed something that was not handed over yet."""
        ...

    def _is_quick(self, message: Any) -> bool: ...

    def was_silent(self) -> bool:
        """Whether nothing was printed that a result just read would have to wait for."""
        ...

    def read_on_loop(self) -> bool:
        """Read what has come and act on it, as far as that is quick."""
        ...

    def send(self, message: dict[str, Any]) -> None:
        """Put `message` on the request channel; never waits; harmless when the process is dead."""
        ...

    def send_job(self, request: dict[str, Any]) -> None:
        """Send it, and note where it begins."""
        ...

    def send_ahead(self, messages: list[dict[str, Any]]) -> None:
        """Put requests behind what it works on; it asks `turns` about each before it begins."""
        ...

    def enter(self, entry: Sealed) -> None:
        """Let the process run its entry point; until then it is a standby."""
        ...

    def acknowledge(self, n: int) -> None:
        """Let the worker send more, when enough has been read to be worth a word."""
        ...

    def ask_job_to_stop(self, job_id: str) -> None:
        """Let `cancel_requested()` answer True in this job, and a stream end after its next chunk."""
        ...

    def _offer(self, channel: Sender, message: dict[str, Any]) -> None: ...

    def _write_later(self, channel: Sender) -> None: ...

    def _write_more(self, channel: Sender) -> None: ...

    def stop(self, ask: bool) -> None:
        """Walk down the ladder; returns at once."""
        ...

    def _descend(self, rungs: list[tuple[Callable[[], None], float | None]]) -> None: ...

    def _ask_to_stop(self) -> None: ...

    def _terminate(self) -> None: ...

    def kill(self) -> None:
        """The last rung: SIGKILL to the process and all that it started."""
        ...

    def _signal_group(self, sig: int) -> None: ...

def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, so far."""
    ...

def describe_exit(exitcode: int | None) -> str:
    """An exit code in words."""
    ...
_FIRST_DIR = getattr(multiprocessing.process, 'ORIGINAL_DIR', None)
_PACKAGE_HOME = str(Path(__file__).resolve().parents[2]) if '__file__' in globals() else os.getcwd()

def _command(fds: list[int]) -> list[str]: ...

def _sys_path() -> list[str]: ...

def _python(name: str, call: str) -> list[str]:
    """A command that imports `name` from the worker's module and does `call`."""
    ...

def _main_script() -> dict[str, str]:
    """Where the app's main script is, in the words of `multiprocessing.spawn.prepare`; empty if there is none."""
    ...

def _surroundings(launch: Launch) -> dict[str, Any]: ...

def _first_message(launch: Launch) -> dict[str, Any]: ...

class ForkServer:
    """A process that forks workers for us; of the supervisor's thread."""
    supervisor: Supervisor
    guard: Guard
    config: WorkerConfig
    forked: dict[int, WorkerHandle]
    _asked: deque[WorkerHandle | None]
    _asked_at: float
    _has_answered: bool
    _process: subprocess.Popen[bytes] | None
    _socket: socket.socket
    _output_fd: _Any
    _text: bytes
    _said: bytes
    _last_lines: deque[str]

    def __init__(self, supervisor: Supervisor, guard: Guard, config: WorkerConfig): ...

    def fork(self, handle: WorkerHandle, fds: list[int]) -> None:
        """Ask for a new process; `OSError` if that cannot be."""
        ...

    def _ask(self, fds: list[int]) -> None: ...

    def _start(self) -> None: ...

    def _launch(self, fd: int, output: int) -> subprocess.Popen[bytes]: ...

    def _read(self) -> None: ...

    def _take_answers(self) -> bool: ...

    def _receive(self) -> bytes: ...

    def _take(self, kind: str, what: str, rest: str='') -> None: ...

    def _take_end(self, handle: WorkerHandle | None, exitcode: int) -> None: ...

    def _read_output(self) -> None: ...

    def abandon(self, handle: WorkerHandle) -> None:
        """Let nobody wait for the process that was asked for."""
        ...

    def close(self, why: str='') -> None:
        """End it and what it left behind; the next `fork` starts another one."""
        ...
LEASE_SECONDS = 0.1

class Lease:
    """The right of an event loop to read a worker's results, for as long as they keep coming."""
    handle: WorkerHandle
    loop: asyncio.AbstractEventLoop
    until: float
    fd: int

    def __init__(self, handle: WorkerHandle, loop: asyncio.AbstractEventLoop): ...

    def _read(self) -> None:
        """On the loop: something has come."""
        ...

    def _give_back(self) -> None: ...

    def _release(self) -> None: ...

    def _close(self) -> None: ...

    def __del__(self) -> None: ...

    def _begin(self) -> None: ...

    def _check(self) -> None:
        """Has anything come lately?"""
        ...

    def end(self) -> None:
        """The supervisor reads from now on; of its thread only."""
        ...

    def _end(self) -> None: ...
