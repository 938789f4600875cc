"""Text of rules and findings as HTML: escaped, with code where backticks are."""

from __future__ import annotations

import re
from html import escape


def prose_line(text: str) -> str:
    """Escaped text on one line, with code where backticks are."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def prose(text: str) -> str:
    """Escaped paragraphs and lists of a rule's page, with what is strong."""
    parts = []
    for block in re.split(r"\n\s*\n", unlinked(text).strip()):
        if re.match(r"\s*- ", block):
            items = re.split(r"(?m)^\s*- ", block)[1:]
            parts.append(f"<ul>{''.join(f'<li>{_strong(i)}</li>' for i in items)}</ul>")
        elif block.strip():
            parts.append(f"<p>{_strong(block)}</p>")
    return "".join(parts)


def _strong(text: str) -> str:
    return re.sub(r"\*\*([^*<>]+)\*\*", r"<strong>\1</strong>", prose_line(text))


def unlinked(text: str) -> str:
    """The text of a rule's page with the words of its links alone: they lead to other pages."""
    return re.sub(r"\[([^\]\n]+)\]\([^()\s]+\)", r"\1", text)


def plain(text: str) -> str:
    """A rule's page as a script shows it: with backticks, without other marks."""
    return unlinked(text).replace("**", "")


def sentences(text: str) -> tuple[str, str]:
    """The first statement of a reason, and the rest; both start with a capital letter."""
    plain = " ".join(text.split())
    found = re.compile(r"(?<=[^.\s]{2})(?:\. (?=[A-Za-z`])|; )").search(plain, 20)
    if found is None or plain[: found.start()].count("`") % 2:
        return capital(plain), ""
    return capital(plain[: found.start()]), capital(plain[found.end() :])


def capital(text: str) -> str:
    """The text with a capital letter, unless it starts with code or a name."""
    word = text.partition(" ")[0].rstrip(",.;")
    return text[:1].upper() + text[1:] if word.isalpha() and word.islower() else text
