"Plugins that are plain classes."
import functools
from collections.abc import Callable
from typing import Any

from cjm_fasthtml_workers.core.adapters import PlainPluginManager
from cjm_fasthtml_workers.core.worker import base_worker_process


class Sticky:
    "Does not let itself be unloaded in peace"
    def __init__(self, config: dict[str, Any]): self.config = config
    def execute(self, /, **params: Any) -> dict[str, Any]: return {'config': self.config, 'params': params}
    def unload(self) -> None: raise OSError('the card does not answer')

def sticky_worker() -> Callable:
    factory = functools.partial(PlainPluginManager, {'sticky': 'support_plugins.plain:Sticky'}, {'sticky': {'size': 1}})
    return functools.partial(base_worker_process, plugin_manager_factory=factory)
