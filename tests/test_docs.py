"The site from the notebooks: built strictly, every link leads somewhere, search and pictures work without the network."
import functools
import http.server
import json
import re
import shutil
import threading

import pytest

from tools import docs
from tools.check import ROOT, copy_tree, run
from tools.links import bad_links

needs_npm = pytest.mark.skipif(
    not shutil.which('npm') and not (ROOT/'docs_assets').exists(), reason='npm is missing: the site was NOT built')

pytestmark = pytest.mark.limit(300)   # the first of them makes the site, which takes a busy machine a while

def cell(kind: str, source: str, **more) -> dict: return dict(cell_type=kind, source=source, outputs=[]) | more
def shown(**data) -> list[dict]: return [dict(output_type='execute_result', data=data)]

# ---- One page

PAGE = docs.Page('core/adapters', 'core.adapters', [
    cell('code', '#| default_exp core.adapters'),
    cell('markdown', '# Adapters\n\n> Wrap it.\n\nThe introduction stays. See `Foo`, `Foo.size`, `grow_up`, '
         '`grow_up()`, `Foo.other`, `nothing`, [`Foo`](x.ipynb) and ``Foo``.\n\n```python\n# `Foo`\n```\n\n'
         '## About `Foo`'),
    cell('code', '#| export\nimport os'),
    cell('code', '#| export\nclass Foo:\n    "A foo"\n    def size(self): return 1\n\nLIMIT: int = 3'),
    cell('code', '#| export\n@patch\nasync def grow_up(self:Foo): return 1\n\ndef _inner(): pass'),
    cell('code', '#| hide\nsecret()'),
    cell('code', '#| echo: false\nquiet()', outputs=shown(**{'text/plain': ["'a```b'"]})),
    cell('code', '#| output: false\nloud()', outputs=shown(**{'text/plain': 'noise'})),
    cell('code', 'both()', outputs=[
        dict(output_type='stream', name='stdout', text='\x1b[31mred\x1b[0m\n'),
        dict(output_type='display_data', data={'image/png': 'AAAA', 'text/plain': '<Figure>'})]),
    cell('code', 'md()', outputs=shown(**{'text/markdown': '**bold**', 'text/plain': '<Markdown>'})),
])

def render(page: docs.Page = PAGE, site: bool = True) -> tuple[str, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    return docs.page_md(page, docs.Names([page]), files, site), files

def test_names_in_backticks_become_links():
    md, _ = render()
    assert '[`Foo`](/core/adapters.html#foo), [`Foo.size`](/core/adapters.html#foo.size)' in md
    assert '[`grow_up`](/core/adapters.html#foo.grow_up), [`grow_up()`](/core/adapters.html#foo.grow_up)' in md
    assert '[`Foo.other`](/core/adapters.html#foo)' in md     # a field of a class is explained with the class
    for same in ('`nothing`,', '[`Foo`](x.ipynb)', '``Foo``', '# `Foo`\n', '## About `Foo`'): assert same in md

def test_each_exported_name_has_an_anchor():
    md, _ = render()
    for name in ('Foo', 'LIMIT', 'Foo.grow_up'): assert re.search(rf'### `{name}` .*{{ #{name.lower()} ', md)
    for name in ('foo.size', '_inner'): assert f'<span id="{name}"></span>' in md

def test_cells_show_what_their_directives_say():
    md, files = render()
    assert 'The introduction stays.' in md and '> Wrap it.' in md
    for hidden in ('secret()', 'quiet()', 'noise', '<Figure>', '<Markdown>', 'import os', '#|', '\x1b', 'default_exp'):
        assert hidden not in md
    for visible in ("````{.text .output}\n'a```b'\n````", 'loud()', '{.text .output}\nred\n', '\n**bold**\n'):
        assert visible in md
    assert list(files) == ['adapters_files/out8-1.png'] and '](adapters_files/out8-1.png)' in md

def test_links_to_lessons_and_files(monkeypatch, tmp_path):
    monkeypatch.setattr(docs, 'ROOT', tmp_path)
    for name in ('nbs/core/adapters.ipynb', 'nbs/index.ipynb', 'nbs/core/a b.png', 'LICENSE'):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).touch()
    def relink(md): return docs.relink(md, PAGE, lambda p, anchor: f'P:{p}{anchor}', lambda f: f'F:{f}')
    assert relink('[a](/core/adapters.html#foo) [b](../index.ipynb)') == '[a](P:core/adapters#foo) [b](P:index)'
    assert relink('![a](a%20b.png) <img src="a%20b.png">') == '![a](F:nbs/core/a b.png) <img src="F:nbs/core/a b.png">'
    assert relink('[l](../../LICENSE)') == '[l](F:LICENSE)'
    for same in ('[a](#x)', '[a](https://example.com/x)', '```\n[a](nowhere.md)\n```'): assert relink(same) == same
    for broken in ('[a](worker.ipynb)', '[a](/core/worker.html)', '![a](b.png)'):
        with pytest.raises(docs.BrokenLink, match='nbs/core/adapters.ipynb'): relink(broken)

def test_each_lesson_says_what_it_is():
    "A title, one quoted line, then why: what the site and the module's docstring begin with"
    for page in docs.read_pages():
        first = next(c['source'] for c in page.cells if c['cell_type'] == 'markdown')
        assert re.match(r'# [^#\s].*\n\n> \S.*(\n|$)', first), page.name
        assert page.cells[-1]['source'].strip(), f'{page.name} ends with an empty cell'

