import re

import pytest

from raygpt.data.corpora.templates import TEMPLATES
from raygpt.data.corpora.wikitext import prose


@pytest.mark.parametrize(
    ("source", "text"),
    [
        # Numbers and units.
        ("It was {{formatnum:18}} degrees.", "It was 18 degrees."),
        ("{{formatnum: 1234567.8901}} or {{formatnum:1234|R}}", "1,234,567.8901 or 1234"),
        ("{{frac|3}}, {{frac|1|2}}, {{frac|3|1|2}}, 3{{frac|1|2}}", "1/3, 1/2, 3 1/2, 3 1/2"),
        ("{{sfrac|3''n'' + 1|2}} {{frac}}", "(3n + 1)/2"),
        ("{{val|5.2|u=kg}} {{val|30000|u=C}} {{val|8|u=%}}", "5.2 kg 30000 C 8%"),
        ("{{val|6.2|0.1|e=18|u=m2|up=s|p=~}}", "~6.2±0.1×10^18 m²/s"),
        (
            "{{val|1.2|0.3|0.1}} {{val|1.25|(3)}} {{val|12345|fmt=commas}}",
            "1.2+0.3−0.1 1.25(3) 12,345",
        ),
        ("{{convert|60|and(-)|80|kg|lb}}, {{cvt|7|x|4|m3}}", "60 and 80 kg, 7 × 4 m³"),
        ("{{convert|5|ft|11|in|cm|0}} {{convert|5|mi|1}}", "5 ft 11 in 5 mi"),
        ("{{convert|1+1/2|USgal|L}}", "1 1/2 US gal"),
        (
            "5.98{{e|24}} kg, {{10^|6}}, {{gaps|1|000}}, {{ordinal|22}}",
            "5.98×10^24 kg, 10^6, 1000, 22nd",
        ),
        ("{{ordinal|11}} on {{track gauge|4ft8.5in}}{{railgauge|ussg}}", "11th on 4 ft 8.5 in"),
        ("{{US$|2 billion}} or {{INR}}5", "US$2 billion or ₹5"),
        # Dates and places.
        ("{{start date|1990|05|03}}, {{birth date|1990|5|3|df=y}}", "May 3, 1990, 3 May 1990"),
        ("{{As of|2015|06|30}} {{as of|2008|alt=today}}", "As of 30 June 2015 today"),
        ("{{as of|2015|6|30|df=US|lc=on}}", "as of June 30, 2015"),
        (
            "{{circa|1900|1910}}, {{fl.|1300}}, {{reign|1558|1603}}",
            "c. 1900 – c. 1910, fl. 1300, r. 1558–1603",
        ),
        ("{{OldStyleDate|February 2|1905|January 20}}", "February 2 [O.S. January 20] 1905"),
        ("at {{coord|13|19|N|169|9|W|type:event}}.", "at 13°19′N 169°9′W."),
        ("{{coord|1.5|S|2|E|display=inline}} {{coord|1|N|2|E|display=title}}", "1.5°S 2°E"),
        # Names.
        ("{{sortname|Ada|Byron|nolink=1}}", "Ada Byron"),
        (
            "{{HMS|Ajax|22|6}}, {{ship|USS|Hornet|CV-12}}, {{ship||Titanic}}",
            "HMS Ajax, USS Hornet, Titanic",
        ),
        ("{{sclass|Iowa|battleship|1}}", "Iowa-class battleship"),
        ("{{bibleref|Mark|3:25|9}} {{bibleverse||John|3:16}}", "Mark 3:25 John 3:16"),
        ("{{bibleverse|1|John|4:8}} {{cite quran|29|46|style=nosup}}", "1 John 4:8 Quran 29:46"),
        ("{{chem|C|''n''|H|2''n''+2}} {{nuclide2|calcium|48|link=y}}", "CnH2n+2 calcium-48"),
        # Words, letters and signs.
        ("{{nowrap|1=a = b}} {{Small|[[a|b]]}} {{Script/Arabic|ﷲ}}", "a = b b ﷲ"),
        ("{{zh|c=孔子|p=Kǒngzǐ|l=Master}} {{rtl-lang|ar|الـ}}", "孔子, Kǒngzǐ الـ"),
        ("{{angbr|a}} {{IPA|/[[b|ä]]/}} {{IPAslink|ʃ}} {{IPA|de|ˈaː|lang}}", "⟨a⟩ /ä/ /ʃ/"),
        ("A{{music|flat}} HA {{eqm}} H {{key press|Ctrl|C}}", "A♭ HA ⇌ H Ctrl+C"),
        (
            "''Eagle''{{'s}} 'just ''knowing''.{{' \"}} \"soil{{-\"}}",
            "Eagle's 'just knowing.'\" \"soil\"",
        ),
        ("1775{{ndash}}83 a{{mdashb}}b a{{spaced ndash}}b", "1775–83 a—b a – b"),
        (
            "{{hlist|a|b}}\n{{columns-list|2|\n* a\n* b\n}}\n{{plainlist|\n* c\n}}",
            "a, b\n\na\nb\n\nc",
        ),
        ("{{blockquote|quote=a b}}", "a b"),
        # Parser functions.
        ("{{lc:AB}} {{uc:ab}} {{ucfirst:ab}} {{lcfirst:AB}}", "ab AB Ab aB"),
        ("1 {{plural:1|page|pages}}, 2 {{PLURAL:2|page|pages}}", "1 page, 2 pages"),
        ("{{#if: {{stub}} |a|b}} {{#if:x|{{nowrap|c}}}} {{#tag:ref|d}}", "b c"),
    ],
)
def test_what_a_template_shows_is_in_the_text(source, text):
    assert prose(source) == text


@pytest.mark.parametrize("fields", ["", "|", "||", "|a=b", "|a|b=c", "|a|b|c|d|e|f"])
def test_every_template_can_be_shown_with_any_fields(fields):
    for name in TEMPLATES:
        text = prose(f"before {{{{{name}{fields}}}}} after")
        assert text.startswith("before")
        assert text.endswith("after")
        assert not re.search(r"\{\d\}|\{\{", text), name


def test_templates_without_an_entry_are_named():
    source = "a {{Lang_|de|b}} {{cite  web|{{cn}}}} {{nowrap|{{Some_box|x}}}}"
    names = []
    prose(source, unknown_template=lambda name: names.append(name) or "")
    assert names == ["cn", "some box", "cite web"]
