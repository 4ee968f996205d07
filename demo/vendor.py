"""Fetch htmx from npm, so that the demo needs no CDN: `python -m demo.vendor`.

It is by Big Sky Software under the Zero-Clause BSD licence, whose text is kept beside it. Without these files
(no npm, no network) the pages point to the CDN that FastHTML uses by default.
"""
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent/'static'/'vendor'
PACKAGES = {  # what to take out of each package, and what to call it
    'htmx.org@2.0.7': {'package/dist/htmx.min.js': 'htmx.min.js', 'package/LICENSE': 'htmx.LICENSE'},
}


def fetch() -> None:
    "Put the files into `FOLDER`."
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package, files in PACKAGES.items():
            command = ['npm', 'pack', '--silent', package]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120)
            archive = next(Path(folder).glob(package.replace('@', '-') + '.tgz'))
            with tarfile.open(archive) as tar:
                for member, name in files.items():
                    content = tar.extractfile(member)
                    assert content, member
                    (FOLDER/name).write_bytes(content.read())


if __name__ == '__main__': fetch()
