"A plugin registry: plugins by category and id, each with a configuration."
import copy
from typing import Any

from .strict import Strict, complain, expect


class RegisteredPlugin(Strict):
    "What the registry returns: a `name`, `is_configured`, `get_unique_id()`, and nothing else"
    def __init__(self, category: str, name: str, config: dict[str, Any] | None):
        super().__init__()
        self.name, self.is_configured = name, config is not None
        self._category, self._config = category, config or {}

    def get_unique_id(self) -> str: return f'{self._category}_{self.name}'

class RegistryDouble(Strict):
    "Satisfies `PluginRegistryProtocol`"
    def __init__(self,
        category: str,  # The one category that exists
        plugins: dict[str, dict[str, Any] | None],  # Name to configuration; None: not configured yet
        failing: tuple[str, ...] = ()
    ):
        super().__init__(failing)
        self._category = category
        found = [RegisteredPlugin(category, name, config) for name, config in plugins.items()]
        self._plugins = {p.get_unique_id(): p for p in found}

    def get_plugins_by_category(self, category: str) -> list[RegisteredPlugin]:
        self.note('get_plugins_by_category', category=category)
        if category != self._category: complain(f'there is no category {category!r}')
        return list(self._plugins.values())

    def get_plugin(self, plugin_id: str) -> RegisteredPlugin | None:
        expect('plugin_id', plugin_id, str)
        self.note('get_plugin', plugin_id=plugin_id)
        return self._plugins.get(plugin_id)

    def load_plugin_config(self, plugin_id: str) -> dict[str, Any]:
        expect('plugin_id', plugin_id, str)
        self.note('load_plugin_config', plugin_id=plugin_id)
        if plugin_id not in self._plugins: complain(f'there is no plugin {plugin_id!r}')
        return copy.deepcopy(self._plugins[plugin_id]._config)
