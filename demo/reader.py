"""The plugin: recognises the text of page images. It runs in the worker and knows nothing of the web."""
import json
import math
import os
import time
from collections.abc import Generator
from statistics import median
from typing import Any

from cjm_fasthtml_workers.core.context import report_progress

Box = list[list[float]]  # Four corners, each x and y: top left, top right, bottom right, bottom left
LEAST_CONFIDENCE = 0.5  # below this a line is shown as a box without text


class PageReader:
    "Reads page images line by line with RapidOCR, whose models come inside its wheel."

    def __init__(self, config: dict[str, Any]) -> None:
        "Load the models; `config` may hold `threads`."
        os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # onnxruntime reads it when it is imported
        from rapidocr import RapidOCR  # takes a second, so only where it is used
        threads = config.get('threads') or min(4, os.cpu_count() or 1)
        self.engine: Any = RapidOCR(params={'EngineConfig.onnxruntime.intra_op_num_threads': threads,
                                            'Global.log_level': 'error'})
        self._warm_up()

    def _warm_up(self) -> None:
        "Recognise an empty picture: RapidOCR loads each model when it is first asked."
        import numpy as np
        blank = np.full((64, 320, 3), 255, np.uint8)
        self.find_boxes(blank)
        self.read_box(blank, [[0, 0], [320, 0], [320, 64], [0, 64]])

    def find_boxes(self, image: Any) -> list[Box]:
        "The four corners of each piece of text in `image`, in pixels, in no particular order."
        found = self.engine(image, use_det=True, use_cls=False, use_rec=False)
        return [] if getattr(found, 'boxes', None) is None else found.boxes.tolist()

    def read_box(self, image: Any, box: Box) -> tuple[str, float]:
        "The text inside `box` and how sure the model is of it, 0 to 1."
        import numpy as np
        from rapidocr.utils.process_img import get_rotate_crop_image
        strip = get_rotate_crop_image(image, np.array(box, np.float32))
        read = self.engine(strip, use_det=False, use_cls=False, use_rec=True)
        text, confidence = (read.txts[0], float(read.scores[0])) if getattr(read, 'txts', None) else ('', 0.)
        return (text.strip() if confidence >= LEAST_CONFIDENCE else ''), confidence

    def execute_stream(
        self,
        pages: list[str],  # Paths of the page images
        line_pause: float = 0,  # Seconds to rest after each line, so that a demonstration can be followed
    ) -> Generator[str, None, dict[str, Any]]:  # A line of JSON for each page found and line read; returns the text
        "Read `pages` line by line."
        texts = []
        for page, path in enumerate(pages, 1):
            report_progress((page-1) / len(pages), f'Looking for text on page {page} of {len(pages)}')
            image = load_image(path)
            height, width = image.shape[:2]
            rows = reading_order(self.find_boxes(image))
            boxes = [(row, box) for row, boxes in enumerate(rows, 1) for box in boxes]
            place = {'page': page, 'pages': len(pages), 'width': width, 'height': height, 'lines': len(boxes)}
            found = [relative(box, width, height) for _, box in boxes]
            yield json.dumps(place | {'kind': 'page', 'boxes': found}) + '\n'
            paragraphs = paragraph_starts(rows)
            read: list[list[str]] = [[] for _ in rows]
            for line, (row, box) in enumerate(boxes, 1):
                text, confidence = self.read_box(image, box)
                if text: read[row-1].append(text)
                yield json.dumps(place | {
                    'kind': 'line', 'line': line, 'row': row, 'paragraph': row in paragraphs,
                    'box': relative(box, width, height), 'text': text, 'confidence': round(confidence, 3)}) + '\n'
                report_progress((page-1 + line/len(boxes)) / len(pages),
                                f'line {line} of {len(boxes)} · page {page} of {len(pages)}')
                if line_pause: time.sleep(line_pause)
            texts.append('\n'.join('  '.join(row) for row in read if row))
        return {'pages': texts}

    def execute(self, **params: Any) -> dict[str, Any]:
        "Read everything and return only the whole text."
        reading = self.execute_stream(**params)
        while True:
            try: next(reading)
            except StopIteration as end: return end.value

    def unload(self) -> None:
        "Let go of the models."
        self.engine = None


def load_image(path: str) -> Any:
    "The image at `path` as the array that the models expect."
    import cv2
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None: raise ValueError('The page image cannot be read')
    return image


def relative(box: Box, width: int, height: int) -> Box:
    "The corners of `box` as fractions of the page."
    return [[round(x/width, 5), round(y/height, 5)] for x, y in box]


def reading_order(boxes: list[Box]) -> list[list[Box]]:
    "Group `boxes` into rows from top to bottom, each from left to right, on a page that may lie at an angle."
    if not boxes: return []
    longest = max(boxes, key=lambda b: math.dist(b[0], b[1]))
    tilt = math.atan2(longest[1][1] - longest[0][1], longest[1][0] - longest[0][0])
    def upright(box: Box) -> tuple[float, float]:
        x, y = (sum(corner[axis] for corner in box) / 4 for axis in (0, 1))
        return y*math.cos(tilt) - x*math.sin(tilt), x*math.cos(tilt) + y*math.sin(tilt)
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=upright):
        height = math.dist(box[0], box[3])
        if rows and abs(upright(box)[0] - upright(rows[-1][-1])[0]) < height/2: rows[-1].append(box)
        else: rows.append([box])
    return [sorted(row, key=lambda b: upright(b)[1]) for row in rows]


def paragraph_starts(rows: list[list[Box]]) -> set[int]:
    "The numbers (from 1) of the rows that stand clearly further from the row above than is usual on this page."
    tops = [row[0][0][1] for row in rows]
    steps = [below - above for above, below in zip(tops, tops[1:])]
    return {row for row, step in enumerate(steps, 2) if step > 1.35 * median(steps)}
