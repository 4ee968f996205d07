"The adapters of `core.adapters` against odd objects, and against the real cjm-plugin-system in this process."
import array
import collections
import dataclasses
import functools
import gc
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from cjm_fasthtml_workers.core.adapters import PlainPluginManager, create_simple_adapter, default_result_adapter
from cjm_fasthtml_workers.core.protocol import PluginManagerAdapter
from support_plugins import adapted_plugin_manager, real_plugin_manager

# ---- Results

class Text(str):
    def __str__(self) -> str: raise OSError

class Raises:
    def __getattribute__(self, name: str) -> Any: raise OSError(name)

class Liar(collections.abc.Mapping):
    def __getitem__(self, key: Any) -> Any: raise OSError
    def __iter__(self) -> Any: raise OSError
    def __len__(self) -> int: return 3

class Method:
    def text(self) -> str: return 'called'
    def __str__(self) -> str: return 'an answer'

@dataclasses.dataclass
class Deep:
    text: Any = None
    metadata: Any = None

Pair = collections.namedtuple('Pair', 'text score')

@pytest.mark.parametrize('result, text, metadata', [
    ({'text': None, 'metadata': None}, '', {}),
    ({'text': 7, 'n': 1, 'metadata': {'n': 2}}, '7', {'n': 2}),
    ({'metadata': 'loose'}, '', {'metadata': 'loose'}),
    ({}, '', {}),
    (Pair('hi', .5), 'hi', {'score': .5}),
    (Deep('hi', Deep('x', None)), 'hi', {'text': 'x', 'metadata': None}),
    (Deep(b'\xff'), '\ufffd', {}),
    (Text('hi'), 'hi', {}),
    (bytearray(b'hi'), 'hi', {}),
    (memoryview(b'hi'), 'hi', {}),
    (array.array('i', [1, 2]), "array('i', [1, 2])", {}),
    (Method(), 'an answer', {}),
    (Deep, str(Deep), {}),
    (True, 'True', {}),
])
def test_result(result: Any, text: str, metadata: dict) -> None:
    adapted = default_result_adapter(result)
    assert adapted == {'text': text, 'metadata': metadata}
    assert type(adapted['text']) is str

ODD = {'raises': Raises(), 'liar': Liar(), 'mock': Mock(), 'text raises': SimpleNamespace(text=Raises()),
       'item raises': {'text': Raises()}, 'other keys': {1: 2}, 'ellipsis': ..., 'class': Exception,
       'error': Exception('x'), 'generator': (i for i in ()), 'nested': [[]], 'surrogate': '\udc80',
       'nan': float('nan')}

@pytest.mark.parametrize('name', ODD)
def test_result_never_raises(name: str) -> None:
    adapted = default_result_adapter(ODD[name])
    assert adapted.keys() == {'text', 'metadata'}
    assert isinstance(adapted['text'], str) and isinstance(adapted['metadata'], dict)

def test_result_is_not_changed() -> None:
    result = {'text': 'a', 'metadata': {'b': 1}, 'c': 2}
    default_result_adapter(result)['metadata']['b'] = 3
    assert result == {'text': 'a', 'metadata': {'b': 1}, 'c': 2}

# ---- Plain classes

class Plain:
    def __init__(self, config: dict): self.config = config
    def execute(self, /, **params: Any) -> Any: return params
    def unload(self) -> None:
        if self.config.get('sticky'): raise OSError('does not let go')

CLASHES = dict.fromkeys(['self', 'plugin_name', 'type', 'job_id', 'args', 'params', 'config', 'cls', 'function'], 1)

def test_plain_takes_any_name() -> None:
    plain = PlainPluginManager({'p': Plain})
    plain.load_plugin('p', {})
    assert plain.execute_plugin('p', **CLASHES) == CLASHES
    assert plain.execute_plugin(plugin_name='p', type='x') == {'type': 'x'}

