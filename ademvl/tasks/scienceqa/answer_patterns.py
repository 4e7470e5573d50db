"""Patterns of how people and models word an answer; `free_text` says what is done with them."""

import re

OPEN, CLOSE = r"[(\[{<\"'“‘]{0,4}", r"[)\]}>\"'”’]{0,4}"
LETTER = rf"{OPEN}(?P<letter>[A-Za-z])(?!-?[A-Za-z0-9]|['’][a-z]){CLOSE}"
LABEL = r"(?:(?:the\s+)?(?:option|choice|letter|answer)\b\s*:?\s*)?"
ONLY_LETTER = re.compile(rf"\s*{LABEL}{LETTER}[.:,;!?]*{CLOSE}\s*", re.IGNORECASE)
AND_WORDS = re.compile(rf"\s*{LABEL}{LETTER}[.:,;–—-]*\s*", re.IGNORECASE)
NEXT_LETTER = re.compile(rf"[\s.,;/]*(?:(?:and|or)\s+)?{LETTER}[.:)]*\s*")
AT_LETTER = re.compile(LETTER)
AFTER = r"because|since|as|due|for|so|but|and|or|not|which|while|given|with|based|rather|instead|in"
ENDS = re.compile(rf"\s*(?:$|[.,;:!?(){{}}\[\]<>\"'”’\n\\/–—-]|(?:{AFTER})\b)", re.IGNORECASE)
BOUNDARY = re.compile(r"(?!\w)")
ARTICLE = re.compile(rf"[ \t]+(?!(?:{AFTER})\b)[a-z]")
WRONG = r"(?:not|never|wrong|incorrect|false|untrue|ruled\s+out|eliminated)"
NEGATED = re.compile(
    r"\W{0,3}\s*(?:(?:is|are|was|were|would|does|do|can|could|must|seems?)(?:n['’]?t\b|not\b"
    rf"|\s+(?:(?:clearly|also|both|all|be|simply|obviously)\s+)*{WRONG}\b)"
    rf"|can['’]t\b|(?!not|never){WRONG}\b)",
    re.IGNORECASE,
)
SURELY = (
    r"(?:(?:most\s+likely|clearly|definitely|probably|likely|indeed|obviously|simply|actually|"
    r"therefore|thus|surely|certainly|still|just)\b,?\s*)*"
)
IS = (
    r"(?:[\"'\]]?\s*(?::=?|\s[–—-]\s|=+>?|-+>|→|⇒)"
    r"|\s+(?:is|was|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be)\b)"
    r"\s*(?::|-)?\s*"
)
NOT_BUT = rf"not\s+{OPEN}[A-Za-z]\b{CLOSE}[^.,;\n]{{0,80}}?,?\s*\b(?:but|rather)\s+"
TO_TARGET = rf"{SURELY}(?:{NOT_BUT})?{LABEL}"
INTRO = re.compile(
    rf"(?:\b(?:answer|ans)\b\.?(?:[ \t][^.\n:;,?!=]{{0,60}}?)??{IS}"
    rf"|\b(?:correct|right|best|final|chosen|my)\s+(?:option|choice|one|letter){IS}"
    r"|\b(?:option|choice|solution|conclusion|prediction|response|assistant|output|correct|final)\s*:\s*"
    r"|^[ \t]*(?:the\s+)?(?:(?:final|correct)\s+)?answer[ \t]*\n+\s*"
    rf"|^[ \t]*A:[ \t]+(?={OPEN}[A-Z]{CLOSE}\.?[ \t]*$)"
    r"|\\boxed\s*\{\s*|<(?:answer|final(?:_answer)?)>\s*"
    r"|(?:答案|故选|应选|选择|选)(?:应该)?[是为选]?\s*:?\s*"
    r"|(?:^|\b(?:I|we)(?:['’](?:ll|d|m)|\s+(?:will|would|can|should|must|have\s+to|am))?\s+)"
    r"(?:choose|select|pick|say|answer|go(?:ing)?\s+(?:with|for))\s+"
    rf"|\b{NOT_BUT})"
    rf"{TO_TARGET}",
    re.IGNORECASE | re.MULTILINE,
)
WEAK_INTRO = re.compile(
    r"\b(?:(?:it|this|that)(?:['’]s|\s+(?:is|must\s+be|should\s+be|would\s+be))"
    r"|(?:therefore|thus|hence|so|finally|in\s+conclusion|i\s+(?:think|believe|guess)),?:?)"
    rf"\s+{TO_TARGET}",
    re.IGNORECASE,
)
ASKED = re.compile(r"[ \t]*\?")
WEAK_END = re.compile(r"\s*(?:[.!;:\n]|$|(?:because|since)\b)", re.IGNORECASE)
DOUBTED = re.compile(
    r"(?:\b(?:if|whether|unless|why)|(?:n['’]t|\bnot)\s+(?:think|believe|say|mean|choose)|\bnever)"
    r"(?:\s+that)?\s+(?:the\s+)?(?:(?:correct|right|best|final)\s+)*$",
    re.IGNORECASE,
)
RIGHT = (
    rf"(?P<is>\s+)(?:is|would\s+be|must\s+be|has\s+to\s+be|seems|looks)\s+{SURELY}"
    r"(?:(?:the|a|my|most|only|best|correct|right|final|more|one)\s+)*"
    r"(?:correct|right|best|true|accurate|appropriate|answer|choice)\b(?!\s*\?)"
)
LETTER_IS_RIGHT = re.compile(rf"(?<![A-Za-z0-9'’]){LETTER}(?:\s*\([^()\n]{{0,200}}\))?[.:]?{RIGHT}")
UNSURE = re.compile(
    r"(?:\b(?:if|whether|why|unless|neither|nor|not|or|and|than|isn['’]t))\s*"
    r"(?:that\s+)?(?:the\s+)?(?:(?:option|choice|answer)\s+)?$",
    re.IGNORECASE,
)
OR_ELSE = re.compile(
    r"(?:\bor|\balternatively|\bperhaps|\bmaybe)\b[,:]?\s*(?:the\s+)?(?:(?:correct|right)\s+)?$",
    re.IGNORECASE,
)
AND_ALSO = re.compile(
    r"(?P<comma>\s*,)?\s*(?:(?P<word>\b(?:or|and)\b|&|/)\s*)?"
    rf"(?:(?:maybe|perhaps|possibly)\s+)?{LABEL}",
    re.IGNORECASE,
)
COPULA = re.compile(r"\s*(?:is|are|was|were|isn|aren|would|does|do|can|has|have)\b", re.IGNORECASE)
LEADING = re.compile(
    r"\s*(?:(?:option|choice)\s+)?(?P<open>[(\[{]?)(?P<letter>[A-Za-z])(?:[)\]}][.:,]?|[.:,;])"
    r"(?=\s)|\s*(?P<bare>[A-Z])\s*(?:[–—-]\s|\s(?:because|since|as|due|while)\b)"
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