# ---- The whole site

def test_the_link_checker_finds(tmp_path):
    (tmp_path/'a.html').write_text('<h1 id="x">A</h1><a href="b.html#y">b</a><a href="#x">x</a><img src="p.png">'
                                   '<a href="https://example.com">out there</a>')
    (tmp_path/'b.html').write_text('<p id="y"></p><a href="gone.html"></a><a href="a.html#z"></a>'
                                   '<script src="https://example.com/x.js"></script>'
                                   '<link rel="stylesheet" href="//example.com/x.css">')
    (tmp_path/'c.css').write_text('a { background: url(https://example.com/i.png) }')
    assert bad_links(tmp_path) == [
        'a.html: p.png leads nowhere', 'b.html: gone.html leads nowhere', 'b.html: a.html#z has no such anchor',
        'b.html: loads https://example.com/x.js from elsewhere', 'b.html: loads //example.com/x.css from elsewhere',
        'c.css: loads https://example.com/i.png from elsewhere']

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The site, built from a copy of the tree"
    tmp = tmp_path_factory.mktemp('docs')
    assert run(copy_tree(tmp/'tree'), 'tools.docs', 'site', str(tmp/'site'))
    return tmp/'site'

@needs_npm
def test_each_notebook_is_a_page_with_its_code_and_outputs(site):
    for page in docs.read_pages():
        html = (site/f'{page.name}.html').read_text()
        outputs = [c for c in page.cells if c.get('outputs') and
                   not {'hide', 'output', 'include'} & docs.directives(c['source']).keys()]
        assert html.count('output highlight') + html.count('class="output"') + html.count('_files/out') >= len(outputs)
        for c in filter(docs.is_exported, page.cells):
            for s in docs.defined(c['source'], page.name): assert f'id="{s.anchor}"' in html, (page.name, s.name)
    assert not bad_links(site)

@needs_npm
def test_source_links_hit_the_line(site):
    "Each source link leads to the line where the name is defined"
    seen = 0
    for page in docs.read_pages():
        html = (site/f'{page.name}.html').read_text()
        if not page.module: continue
        module = (ROOT/docs.PACKAGE/f'{page.module.replace(".", "/")}.py').read_text().splitlines()
        link = r'<code>([\w.]+)</code> <a class="source" href="[^"#]+#__codelineno-0-(\d+)"'
        for name, line in re.findall(link, html):
            near = '\n'.join(module[int(line)-1:int(line)+3])
            assert re.search(rf'\b{name.split(".")[-1]}\b', near), (page.name, name)
            seen += 1
    assert seen > 20

@needs_npm
def test_search_knows_every_name_and_no_source_page(site):
    index = json.loads((site/'search'/'search_index.json').read_text())
    places = {d['location'] for d in index['docs']}
    for s in docs.Names(docs.read_pages()).all.values():
        if s.public and s.heading: assert f'{s.page}.html#{s.anchor}' in places
    assert not [p for p in places if p.startswith('source/')]

@pytest.fixture
def address(site):
    "The site, served on this machine"
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=.05))
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    server.server_close()
    thread.join()

SIZES = dict(width=1280, height=900), dict(width=390, height=844)   # a desktop, a phone

@needs_npm
def test_in_a_browser(address, browser):
    "Pictures are drawn, search finds a name, nothing is asked of another host, no page is wider than the screen"
    from playwright.sync_api import expect
    page = browser.new_page()
    asked, complaints = [], []
    page.on('request', lambda r: asked.append(r.url))
    page.on('pageerror', lambda e: complaints.append(str(e)))
    page.on('console', lambda m: complaints.append(m.text) if m.type == 'error' else None)
    # the theme draws into closed shadow roots; open ones can be looked into
    page.add_init_script('const attach = Element.prototype.attachShadow; Element.prototype.attachShadow = '
                         'function (o) { return attach.call(this, {...o, mode: "open"}) }')
    for p in docs.read_pages():
        pictures = sum(c['source'].count('```mermaid') for c in p.cells)
        for size in SIZES:
            page.set_viewport_size(size)
            if pictures or size is SIZES[0]: page.goto(f'{address}{p.name}.html')   # a picture is drawn to its place
            drawn = page.locator('div.mermaid svg:not([aria-roledescription="error"])')
            try: expect(drawn).to_have_count(pictures, timeout=20_000)
            except AssertionError as e: raise AssertionError(f'{p.name}: {pictures} pictures\n{complaints}') from e
            assert page.evaluate('document.documentElement.scrollWidth') <= size['width'], (p.name, size)
    for size in SIZES:
        page.set_viewport_size(size)
        page.goto(f'{address}core/protocol.html')
        if size['width'] < 1000: page.locator('label[for="__search"].md-icon').first.click()
        page.locator('input.md-search__input').click()
        page.keyboard.type('WorkerConfig')
        page.locator('.md-search-result__link', has_text='WorkerConfig').first.wait_for(timeout=20_000)
        hrefs = page.locator('.md-search-result__link').evaluate_all('links => links.map(a => a.href)')
        assert any('core/config.html' in h and '#workerconfig' in h for h in hrefs), (size, hrefs)
    assert asked and all(u.startswith((address, 'data:', 'blob:')) for u in asked), asked
    assert not complaints
