"""A row as bars, drawn by hand: the picture is a few lines of SVG, the same on every machine."""
from html import escape

from benchmarks.measure import Spread
from benchmarks.report import Results, head, metrics, number, spread
from benchmarks.rows.base import Row

THEMES = {   # text, bars of others, our bars, spread
    'light': ('#1f2328', '#c3cad3', '#4051b5', '#57606a'),
    'dark': ('#e2e4e9', '#4a5063', '#8c9eff', '#aab1c0'),
}
LEFT, BAR, RIGHT, LINE, TOP = 200, 300, 100, 24, 34   # pixels


def scale(bars: list[Spread]) -> float:
    "What the longest bar stands for; one that is far longer than all others is cut, or nobody could see those."
    ends = sorted((s.max for s in bars if s.max > 0), reverse=True)
    return min(ends[0], 3 * ends[1]) if len(ends) > 1 else ends[0] if ends else 1.0


def bar(y: int, title: str, s: Spread, longest: float, is_ours: bool, colors: tuple[str, ...]) -> str:
    "One system: its name, a bar to the median, a thin line from the least to the most, the number."
    text, theirs, ours, thin = colors
    color = ours if is_ours else theirs
    def x(value: float) -> float: return round(LEFT + BAR * min(1.0, value / longest), 1)
    label = number(s.median) + (' (cut)' if s.median > longest else '')
    weight = ' font-weight="bold"' if is_ours else ''
    return (f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="{text}"{weight}>{escape(title)}</text>\n'
            f'<rect x="{LEFT}" y="{y + 2}" width="{max(1, x(s.median) - LEFT):g}" height="15" fill="{color}"/>\n'
            f'<path d="M{x(s.min):g} {y + 9.5}H{x(s.max):g}" stroke="{thin}" stroke-width="1.5"/>\n'
            f'<text x="{x(max(s.median, s.max)) + 6:g}" y="{y + 13}" fill="{text}"{weight}>{label}</text>')


def svg(row: Row, results: Results, theme: str) -> str:
    "The first metric of the row; a system without a number is left out."
    colors, name = THEMES[theme], (metrics(results) or [''])[0]
    found = [(e, spread(results.get(e.key, {}).get(name, ()))) for e in row.entries]
    bars = [(e, s) for e, s in found if s]
    longest = scale([s for _, s in bars])
    caption = f'{head(row, name, len(metrics(results)) == 1)}: {"longer" if row.is_rate else "shorter"} is better'
    width, height = LEFT + BAR + RIGHT, TOP + LINE * len(bars)
    parts = [bar(TOP + LINE * i, e.title, s, longest, e.is_ours, colors) for i, (e, s) in enumerate(bars)]
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<title>{escape(row.title)}</title>',
        f'<text x="{LEFT}" y="18" fill="{colors[3]}">{escape(caption)}</text>', *parts, '</svg>\n'])
