"""What of a generated text is the answer: without reasoning, special tokens, marks and run-on.

Reasoning stands between tags, of which one may be missing; marks are those of Markdown, HTML and
LaTeX; a further question is one that the model went on to ask itself.
"""

import re
import unicodedata

_THINKING = (
    r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|rationale|analysis|reflection|"
    r"scratchpad|cot)"
)
_REASONING_TAG = re.compile(
    rf"<(?P<close>/)?{_THINKING}>|\[(?P<square>/)?THINK\]|◁(?P<kimi>/)?think▷"
    r"|<\|(?:begin|(?P<end>end))_of_thought\|>|(?P<final><\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>|[\u200b\ufeff]"
)
_MARKUP = re.compile(
    r"\*+|`+|__+|\$|^[ \t]*(?:#+|[>•+-])[ \t]+|\\(?:[()\[\]]|left|right)"
    r"|</?(?:b|i|p|em|br|span|strong)[ ]?/?>",
    re.MULTILINE | re.IGNORECASE,
)
_LATEX_TEXT = re.compile(r"\\(?:text(?:bf|rm|it|tt)?|math(?:bf|rm|it|sf)?)\{([^{}]*)\}")
_NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q|Context|Human|User)(?: ?\d+)?\s*:")


def without_reasoning(text: str) -> str:
    """Return `text` without what stands in reasoning tags.

    A tag that is never closed takes the rest with it; all before a tag that was never opened is
    reasoning as well, because chat templates open it in the prompt.
    """
    kept, start, inside = "", 0, False
    for tag in _REASONING_TAG.finditer(text):
        if not inside:
            kept += text[start : tag.start()]
        is_end = any(tag.group("close", "square", "kimi", "end", "final"))
        if is_end and not inside:
            kept = ""
        inside, start = not is_end, tag.end()
    return kept if inside else kept + text[start:]


def plain(text: str) -> str:
    """Return `text` without special tokens, marks of Markdown and LaTeX and further questions."""
    text = _SPECIAL_TOKEN.sub(" ", unicodedata.normalize("NFKC", text))
    text = _MARKUP.sub("", _LATEX_TEXT.sub(r"\1", text)).strip()
    return _NEXT_QUESTION.split(text, maxsplit=1)[0].strip()


def spelled(text: str) -> str:
    """Return words as they are compared: single blanks, no quotes or full stops at the ends."""
    return " ".join(text.split()).strip("\"'“”‘’").rstrip(".! ").strip("\"'“”‘’")
