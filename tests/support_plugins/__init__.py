"The worker's side of the tests with the real cjm-plugin-system: entry points, imported by path in the worker."
import sys
from pathlib import Path
from typing import Any

from cjm_fasthtml_workers.core.adapters import create_simple_adapter
from cjm_fasthtml_workers.core.protocol import PluginManagerAdapter
from cjm_fasthtml_workers.core.worker import base_worker_process

INSTALLED = str(Path(__file__).parent)   # a folder with a package and its metadata, as in site-packages

def real_plugin_manager() -> Any:
    "A `PluginManager` of cjm-plugin-system that sees the package `cjm_test_plugins`"
    if INSTALLED not in sys.path: sys.path.append(INSTALLED)
    from cjm_plugin_system.core.manager import PluginManager
    from cjm_test_plugins import ReaderInterface
    return PluginManager(ReaderInterface)

def adapted_plugin_manager() -> PluginManagerAdapter:
    return create_simple_adapter(real_plugin_manager())

def reader_worker(request_queue: Any, result_queue: Any, response_queue: Any) -> None:
    "Entry point of the worker"
    base_worker_process(request_queue, result_queue, response_queue, adapted_plugin_manager, supports_streaming=True)
