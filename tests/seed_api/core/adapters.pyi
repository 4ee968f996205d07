from cjm_fasthtml_workers.core.protocol import PluginManagerAdapter

def create_simple_adapter(
    plugin_manager: Any,
    result_adapter: Optional[callable] = None,
) -> PluginManagerAdapter: ...

def default_result_adapter(result: Any) -> Dict[str, Any]: ...
