"""Uploaded documents: checked, turned into plain page images, and kept in a folder, which by default goes when the
server stops."""
import io
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

from PIL import Image, ImageOps, ImageSequence

logger = logging.getLogger(__name__)

FORMATS = ('PNG', 'JPEG', 'TIFF', 'WEBP', 'BMP', 'GIF')
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000  # of one page; a phone camera makes 12 to 50 million
MAX_PAGES = 10
LEAST_SIDE = 32
TOO_LARGE = f'This file is too large; the limit is {MAX_BYTES >> 20} MB.'
TOO_MANY_PIXELS = f'This image has too many pixels; the limit is {MAX_PIXELS // 1_000_000} million on a page.'
PAGE_SIDE = 2000  # Longest side of a page as kept and read
SAMPLES = {'invoice.png': 'An invoice', 'letter.jpg': 'A tilted letter', 'minutes.tiff': 'Minutes, two pages'}
SAMPLE_FOLDER = Path(__file__).parent/'samples'


class Refused(Exception):
    "An upload that is not taken; the message is for the visitor."


@dataclass
class Document:
    "One document of one visitor."
    id: str
    owner: str
    title: str
    folder: Path
    sizes: list[tuple[int, int]]  # Width and height of each page in pixels
    is_new: bool = True  # It has no job yet

    def page_path(self, page: int) -> Path:
        "Where the image of `page` (from 1) lies."
        return self.folder/f'{page}.jpg'

    @property
    def paths(self) -> list[str]:
        "The images of all pages."
        return [str(self.page_path(page)) for page in range(1, len(self.sizes)+1)]


class Library:
    "The documents of all visitors, bounded in number."

    def __init__(self, max_each: int = 8, max_all: int = 40, folder: Path | None = None) -> None:
        "Keep at most `max_each` documents for a visitor and `max_all` in total; in `folder` also for the next server."
        self.max_each, self.max_all, self.is_lasting = max_each, max_all, folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix='scanned-documents-'))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.documents: dict[str, Document] = {}
        self.load()

    def load(self) -> None:
        "What the last server left; what is not whole is dropped."
        found = sorted(self.folder.glob('*/document.json'), key=lambda path: path.stat().st_mtime_ns)
        for path in found:
            try: document = kept_document(path)
            except (ValueError, KeyError, TypeError, OSError) as error: logger.warning('%s is dropped: %r', path, error)
            else: self.documents[document.id] = document
        whole = {document.folder for document in self.documents.values()}
        for folder in {*self.folder.iterdir()} - whole: rmtree(folder, ignore_errors=True)

    def save(self, document: Document) -> None:
        "Let the next server find `document`, whole or not at all."
        kept = {name: getattr(document, name) for name in ('id', 'owner', 'title', 'sizes')}
        draft = document.folder/'document.json.draft'
        draft.write_text(json.dumps(kept))
        draft.replace(document.folder/'document.json')

    def unpack(self, owner: str, name: str, data: bytes) -> Document:
        "Check an upload and store its pages (slow: call it in a thread); it is not in the library before `keep`."
        document = Document(uuid4().hex, owner, clean_title(name), self.folder/uuid4().hex, [])
        document.folder.mkdir()
        try:
            for number, page in enumerate(read_pages(data), 1):
                page.save(document.page_path(number), quality=88)
                document.sizes.append(page.size)
            self.save(document)
        except BaseException:
            rmtree(document.folder, ignore_errors=True)
            raise
        return document

    def keep(self, document: Document, is_busy: Callable[[Document], bool]) -> None:
        "Take `document` in, letting the oldest go that are not `is_busy`; `Refused` when there is no room."
        mine = [d for d in self.documents.values() if d.owner == document.owner]
        crowd = mine if len(mine) >= self.max_each else list(self.documents.values())
        if len(mine) >= self.max_each or len(crowd) >= self.max_all:
            oldest = next((d for d in crowd if not is_busy(d)), None)
            if oldest is None:
                rmtree(document.folder, ignore_errors=True)
                raise Refused('Many documents are waiting already. Let some of them finish, or cancel one.')
            self.drop(oldest)
        self.documents[document.id] = document

    def drop(self, document: Document) -> None:
        "Forget `document`."
        self.documents.pop(document.id, None)
        rmtree(document.folder, ignore_errors=True)

    def get(self, id: str, owner: str) -> Document | None:
        "The document `id` if it belongs to `owner`."
        document = self.documents.get(id)
        return document if document and document.owner == owner else None

    def of(self, owner: str) -> list[Document]:
        "The documents of `owner`, newest first."
        return [d for d in reversed(self.documents.values()) if d.owner == owner]

    def close(self) -> None:
        "Remove every stored page, unless the next server is to have them."
        self.documents.clear()
        if self.is_lasting: return
        rmtree(self.folder, ignore_errors=True)


