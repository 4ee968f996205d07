# Made by tools/stubs.py; edit the notebook, not this file.
"""One child's life: start it, watch it, ask it to end, make it end."""
from typing import Any as _Any
__all__ = ['LEASE_SECONDS', 'backoff_seconds', 'RestartBudget', 'Launch', 'WorkerOwner', 'WorkerHandle', 'memory_kills', 'Lease']
import asyncio
import contextlib
import logging
import math
import multiprocessing.process
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from fastcore.basics import patch
from ..core.channels import Files as Files, Receiver as Receiver, Sealed as Sealed, Sender as Sender, Turns as Turns, open_channel as open_channel, set_pipe_size as set_pipe_size, unread_bytes as unread_bytes
from ..core.config import RestartPolicy as RestartPolicy, WorkerConfig as WorkerConfig
from ..core.errors import ChannelClosed as ChannelClosed, ChannelCorrupt as ChannelCorrupt
from ..core.protocol import WorkerRequestType as WorkerRequestType
from .thread import Guard as Guard, Supervisor as Supervisor, Timer as Timer, close_in_forks as close_in_forks, describe_exit as describe_exit, open_fds as open_fds, python_command as python_command, sys_path as sys_path

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
_FIRST_DIR = getattr(multiprocessing.process, 'ORIGINAL_DIR', None)

def _command(fds: list[int]) -> list[str]: ...

def _main_script() -> dict[str, str]:
    """Where the app's main script is, in the words of `multiprocessing.spawn.prepare`; empty if there is none."""
    ...

def _surroundings(launch: Launch) -> dict[str, Any]: ...

def _first_message(launch: Launch) -> dict[str, Any]: ...
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