def test_plain_configuration() -> None:
    configs = {'p': {'size': 1}}
    plain = PlainPluginManager({'p': Plain}, configs)
    def seen() -> dict: return plain._instance('p').config
    for given, wanted in [(None, {'size': 1}), ({}, {'size': 1}), ({'speed': 2}, {'speed': 2})]:
        plain.load_plugin('p', given)
        assert seen() == wanted
        seen()['size'] = 'changed by the plugin'
    plain.reload_plugin('p', {})
    assert seen() == configs['p'] == {'size': 1}

def test_plain_unload_that_raises_leaves_nothing_loaded() -> None:
    plain = PlainPluginManager({'p': Plain})
    plain.load_plugin('p', {'sticky': True})
    with pytest.raises(OSError, match='does not let go'): plain.unload_plugin('p')
    assert not plain.is_loaded('p')
    plain.load_plugin('p', {})
    assert plain.is_loaded('p')

def test_plain_lets_go_of_a_model_in_a_cycle() -> None:
    plain = PlainPluginManager({'p': Plain})
    plain.load_plugin('p', {})
    model = plain._instance('p')
    model.myself, gone = model, weakref.ref(model)
    del model
    gc.disable()
    try: plain.unload_plugin('p')
    finally: gc.enable()
    assert gone() is None

def test_plain_refuses_async() -> None:
    class Async(Plain):
        async def execute(self) -> None: ...   # type: ignore[override]
    with pytest.raises(TypeError, match='is async'): PlainPluginManager({'p': Async}).load_plugin('p', {})

def test_module_that_raises_shows_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path/'broken_plugin_module.py').write_text('1/0')
    (tmp_path/'needy_plugin_module.py').write_text('import no_such_thing_at_all')
    monkeypatch.syspath_prepend(tmp_path)
    plain = PlainPluginManager({'p': 'broken_plugin_module:P', 'q': 'needy_plugin_module:Q', 'r': 'p:'})
    with pytest.raises(ZeroDivisionError): plain.load_plugin('p', {})
    with pytest.raises(ImportError, match="'needy_plugin_module' .*no_such_thing_at_all"): plain.load_plugin('q', {})
    with pytest.raises(ValueError, match='package.module:ClassName'): plain.load_plugin('r', {})

def test_plain_factory_crosses() -> None:
    factory = functools.partial(PlainPluginManager, {'p': Plain, 'q': 'somewhere:Q'}, {'p': {'size': 1}})
    assert [p.name for p in pickle.loads(pickle.dumps(factory))().discover_plugins()] == ['p', 'q']

def test_worker_side_imports_nothing_heavy() -> None:
    code = ('import sys, cjm_fasthtml_workers.core.adapters; '
            'print(*{"fastcore", "fasthtml", "starlette", "uvicorn", "asyncio", "numpy"} & sys.modules.keys())')
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=50)
    assert (run.stdout.strip(), run.stderr) == ('', '')

# ---- The real cjm-plugin-system

@pytest.fixture
def log(tmp_path: Path) -> Path: return tmp_path/'log'

@pytest.fixture
def real(log: Path) -> Any:
    adapter = adapted_plugin_manager()
    for plugin in adapter.discover_plugins(): adapter.load_plugin(plugin, {'log': str(log)})
    log.write_text('')
    return adapter

def test_real_discovers_and_loads(real: Any) -> None:
    assert isinstance(real, PluginManagerAdapter)
    assert {(p.name, p.package_name, p.version) for p in real.discover_plugins()} == {
        ('reader', 'cjm-test-plugins', '1.0'), ('plain', 'cjm-test-plugins', '1.0')}
    assert real.is_loaded('reader') and real.is_loaded('plain') and not real.is_loaded('other')

def test_real_executes_with_any_name(real: Any) -> None:
    assert real.execute_plugin('plain', **CLASHES)['metadata']['params'] == CLASHES
    assert real.execute_plugin(plugin_name='plain', path='x')['metadata']['params'] == {'path': 'x'}

def test_real_disabled_plugin_stays_disabled(real: Any) -> None:
    real._manager.disable_plugin('plain')
    for params in ({}, {'plugin_name': 'x'}):
        with pytest.raises(Exception, match='disabled'): real.execute_plugin('plain', **params)

