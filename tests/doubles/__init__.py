"Strict stand-ins for the partners of a manager: what is not in their Protocol, they do not have, and they say so."
import asyncio
import time
from collections.abc import Callable

from .registry import RegisteredPlugin, RegistryDouble
from .resources import ResourceManagerDouble, WorkerState
from .strict import complaints

__all__ = ['RegisteredPlugin', 'RegistryDouble', 'ResourceManagerDouble', 'WorkerState', 'complaints', 'eventually']

async def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    "Wait until `condition()` is true; fail after `seconds`"
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f'not true within {seconds} seconds'
        await asyncio.sleep(.01)