def kept_document(path: Path) -> Document:
    "What `Library.save` wrote to `path`."
    kept = json.loads(path.read_text())
    id, owner, title = (str(kept[name]) for name in ('id', 'owner', 'title'))
    document = Document(id, owner, title, path.parent, [(width, height) for width, height in kept['sizes']], False)
    if not all(Path(page).is_file() for page in document.paths): raise ValueError('a page is missing')
    return document


def clean_title(name: str) -> str:
    "A file name fit to be shown: no folders, nothing invisible, not too long."
    name = ''.join(c for c in name.replace('\\', '/').split('/')[-1] if c.isprintable()).strip()
    return (name if len(name) <= 60 else f'{name[:40]}…{name[-16:]}') or 'Untitled'


def read_pages(data: bytes) -> list[Image.Image]:
    "The pages in an uploaded file as plain RGB images, or `Refused`."
    if not data: raise Refused('This file is empty.')
    if len(data) > MAX_BYTES: raise Refused(TOO_LARGE)
    try: image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError: raise Refused(TOO_MANY_PIXELS) from None
    except Exception as error:  # whatever a parser says about bytes from a stranger, they are no image for us
        logger.info('No image: %r', error)
        raise Refused('This file is not an image we can read. PNG, JPEG, TIFF, WebP, BMP and GIF work.') from None
    try:
        with image: return [plain_page(frame) for frame in frames(image)]
    except Refused: raise
    except Image.DecompressionBombError: raise Refused(TOO_MANY_PIXELS) from None
    except Exception as error:  # as above
        logger.info('Broken image: %r', error)
        raise Refused('This image is damaged or incomplete. Try to export or scan it again.') from None


def frames(image: Image.Image) -> list[Image.Image] | ImageSequence.Iterator:
    "The pages of a TIFF; of everything else the first picture."
    if image.format != 'TIFF': return [image]
    if getattr(image, 'n_frames', 1) > MAX_PAGES: raise Refused(f'This document has more than {MAX_PAGES} pages.')
    return ImageSequence.Iterator(image)


def plain_page(image: Image.Image) -> Image.Image:
    "One page upright, on white, in RGB, no larger than `PAGE_SIDE`. Its size is judged before its pixels are unpacked."
    width, height = image.size
    if width * height > MAX_PIXELS: raise Refused(TOO_MANY_PIXELS)
    if min(width, height) < LEAST_SIDE or max(width, height) > 20 * min(width, height):
        raise Refused('This image is too small or too narrow to hold a page of text.')
    image.draft('RGB', (PAGE_SIDE, PAGE_SIDE))
    page = ImageOps.exif_transpose(image)
    if page.mode.startswith('I;16'): page = page.point(lambda v: v / 256).convert('L')
    if page.mode == 'P' or 'A' in page.getbands():
        page = page.convert('RGBA')
        page = Image.alpha_composite(Image.new('RGBA', page.size, 'white'), page)
    page = page.convert('RGB')
    page.thumbnail((PAGE_SIDE, PAGE_SIDE))
    return page

