"""Takes the picture of a study's page that stands in README.md.

    python benchmarks/page_picture.py results/mini/report/index.html docs/page.png

Chromium opens the page from the file system, 1280 x 965 pixels of its beginning are kept, in 128
colours. Needs the extra `dev`.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from ademvl.storage.files import write_bytes

WIDTH, HEIGHT, COLORS = 1280, 965, 128


def main() -> None:
    """Write the picture as PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(options.page.resolve().as_uri())
        taken = page.screenshot()
        browser.close()
    content = io.BytesIO()
    with Image.open(io.BytesIO(taken)) as image:
        image.convert("RGB").quantize(COLORS).save(content, format="PNG", optimize=True)
    write_bytes(options.picture, content.getvalue())


if __name__ == "__main__":
    main()
