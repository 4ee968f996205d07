"An installed package with two plugins for the real cjm-plugin-system, found by its entry points."
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from cjm_plugin_system.core.interface import PluginInterface


class ReaderInterface(PluginInterface):
    entry_point_group = 'cjm_test.readers'

@dataclass
class Config:
    model: str = 'small'
    log: str = ''   # a file to which loading and unloading are written

class Plain(ReaderInterface):
    "Does not stream"
    config_class = Config
    version = '1.0'
    name = 'plain'

    def initialize(self, config: Any = None) -> None:
        self.config = config if isinstance(config, Config) else Config(**(config or {}))
        if self.config.model == 'huge': raise ValueError('huge does not fit')
        self.note('load')

    def execute(self, /, *args: Any, **params: Any) -> Any:
        if 'fail' in params: raise LookupError(params['fail'])
        if 'hog' in params: raise MemoryError('no room for it')
        if 'wait' in params: time.sleep(600)
        return {'text': f'{self.config.model} read it', 'metadata': {'pid': os.getpid(), 'params': params}}

    def is_available(self) -> bool: return True
    def get_current_config(self) -> Config: return self.config
    @staticmethod
    def get_config_dataclass() -> Any: return Config
    def cleanup(self) -> None: self.note('unload')

    def note(self, what: str) -> None:
        if not self.config.log: return
        with open(self.config.log, 'a') as f: f.write(f'{what} {self.name} {self.config.model}\n')

class Reader(Plain):
    "Streams, and says at the end of the stream what it was"
    name = 'reader'

    def execute_stream(self, /, *args: Any, **params: Any) -> Any:
        yield from params['words']
        return {'text': ' '.join(params['words']), 'metadata': asdict(self.config)}
