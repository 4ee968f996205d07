"""Draw the sample pages: `python demo/samples/make_samples.py` (needs Pillow and the DejaVu fonts of the system)."""
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).parent
FONTS = Path('/usr/share/fonts/truetype/dejavu')
WIDTH, HEIGHT = 1240, 1754  # A4 at 150 dots per inch
PAPER, INK, FADED = 255, 25, 95

LETTER = """\
14 March 1987

Dear Margarethe,

The seeds you sent arrived on Tuesday, every packet dry and
labelled in your small square hand. I have put the poppies by
the south wall, where the old pear used to stand, and the
larkspur along the path so that the postman may enjoy it too.

You ask about the lighthouse. It was sold in the autumn to a
man who repairs clocks. He keeps the lamp in order but lights
it only on Sundays, and the gulls have forgiven him already.

My eyes are no better, so I dictate this to Jonas, who spells
well but thinks I use too many commas. He is saving for a
bicycle; I pay him four pence a page, and I suspect that he
writes large on purpose.

Come in June if the trains allow it. The guest room has a new
stove, and from the window you can count eleven islands on a
clear day, or none at all, which I like just as much.

With love from the whole draughty house,

Your cousin Adelheid

P.S. The cat answers to Admiral now. We could not stop her."""

MINUTES = ["""\
Present: R. Okafor (chair), L. Brandt, M. Ferreira, S. Lind,
T. Nakamura (minutes). Apologies: P. Dubois.

1. Minutes of the last meeting
The minutes of 9 September were read and approved.

2. The leaking roof
M. Ferreira reported that the reading room has three buckets
now, one more than in September. Two firms have looked at the
slates. The lower offer is 4,180 and includes the gutter.
Decided: accept the lower offer, work to begin on 2 November.

3. Evening opening
A trial on Thursdays brought 212 visitors in six weeks, most
of them after work. S. Lind would like a second evening; the
volunteers would like one evening and better coffee.
Decided: keep Thursdays until spring, and buy a new kettle.""", """\
4. The card catalogue
L. Brandt has scanned 38 of 120 drawers. At this pace the
work ends in August. The children's group has offered to help
with drawers M to P. The chair thanked them warmly.
Decided: lend the group the second scanner on Saturdays.

5. Lost and found
Eleven umbrellas, one trumpet, and a set of false teeth have
waited for more than a year. The teeth have been claimed.
Decided: umbrellas to the school, trumpet to the band.

6. Any other business
T. Nakamura asked who feeds the fish. Nobody knew. It was
agreed that the fish look well and that someone clearly does.

Next meeting: 11 November at 19:00, upstairs.
The meeting closed at 20:45."""]

ITEMS = [('Rebinding, quarter leather', 3, 84.00), ('New endpapers, marbled', 3, 18.50),
         ('Gilding of spine titles', 2, 32.00), ('Repair of torn leaves', 14, 4.25),
         ('Slipcase, grey linen', 1, 46.00), ('Collection and return', 1, 12.00)]
FACTS = [('Date', '21 October 2024'), ('Due', '20 November 2024'), ('Customer', 'RRS-118')]


def font(size: int, name: str = 'DejaVuSerif') -> ImageFont.FreeTypeFont:
    "A font of the system in `size` pixels."
    return ImageFont.truetype(str(FONTS/f'{name}.ttf'), size)


def blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    "An empty page and its pen."
    page = Image.new('L', (WIDTH, HEIGHT), PAPER)
    return page, ImageDraw.Draw(page)


def write_lines(pen: ImageDraw.ImageDraw, text: str, top: int, left: int = 130, size: int = 27, step: int = 46) -> int:
    "Write `text` line by line and return where the next line would stand."
    for line in text.split('\n'):
        bold = line[:1].isdigit() and line[1:2] == '.'
        pen.text((left, top), line, INK, font(size, 'DejaVuSerif-Bold' if bold else 'DejaVuSerif'))
        top += step if line else step * 2 // 3
    return top


