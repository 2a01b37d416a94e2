"""Text in Markdown, as another program renders it."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from jax_resnet.reporting.markdown import code, picture, plain, table
from jax_resnet.runtime.text import printable

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXTS = [
    *("a|b", "a\\|b", "<b>&amp; \"'", "</script><img src=x>", "\\frac_a_^2", "a_b__c_"),
    *("`code` *b* _i_ __b__ ~~s~~", "``a`", "`", "# [l](http://x) ![i](x) #", "a\nb\0"),
    *("- 1. > +", ":smile: &copy;", "=cmd()", "日本 ü 🦊", "x" * 400),
]


def test_tables_escape_their_cells():
    assert table(["a", "b"], [["1|2", "3"]]) == (
        "| a | b |\n| --- | ---: |\n| 1\\|2 | 3 |"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_shown_as_it_is(text):
    expected = printable(text)
    page = MARKDOWN.render(table(["a", "b"], [[plain(text), code(text)]]))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert list(map(html.unescape, cells)) == [expected, f"<code>{expected}</code>"]
    heading = MARKDOWN.render(f"# {plain(text)} {code(text)}")
    expected = f"<h1>{expected} <code>{expected}</code></h1>\n"
    assert html.unescape(heading) == expected


def test_mathematics_and_emoji_of_other_renderers_are_escaped():
    assert plain("$x$ :a: a_b") == r"\$x\$ \:a: a_b"


def test_pictures_may_have_any_path():
    page = MARKDOWN.render(picture("name", "a (b) [ü]/c d.png"))
    assert 'src="a%20%28b%29%20%5B%C3%BC%5D/c%20d.png"' in page
