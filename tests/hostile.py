"""Strings that want to be more than text.

Each, where it comes alive, leaves an element or attribute that `ALIVE` finds, or calls `evil()`.
"""
from itertools import product

ALIVE = ('.evil, x-evil, [onerror], [onload], [onclick], [onfocus], [hx-get*="evil"], [hx-on], [data-evil], '
         '[src*="evil"]')

_MARKUP = [
    '<script class=evil>evil()</script>', '<img class=evil src=/evil onerror=evil()>', '<svg class=evil onload=evil()>',
    '<x-evil></x-evil>', '<iframe class=evil srcdoc="<script>parent.evil()</script>"></iframe>',
    '<a class=evil href="javascript:evil()">x</a>', '<form class=evil action=/evil><button name=x></form>',
    '<div class=evil hx-get=/evil hx-trigger=load>x</div>', '<div class=evil hx-swap-oob="innerHTML:body">x</div>',
    '<div class=evil hx-on:load="evil()">x</div>', '<div class=evil data-live="table:" data-jobs=/jobs>x</div>',
    '<style class=evil>*{display:none}</style>', '<base class=evil href=//evil/>',
    '<meta class=evil http-equiv=refresh content="0;url=/evil">',
    '<template class=evil shadowrootmode=open><img src=/evil></template>',
    '<math><mtext><table><mglyph><style><img class=evil src=/evil onerror=evil()>',
    '<noscript><p title="</noscript><img class=evil src=/evil onerror=evil()>">',
    '<details class=evil open ontoggle=evil()>', '<input class=evil autofocus onfocus=evil()>',
    '<object class=evil data=/evil></object>']
_BEFORE = ['', '"', "'", '">', "'>", '</pre>', '</title></script></style></textarea>', '-->', '`', '\\"', ']]>', '\n',
           '&quot;>']
_AFTER = ['', '<!--', '"\'']
_OTHER = [
    '" onload="evil()', "' onerror='evil()", '" hx-get="/evil" hx-trigger="load', "' hx-get='/evil", '" data-evil="',
    '\' data-evil=\'', '" autofocus onfocus="evil()" x="', 'x" class="evil', '&#60;x-evil&#62;',
    '&lt;img class=evil src=x onerror=evil()&gt;', '\x00<x-evil>', '<\x00x-evil>', '\ud800<x-evil>', '\u2028<x-evil>',
    '\r\n<x-evil>', 'data: x\n\nevent: ops\ndata: {"ops":[]}', '\n\nevent: end\n\n',
    '{"ops":[["html","jobs-table","<x-evil>"]]}', '${evil()}', '{{evil()}}', '<%= evil() %>', 'javascript:evil()',
    '../../../../evil', '%3Cx-evil%3E', '%00', '?x=<x-evil>#<x-evil>', 'a/b/../<x-evil>', '\u202e<x-evil>',
    '\uff1cx-evil\uff1e', '<X-EVIL/>', '<x-evil\n>', '<x-evil/x', '<<x-evil>>', '<!doctype html><x-evil>',
    '<?php evil() ?><x-evil>', '<![CDATA[<x-evil>]]>']


def hostile_strings(count: int = 220) -> list[str]:
    "That many, all different."
    made = [b + m + a for a, b, m in product(_AFTER, _BEFORE, _MARKUP)]
    step = max(1, len(made) // (count - len(_OTHER)))
    chosen = [*_OTHER, *made[::step]][:count]
    assert len(set(chosen)) == count
    return chosen
