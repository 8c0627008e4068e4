"""Screenshots: one of every test, for inspection; and the small ones of README and docs."""

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

VARIABLE = "SCREENSHOTS"
COLOURS = 128
ROOT = Path(__file__).parents[2]
# Stack traces name the folder of whoever takes the pictures.
_WITHOUT = """folder => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, "");
}"""


class Pictures:
    """Takes screenshots into *folder*, or into the one that the variable SCREENSHOTS names (`make screenshots`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.environ.get(VARIABLE) or folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def take(self, page: Page, name: str) -> Path:
        """Save what *page* shows, with few enough colours to be small."""
        page.mouse.move(0, 0)
        page.evaluate(_WITHOUT, f"{ROOT}/")
        shown = Image.open(BytesIO(page.screenshot(animations="disabled", caret="hide"))).convert("RGB")
        path = self.folder / f"{name}.png"
        shown.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        return path