def invoice() -> Image.Image:
    "An invoice with a table."
    page, pen = blank()
    pen.text((110, 110), 'Halvorsen & Daughters', INK, font(46, 'DejaVuSerif-Bold'))
    pen.text((110, 172), 'Bookbinders since 1924', FADED, font(26, 'DejaVuSerif'))
    pen.text((1130, 118), 'INVOICE', INK, font(38, 'DejaVuSans'), anchor='ra')
    pen.text((1130, 174), 'No. 2024-0317', FADED, font(26, 'DejaVuSans'), anchor='ra')
    pen.line((110, 240, 1130, 240), INK, 3)
    write_lines(pen, 'Billed to\nThe Reading Room Society\n7 Harbour Lane\nOld Town', 280, 110, 26, 42)
    for row, (name, value) in enumerate(FACTS):
        pen.text((700, 322 + 42*row), name, FADED, font(26, 'DejaVuSans'))
        pen.text((1130, 322 + 42*row), value, INK, font(26, 'DejaVuSans'), anchor='ra')
    columns, top = (110, 760, 960, 1130), 560
    pen.rectangle((90, top-14, 1150, top+44), 232)
    for x, head in zip(columns, ('Description', 'Qty', 'Price', 'Amount')):
        pen.text((x, top), head, INK, font(25, 'DejaVuSans-Bold'), anchor='la' if x == 110 else 'ra')
    for item, count, price in ITEMS:
        top += 72
        for x, cell in zip(columns, (item, str(count), f'{price:.2f}', f'{count*price:.2f}')):
            pen.text((x, top), cell, INK, font(26, 'DejaVuSans'), anchor='la' if x == 110 else 'ra')
        pen.line((90, top+50, 1150, top+50), 205, 1)
    net = sum(count * price for _, count, price in ITEMS)
    for row, (name, sum_) in enumerate([('Subtotal', net), ('Tax 12 %', net * .12), ('Total due', net * 1.12)]):
        face = font(28, 'DejaVuSans-Bold' if row == 2 else 'DejaVuSans')
        pen.text((960, top + 110 + 54*row), name, INK, face, anchor='ra')
        pen.text((1130, top + 110 + 54*row), f'{sum_:.2f}', INK, face, anchor='ra')
    write_lines(pen, 'Please pay within thirty days. The books are ready for\ncollection; '
                'handle the gilded spines with dry hands.', 1420, 110, 26, 42)
    pen.text((620, 1640), 'Thank you for keeping old books in use.', FADED, font(24, 'DejaVuSerif'), anchor='ma')
    return page


def letter() -> Image.Image:
    "A typed letter as a flatbed scanner sees it: tilted, speckled, unevenly lit."
    page, pen = blank()
    for row, line in enumerate(LETTER.split('\n')):
        pen.text((150, 190 + 46*row), line, 50, font(27, 'DejaVuSansMono'))
    page = page.rotate(1.4, Image.Resampling.BICUBIC, fillcolor=PAPER).filter(ImageFilter.GaussianBlur(.7))
    light = Image.linear_gradient('L').resize(page.size).point(lambda v: 216 + v // 8)
    page = Image.composite(page, Image.new('L', page.size, 60), light)
    dice = random.Random(7)
    pen = ImageDraw.Draw(page)
    for _ in range(900):
        x, y = dice.randrange(WIDTH), dice.randrange(HEIGHT)
        pen.point((x, y), dice.randrange(60, 160))
    tint = Image.merge('RGB', [page.point(lambda v, k=k: int(v * k)) for k in (1, .985, .93)])
    return tint


def minutes() -> list[Image.Image]:
    "Two pages as an office scanner saves them: black and white."
    pages = []
    for number, text in enumerate(MINUTES, 1):
        page, pen = blank()
        pen.text((130, 110), 'Reading Room Society', FADED, font(24, 'DejaVuSans'))
        pen.text((1110, 110), f'Page {number} of {len(MINUTES)}', FADED, font(24, 'DejaVuSans'), anchor='ra')
        top = 230
        if number == 1:
            pen.text((130, 200), 'Minutes of the Committee', INK, font(42, 'DejaVuSerif-Bold'))
            pen.text((130, 266), 'Held on 14 October at 19:00 in the upstairs room', INK, font(26, 'DejaVuSerif'))
            top = 370
        write_lines(pen, text, top, size=28, step=54)
        pages.append(page.convert('1', dither=Image.Dither.NONE))
    return pages


if __name__ == '__main__':
    invoice().quantize(8).save(HERE/'invoice.png', optimize=True)
    letter().save(HERE/'letter.jpg', quality=60, optimize=True)
    first, *rest = minutes()
    first.save(HERE/'minutes.tiff', save_all=True, append_images=rest, compression='group4', dpi=(150, 150))
    previews = HERE.parent/'static'/'samples'
    previews.mkdir(parents=True, exist_ok=True)
    for name, page in ('invoice', invoice()), ('letter', letter()), ('minutes', first):
        page.convert('RGB').resize((360, 509), Image.Resampling.LANCZOS).save(previews/f'{name}.webp', quality=60)
