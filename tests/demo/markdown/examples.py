"""GitHub's constructs, and what is meant to differ from CommonMark: texts and their trees."""
# ruff: noqa: E501

from typing import Any


def paragraph(*inside: Any) -> list[Any]:
    """Return the tree of a text of one paragraph."""
    return [["paragraph", list(inside)]]


def link(url: str, *inside: Any, title: str = "") -> list[Any]:
    """Return a link, by default of its own address."""
    return ["link", url, title, list(inside) or [url]]


EXAMPLES: dict[str, tuple[str, list[Any]]] = {
    "a table": ("|a|b|\n|:-|-:|\n|*c*|d\\|e|\n",
        [["table", [["left", "right"], [["a"], ["b"]], [[[["emphasis", ["c"]]], ["d|e"]]]]]]),
    "a table without outer bars": ("a|b\n-|-\nc|d\n\ne|f",
        [["table", [["", ""], [["a"], ["b"]], [[["c"], ["d"]]]]], *paragraph("e|f")]),
    "a table after text": ("a\n|b|\n|-|\n", [*paragraph("a"), ["table", [[""], [["b"]], []]]]),
    "a table's rows": ("|a|b|\n|-|-|\n|c\n|d|e|f|\ng\n> h",
        [["table", [["", ""], [["a"], ["b"]], [[["c"]], [["d"], ["e"]], [["g"]]]]], ["quote", paragraph("h")]]),
    "no table": ("|a|b|\n|-|\n", paragraph("|a|b|\n|-|")),
    "strikethrough": ("~~a~~ ~b~ ~~~c~~~", paragraph(["strike", ["a"]], " ~b~ ~~~c~~~")),
    "tasks": ("- [x] a\n- [ ] *b*\n- [X] c\n- [ ]\n- [y] d",
        [["list", [False, None, False, [["item", [done, paragraph(text)]] for done, text in (
            (True, "a"), (False, ["emphasis", ["b"]]), (True, "c"), (None, "[ ]"), (None, "[y] d"))]]]]),
    "addresses": ("see https://a.b/c_d_(e), (http://f), xhttps://g, https://h.i。 and www.j.k",
        paragraph("see ", link("https://a.b/c_d_(e)"), ", (", link("http://f"), "), xhttps://g, ",
                  link("https://h.i"), "。 and www.j.k")),
    "an address in bold": ("**https://a.b**", paragraph(["strong", [link("https://a.b")]])),
    "an address as a link's text": ("[https://a.b](https://c.d)",
        paragraph(link("https://c.d", link("https://a.b")))),
    "schemes": ("[a](javascript:b) [c](/d) [e](#f) [g](data:h) <javascript:i> [j](HTTPS://k) <l@m.n>",
        paragraph("[a](javascript:b) [c](/d) [e](#f) [g](data:h) <javascript:i> ", link("HTTPS://k", "j"), " ",
                  link("mailto:l@m.n", "l@m.n"))),
    "a scheme in disguise": ("[a](java\\script:b) [c](&#106;avascript:d) [e](\x01javascript:f) [g](<javascript:h>)",
        paragraph("[a](java\\script:b) [c](javascript:d) [e](\x01javascript:f) [g](<javascript:h>)")),
    "an image": ('![*a*](https://b "c")', paragraph(["image", "https://b", "c", "a"])),
    "raw HTML": ("<div>\n*a*\n</div>\n\n<b onclick=c>", [*paragraph("<div>\n", ["emphasis", ["a"]], "\n</div>"),
                                                        *paragraph("<b onclick=c>")]),
    "a line break of HTML": ("a<br>b<br/>c<BR />", paragraph("a", ["break"], "b", ["break"], "c", ["break"])),
    "no references": ("[a]\n\n[a]: https://b", [*paragraph("[a]"), *paragraph("[a]: ", link("https://b"))]),
    "entities": ("&amp; &rarr; &Aacute; &#8364; &#x20ac; &#0; &amp", paragraph("& → &Aacute; € € \ufffd &amp")),
    "formulas": ("$a_b * c_d$ \\(e_f\\) \\[g_h\\] $$i_j$$ $5 and *k* for $6",
        paragraph("$a_b * c_d$ \\(e_f\\) \\[g_h\\] $$i_j$$ $5 and ", ["emphasis", ["k"]], " for $6")),
    "a formula of lines": ("a\n\\[\nb\n- c_d_e\n\\]\n*f*", [*paragraph("a"), ["math", "\\[\nb\n- c_d_e\n\\]"],
                                                         *paragraph(["emphasis", ["f"]])]),
    "a formula without an end": ("$$\na\n\n- b", [["math", "$$\na"], ["list", [False, None, False, [["item", [None, paragraph("b")]]]]]]),
    "brackets and dollars": ("\\[a](b) \\(c) $d", paragraph("[a](b) (c) $d")),
}  # fmt: skip
