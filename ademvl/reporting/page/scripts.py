"""Data for the page's script, in files that a browser loads without a server.

A page that is opened from the file system may not fetch files, but may load scripts: each data file
is one call that hands its content over. Its text is plain ASCII without any `<`, so that nothing in
the data can act as markup or code, whatever reads the file.
"""

import json
import unicodedata
from pathlib import Path

from ademvl.storage.files import write_text

_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")
_LAYOUT = ("\n", "\t")


def write_data_script(path: Path, name: str, content: object) -> None:
    """Write `content` to a file that calls `ademvlReceive(name, content)`.

    Args:
        name: under which the page's script waits for it.
        content: JSON values only.
    """
    text = json.dumps(content, separators=(",", ":"))
    call = f"ademvlReceive({json.dumps(name)},JSON.parse({json.dumps(text)}));\n"
    write_text(path, call.replace("<", "\\u003c"))


def visible_text(text: str) -> str:
    """Show what cannot be seen: control, bidi and other format characters become `⟨U+202E⟩`.

    Line breaks and tabs stay. So a text can neither hide nor reorder anything on the page, and a
    reader sees what a model really produced.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if unicodedata.category(character) in _HIDDEN and character not in _LAYOUT
        else character
        for character in text
    )
