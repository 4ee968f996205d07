"The finished site: every link leads somewhere, and nothing is fetched from elsewhere."
import html
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    "The anchors of a page, and what it links to or loads"
    def __init__(self, page: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {k: v or '' for k, v in attrs}
        self.ids |= {a[k] for k in ('id', 'name') if k in a}
        if tag == 'a' and 'href' in a: self.links.append(a['href'])
        if tag == 'link' and a.get('rel') not in ('canonical', 'prev', 'next'): self.loads.append(a['href'])
        if tag not in ('a', 'link'):
            self.loads += [a[k] for k in ('src', 'poster', 'data') if k in a and not a[k].startswith('data:')]
            if 'srcset' in a: self.loads += [s.split()[0] for s in a['srcset'].split(',')]

def bad_links(folder: Path) -> list[str]:
    "Links that lead nowhere, and anything that would be fetched from elsewhere"
    pages = {p: Links(p) for p in sorted(folder.rglob('*.html'))}
    found = []
    for page, has in pages.items():
        if page.name == '404.html': continue   # served at any address, so its links start at the root
        for url in has.links + has.loads:
            u = urlsplit(html.unescape(url))
            if u.scheme or u.netloc:
                if url in has.loads: found.append(f'{page.relative_to(folder)}: loads {url} from elsewhere')
                continue
            target = Path(os.path.normpath(page.parent/unquote(u.path))) if u.path else page
            if target.is_dir(): target /= 'index.html'
            if not target.is_file(): found.append(f'{page.relative_to(folder)}: {url} leads nowhere')
            elif u.fragment not in ('', '__top') and target in pages and unquote(u.fragment) not in pages[target].ids:
                found.append(f'{page.relative_to(folder)}: {url} has no such anchor')
    for css in folder.rglob('*.css'):
        found += [f'{css.relative_to(folder)}: loads {u} from elsewhere'
                  for u in re.findall(r'url\(["\']?((?:https?:)?//[^)"\']+)', css.read_text(encoding='utf-8'))]
    return found
