"""markdown-it-py as the oracle: its tokens as the tree that the driver returns.

It is configured as the page's Markdown is meant to differ from CommonMark: no raw HTML, no link
reference definitions, links of three schemes; and with GitHub's tables, strikethrough and tasks.
"""

import re
from collections.abc import Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import unescapeAll
from markdown_it.token import Token

SCHEMES = re.compile(r"https?://[^/?#]|mailto:.", re.IGNORECASE)
SPANS = {"em_open": "emphasis", "strong_open": "strong", "s_open": "strike"}


def markdown() -> MarkdownIt:
    """Return the parser."""
    made = MarkdownIt("commonmark", {"html": False, "tasklists": True})
    made.enable(["table", "strikethrough"]).disable("reference")
    made.validateLink = lambda url: bool(SCHEMES.match(url))  # type: ignore[method-assign]
    made.normalizeLink = lambda url: url  # type: ignore[method-assign]
    made.normalizeLinkText = lambda link: link  # type: ignore[method-assign]
    return made


def tree(parser: MarkdownIt, text: str) -> list[Any]:
    """Return the tree of a text."""
    return _blocks(iter(parser.parse(text)))


def _blocks(tokens: Iterator[Token]) -> list[Any]:
    found: list[Any] = []
    for token in tokens:
        if token.nesting < 0:
            break
        found.append(_block(token, tokens))
    return found


def _block(token: Token, tokens: Iterator[Token]) -> list[Any]:  # noqa: PLR0911
    match token.type:
        case "paragraph_open":
            block = ["paragraph", _content(tokens)]
            if token.hidden:
                block.append("hidden")
            return block
        case "heading_open":
            return ["heading", [int(token.tag[1]), _content(tokens)]]
        case "fence" | "code_block":
            language = unescapeAll(token.info).split(maxsplit=1)[:1]
            return ["code", [*(language or [""]), token.content.removesuffix("\n")]]
        case "blockquote_open":
            return ["quote", _shown(_blocks(tokens))]
        case "bullet_list_open":
            return ["list", [False, None, *_items(tokens)]]
        case "ordered_list_open":
            start = token.attrGet("start")
            return ["list", [True, 1 if start is None else int(start), *_items(tokens)]]
        case "list_item_open":
            return ["item", [token.meta.get("checked"), _blocks(tokens)]]
        case "table_open":
            return ["table", _table(tokens)]
        case "hr":
            return ["rule", []]
    raise AssertionError(token.type)


def _shown(blocks: list[Any]) -> list[Any]:
    return [block[:2] for block in blocks]


def _items(tokens: Iterator[Token]) -> list[Any]:
    items = _blocks(tokens)
    hidden = [
        len(block) > 2 for _, (_, blocks) in items for block in blocks if block[0] == "paragraph"
    ]
    loose = None if not hidden else not any(hidden)
    return [loose, [["item", [task, _shown(blocks)]] for _, (task, blocks) in items]]


def _table(tokens: Iterator[Token]) -> list[Any]:
    align: list[str] = []
    rows: list[list[Any]] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        if token.type == "th_open":
            align.append(str(token.attrGet("style") or "").removeprefix("text-align:"))
        if token.type in {"th_open", "td_open"}:
            rows[-1].append(_content(tokens))
    for row in rows[1:]:
        while row and row[-1] == []:  # that are missing in the text
            row.pop()
    return [align, rows[0], rows[1:]]


def _content(tokens: Iterator[Token]) -> list[Any]:
    inside = next(tokens)
    next(tokens)
    return _inline(iter(inside.children or []))


def _inline(tokens: Iterator[Token]) -> list[Any]:
    found: list[Any] = []
    for token in tokens:
        if token.nesting < 0:
            break
        node = _node(token, tokens)
        if isinstance(node, str) and found and isinstance(found[-1], str):
            found[-1] += node
        elif node:
            found.append(node)
    return found


def _node(token: Token, tokens: Iterator[Token]) -> Any:  # noqa: PLR0911
    match token.type:
        case "text" | "text_special":
            return token.content
        case "softbreak":
            return "\n"
        case "hardbreak":
            return ["break"]
        case "code_inline":
            return ["code", token.content]
        case "image":
            children = _inline(iter(token.children or []))
            return ["image", token.attrGet("src"), token.attrGet("title") or "", _plain(children)]
        case "link_open":
            url, title = token.attrGet("href"), token.attrGet("title") or ""
            return ["link", url, title, _inline(tokens)]
    return [SPANS[token.type], _inline(tokens)]


def _plain(nodes: list[Any]) -> str:
    texts = []
    for node in nodes:
        if isinstance(node, str):
            texts.append(node)
        elif node[0] == "break":
            texts.append("\n")
        else:
            texts.append(node[-1] if isinstance(node[-1], str) else _plain(node[-1]))
    return "".join(texts)
