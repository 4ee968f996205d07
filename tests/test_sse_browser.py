"""A real `EventSource`: it comes back by itself, nothing is lost or twice, and it stops when the job is over."""
from typing import Any

import pytest
from fasthtml.common import Div, Script

from cjm_fasthtml_workers.extensions.sse import SSEHub
from sse_app import make_app, serve, until

JOB = {'job_id': 'j1', 'plugin_id': 'llm', 'status': 'running'}
NASTY = 'ä\0\u2028\r\n\r\n<b>\ufeff\ndata: x\n\n'

PAGE = '''
window.seen = []; window.html = [];
const source = window.source = new EventSource('/events/j1');
for (const name of ['snapshot', 'chunk', 'completed'])
    source.addEventListener(name, e => seen.push([name, JSON.parse(e.data)]));
const other = window.other = new EventSource('/html/j1');
other.addEventListener('chunk', e => { document.querySelector('#text').insertAdjacentHTML('beforeend', e.data) });
'''

def text_of(seen: list[Any]) -> str:
    text = ''
    for name, data in seen: text = data['text'] if name == 'snapshot' else text + data.get('chunk', '')
    return text

@pytest.mark.limit(120)
def test_event_source(browser: Any) -> None:
    hub = SSEHub(coalesce_seconds=0)
    hub.publish('chat:started', JOB)
    app = make_app(hub)
    app.route('/')(lambda: Div(Div(id='text'), Script(PAGE)))
    said = []
    def say(*words: str) -> None:
        for word in words: hub.publish('chat:chunk', {**JOB, 'chunk': word})
        said.extend(words)
    with serve(app) as server:
        page = browser.new_page()
        page.goto(f'http://127.0.0.1:{server.port}/')
        page.wait_for_function('seen.length == 1')
        until(lambda: hub.subscribers == 2)
        for i in range(3):
            say(f'{i} ', NASTY)
            page.wait_for_function(f'seen.length >= {len(said) + 1}')
            hub.close()   # the line drops; the browser comes back after a second or so
            until(lambda: hub.subscribers == 0)
            say('meanwhile ')
            until(lambda: hub.subscribers == 2)
            page.wait_for_function(f'seen.length >= {len(said) + 1}')
        hub.publish('chat:completed', {**JOB, 'status': 'completed'})
        page.wait_for_function('source.readyState == 2 && other.readyState == 2', timeout=20_000)   # told 204
        seen = page.evaluate('seen')
        names = [name for name, _ in seen]
        assert names.count('snapshot') == 1 and names.count('completed') == 1 and text_of(seen) == ''.join(said)
        assert page.locator('#text b').count() == 0 and page.locator('#text > div').count() == len(said)
        assert page.locator('#text').inner_text().count('<b>') == 3
        page.close()
        until(lambda: hub.subscribers == 0)