def test_real_error_keeps_its_cause(real: Any) -> None:
    with pytest.raises(Exception, match='execution failed: plain') as e: real.execute_plugin('plain', fail='no ink')
    assert repr(e.value.__cause__) == "LookupError('no ink')"

def test_real_streams(real: Any) -> None:
    assert real.check_streaming_support('reader') and not real.check_streaming_support('plain')
    assert list(real.execute_plugin_stream('reader', words=['a', 'b'], plugin_name='x')) == ['a', 'b']

def test_real_stream_end_is_adapted() -> None:
    adapter = create_simple_adapter(real_plugin_manager(), lambda result: {'seen': result['text']})
    for plugin in adapter.discover_plugins(): adapter.load_plugin(plugin, {})
    assert adapter.execute_plugin('plain') == {'seen': 'small read it'}
    stream = adapter.execute_plugin_stream('reader', words=['a', 'b'])
    chunks: list[str] = []
    try:
        while True: chunks.append(next(stream))
    except StopIteration as end: assert (chunks, end.value) == (['a', 'b'], {'seen': 'a b'})

def test_real_reloads_and_unloads(real: Any, log: Path) -> None:
    real.reload_plugin('plain', {'model': 'large', 'log': str(log)})
    assert real.execute_plugin('plain')['text'] == 'large read it'
    real.unload_plugin('plain')
    assert not real.is_loaded('plain') and real.is_loaded('reader')
    real.unload_plugin('plain')
    real.reload_plugin('plain', {'model': 'tiny', 'log': str(log)})
    real.reload_plugin('plain', None)
    assert log.read_text().splitlines() == [
        'unload plain small', 'load plain large', 'unload plain large', 'load plain tiny', 'unload plain tiny']
    with pytest.raises(Exception, match='not found'): real.unload_plugin('other')

def test_real_failed_load_and_reload(real: Any, log: Path) -> None:
    with pytest.raises(Exception, match='Failed to load plugin: plain'): real.reload_plugin('plain', {'model': 'huge'})
    assert not real.is_loaded('plain')
    real.reload_plugin('plain', {'model': 'small', 'log': str(log)})
    assert real.execute_plugin('plain')['text'] == 'small read it'

def test_real_unload_frees_the_instance(real: Any) -> None:
    gone = weakref.ref(real._manager.get_plugin('plain'))
    real.unload_plugin('plain')
    assert gone() is None

# ---- Other plugin managers

class Bare:
    "The least that can be adapted; it cannot tell what is loaded"
    def __init__(self) -> None: self.configs: dict[str, Any] = {}
    def discover_plugins(self) -> Any: return iter(['p'])
    def load_plugin(self, data: str, config: Any) -> bool | None:
        if config == {'bad': True}: return False
        self.configs[data] = config
        return None
    def unload_plugin(self, name: str) -> None: del self.configs[name]
    def execute_plugin(self, name: str, **params: Any) -> Any: return [self.configs[name], params]

def test_bare_manager() -> None:
    adapter: Any = create_simple_adapter(Bare())
    assert not adapter.is_loaded('p')
    adapter.reload_plugin('p', {'a': 1})   # discovered on the way
    assert adapter.is_loaded('p')
    assert adapter.execute_plugin('p', plugin_name=2) == [{'a': 1}, {'plugin_name': 2}]
    with pytest.raises(RuntimeError, match="could not load plugin 'p'"): adapter.reload_plugin('p', {'bad': True})
    assert not adapter.is_loaded('p')
    with pytest.raises(ValueError, match="no plugin 'q'; there are: p"): adapter.reload_plugin('q', {})

def test_bare_manager_says_which_name_it_cannot_pass_on() -> None:
    adapter = create_simple_adapter(Bare())
    adapter.load_plugin('p', {})
    with pytest.raises(TypeError, match='takes these names for itself: name, self'):
        adapter.execute_plugin('p', name=1, self=2, other=3)
