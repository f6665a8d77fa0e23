import re

import pytest

from raygpt.data.wikitext import prose


@pytest.mark.parametrize(
    "markup",
    [
        r"''",
        r"\[\[|\]\]",
        r"\{\{|\}\}",
        r"\{\|",
        r"^=+.*=$",
        r"^[*#]",
        r"</?\w+>",
        r"&\w+;",
        r"https?://",
    ],
)
def test_the_sample_is_free_of_markup(sample, markup):
    assert re.findall(f"(?:{markup}).{{0,30}}", "\n".join(sample), re.M) == []


def test_the_sample_is_tidy_prose(sample):
    for text in sample:
        assert text == text.strip()
        assert text
        assert not re.search(r"\n{3}|  |\xa0|\( ?\)", text)
    letters = [c for text in sample for c in text if c.isalpha()]
    assert 0.02 < sum(c.isupper() for c in letters) / len(letters) < 0.08


def test_prose_keeps_paragraphs_headings_and_list_items():
    source = """{{Infobox|a={{b}}}}
'''Aa''' ({{lang|de|Aa}}) is a ''river'' in [[Germany|the north]].<ref>A book.</ref>

{| class="wikitable"
! Year
|-
| 1990 ||
{|
| inner
|}
| after
|}
== History ==
* First&nbsp;item
** Second, {{convert|3|km}}

[[File:Aa.jpg|thumb|The river]]
==References==
{{reflist}}
* [http://example.org A page]
== Legacy ==
It flows.

==See also==
* [[Bb]]
[[Category:Rivers]]
"""
    assert prose(source) == (
        "Aa is a river in the north.\n\nHistory\n\nFirst item\nSecond,\n\n"
        "The river\n\nLegacy\n\nIt flows."
    )
