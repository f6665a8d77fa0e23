import re
import time

import pytest

from raygpt.data.corpora.wikitext import HIDDEN_LINKS, prose

UNUSUAL = "🜁 İstanbul e\u0301 \u200f\u05d0\u0308 \U0001f9d1\u200d\U0001f680"


@pytest.mark.parametrize(
    "markup",
    [
        r"''",
        r"\[\[|\]\]",
        r"\{\{|\}\}",
        r"\{\|",
        r"^=+.*=$",
        r"^[*#|]",
        r"</?\w+>",
        r"&\w+;",
        r"https?://",
        r"\b(?:File|Image|Category):",
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
'''Aa''' ({{IPA-de|a}}; {{lang|de|Aa}}) is a ''river'' in [[Germany|the north]].<ref>A book.</ref>

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
** Second, {{convert|3|km|mi}}

[[File:Aa.jpg|thumb|The river near [[Bb]] [http://b.org b]]]
==References==
{{reflist}}
* [http://example.org A page]
=== Sources ===
* A book
== Legacy ==
It flows.
== Gallery ==
<gallery>
A.jpg|The river
</gallery>
=== More ===

==See also==
* [[Bb]]
[[Category:Rivers]]
"""
    assert prose(source) == (
        "Aa (Aa) is a river in the north.\n\nHistory\n\nFirst item\nSecond, 3 km\n\n"
        "Legacy\n\nIt flows."
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a<!-- {{b -->c<!-- never closed", "ac"),
        ("a<ref name=x/>b<ref name='y'>{{cite|c}}</ref>d<REF>e</REF >f", "abdf"),
        ("a <math>x < y</math> b <score>c</score> <source lang=c>d;</source>e", "a b e"),
        ("a <table><tr><td>1</td></tr></table>b", "a b"),
        ("{{As of|2016|5|lc=y}}, {{circa|1900}}", "as of May 2016, c. 1900"),
        ("the <code>if</code> of <span style='x'>C</span>", "the if of C"),
        ("a<br/>b", "a\nb"),
        ("a {{b|{{c|[[d|e]]}}|f={g} }} h", "a h"),
        ("[[A]], [[b c|d ''e'']], [[f]]s, [[:Category:g]], [[de:h]]", "A, d e, fs, Category:g,"),
        ("[http://a.org b c], [http://d.org], http://e.org f", "b c, f"),
        ("such as {{IPA-de|a}}, {{IPAc-en|b}}, {{respell|c}} or d", "such as, or d"),
        ("a [[b", "a b"),
        ("a }} b ]] c", "a b c"),
        ("{| class=x\n| never closed\nb", "b"),
        ("'''''a''''' b's ''c''", "a b's c"),
        ("''unbalanced [[a|b]]\n\nc", "unbalanced b\n\nc"),
        ("__NOTOC__a\n----\nb", "a\n\nb"),
        ("; Term\n: meaning &amp; &lt;b&gt; &#8722;1", "Term\nmeaning & <b> −1"),
        (UNUSUAL, UNUSUAL),
        ("5 < 6 and <7", "5 < 6 and <7"),
        ("$10&nbsp;({{Inflation|US}}) and a {{Snd}} b", "$10 and a – b"),
        ("{{Convert|3|to|5.5|sqmi|adj=on}} {{cvt|20|C}} {{convert|4}}", "3 to 5.5 sq mi 20 °C 4"),
        ("{{lang-ru|Москва|Moskva}}, {{langx|ru|Рига|Riga}}", "Москва, Рига"),
        (
            "{{Lang|fr|[[Paris|le pari]]}} {{transl|ru|ALA|da}} {{nowrap|text=a b}}",
            "le pari da a b",
        ),
        ("{{lang}}x{{nowrap|}}y", "xy"),
        ("== Only a heading ==\n{{stub}}", ""),
        ("a <nowiki>[[a|b]]</nowiki> c", "a [[a|b]] c"),
        (
            "<nowiki>== ''a'' == <ref>{{b}}</ref> &lt;!-- &#91;</nowiki>",
            "== ''a'' == <ref>{{b}}</ref> <!-- [",
        ),
        ("<nowiki>*</nowiki> a<nowiki/>b <!-- <nowiki> -->[[c|d]]</nowiki>", "* ab d"),
        ("{{nowrap|a<nowiki>|</nowiki>b}}", "a|b"),
        ("a {{Box of x", "a"),
        ("a {{Box of x\n| b = c\n\nd", "a\n\nd"),
        ("a{{cn|date=May 2015} b\n{{Box|{{nowrap|c}} d\ne", "a b\n\ne"),
        ("a {{b|{c}|{ d}} e {{math|{f} + 1}}", "a e {f} + 1"),
    ],
)
def test_prose_of(source, text):
    assert prose(source) == text


def test_links_into_the_wikis_own_hidden_namespaces_are_removed():
    source = "Die [[Datei:Aa.jpg|mini|Die Aa]] Aa.[[Kategorie:Fluss]][[File:b.png]]"
    assert prose(source, HIDDEN_LINKS | {"datei", "kategorie"}) == "Die Aa."
    assert prose(source) == "Die Aa.Kategorie:Fluss"


@pytest.mark.parametrize(
    "source",
    [
        "[[a|{{b|[http://c " * 150,
        "<x>" * 14 + "[[{{x}}",
        "<a " * 5000,
        "{{a|" * 500,
        "{|\n|a\n" * 200,
        "<ref>" * 1000,
        "<nowiki>" * 1000,
        "{{a|{x}" * 2000 + "{x" * 2000,
        "[[File:a|" * 300 + "x" + "]]" * 300,
        "=" * 3000,
        "(" + " ," * 3000,
        "* a\n" * 3000,
    ],
    ids=lambda source: source[:9].strip(),
)
def test_broken_markup_is_parsed_quickly(source):
    start = time.process_time()
    prose(source)
    assert time.process_time() - start < 5
