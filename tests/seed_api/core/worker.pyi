from cjm_fasthtml_workers.core import protocol

def base_worker_process(
    request_queue: multiprocessing.Queue,
    result_queue: multiprocessing.Queue,
    response_queue: multiprocessing.Queue,
    plugin_manager_factory: Callable[[], PluginManagerAdapter],
    result_adapter: Optional[Callable[[Any], Dict[str, Any]]] = None,
    supports_streaming: bool = False,
): ...
