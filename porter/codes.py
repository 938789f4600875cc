"""The codes of porter's own rules (`porter.own`), and what tells what porter or a user wrote."""

from __future__ import annotations

import re

UNREADABLE = "POR000"
UNUSED = "POR001"
BLANKET = "POR002"
NOT_PYTHON = "POR003"
UNREAD_TEXT = "POR004"
TORCH_BOUND = "POR010"
CODES = (UNREADABLE, UNUSED, BLANKET, NOT_PYTHON, UNREAD_TEXT, TORCH_BOUND)

#: A comment that silences; it may be all that is left of what it silenced.
COMMENT = re.compile(
    rb"(?:#|//)\s*(?:porter:[ \t]*(?:file-)?ignore|noqa\s*:[^\r\n]*\bPOR\d)", re.IGNORECASE
)

#: How reports and baselines begin; they quote code that was looked at elsewhere.
MADE = re.compile(
    rb'\{\s*"(?:schema": \d+,\s*"(?:target"|kind": "porter )|porter-baseline"|'
    rb'\$schema": "[^"]*/sarif|'
    rb'source": \{\s*"name": "porter")'
)
