"""What MediaWiki's templates and parser functions show in a sentence, by the names of the English
Wikipedia.

To add a template, add its name to `_SHOWN` and raise `wikitext.CLEANING`. Templates without an
entry show nothing: most of them are boxes, notes, citations and pronunciations.
`python -m benchmarks.vanished_templates` counts which of them leave a gap in a sentence.
"""

import contextlib
import re
from collections.abc import Callable

from raygpt.data.corpora.literal import protect

# The bar between two fields, but not the bar of a link, [[page|text]].
BAR = re.compile(r"\|(?![^\[\]]*\]\])")
FIELD_NAME = re.compile(r"[\w -]+")
PLACE = re.compile(r"\{(\d)\}")
MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]
SHIPS = ("HMS", "USS", "HMAS", "HMCS", "SS", "RMS", "MV", "MS", "SMS", "INS")


class Fields:
    """The fields of a template: by number from 1, or by name; "" for a field that is not given."""

    def __init__(self, texts: list[str]):
        self.numbered: list[str] = []
        """The fields without a name, in order."""
        self._named: dict[str, str] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if equals and FIELD_NAME.fullmatch(name := name.strip()):
                self._named[name.lower()] = value.strip()
            else:
                self.numbered.append(text.strip())
        # {{nowrap|1=a = b}} is how a field with an equals sign is written.
        while (number := str(len(self.numbered) + 1)) in self._named:
            self.numbered.append(self._named.pop(number))
        if not self.numbered and "text" in self._named:
            self.numbered.append(self._named["text"])

    def __getitem__(self, key: int | str) -> str:
        if isinstance(key, str):
            return self._named.get(key, "")
        return self.numbered[key - 1] if key <= len(self.numbered) else ""

    @property
    def last(self) -> str:
        """The last of the numbered fields."""
        return self.numbered[-1] if self.numbered else ""


def shown(template: str, otherwise: Callable[[str], str] = lambda name: "") -> str:
    """The text that a template shows.

    Args:
        template: the text between its braces, in which inner templates are already replaced.
        otherwise: gets the name of a template that `_SHOWN` does not have, and returns its text.
    """
    head, bar, rest = template.partition("|")
    function, _, argument = head.partition(":")
    compute = FUNCTIONS.get(function.strip().lower())
    name = " ".join(head.replace("_", " ").lower().split())
    show = TEMPLATES.get(name, "{1}" if name.startswith(PREFIXES) else None)
    if compute is None and show is None:
        return otherwise(name)
    texts = BAR.split(rest) if bar else []
    if compute:
        return compute(argument.strip(), *map(str.strip, texts))
    fields = Fields(texts)
    if callable(show):
        return show(fields)
    if not PLACE.search(show):
        return show
    if not any(fields.numbered):
        return ""
    return PLACE.sub(lambda place: fields[int(place[1])], show).strip()


# --- numbers --------------------------------------------------------------------------------


def _grouped(number: str, *how: str) -> str:
    """{{formatnum:1234567}}: 1,234,567."""
    whole = re.match(r"[+−-]?(\d{4,})", number)
    if not whole or "R" in how or "NOSEP" in how:
        return number
    return number[: whole.start(1)] + f"{int(whole[1]):,}" + number[whole.end() :]


def _fraction(fields: Fields) -> str:
    """{{frac|3}}: 1/3; {{frac|1|2}}: 1/2; {{frac|3|1|2}}: 3 1/2."""
    *whole, above, below = ["", "", "1", *fields.numbered][-3 if fields[3] else -2 :]
    return " ".join([*whole, f"{_in_brackets(above)}/{_in_brackets(below)}"]) if fields[1] else ""


def _in_brackets(term: str) -> str:
    return f"({term})" if re.search(r"[^\s+−-]\s*[+−-]", term) else term


def _value(fields: Fields) -> str:
    """{{val|6.2|0.1|e=18|u=kg}}: 6.2±0.1×10^18 kg."""
    text = fields[1]
    if fields["fmt"] == "commas":
        text = _grouped(text)
    if fields[3]:
        text += f"+{fields[2].lstrip('+')}−{fields[3].lstrip('-−')}"
    elif fields[2]:
        text += fields[2] if fields[2].startswith("(") else f"±{fields[2]}"
    if fields["e"]:
        text += f"×10^{fields['e']}"
    text = f"{fields['p']}{text}{fields['s']}"
    if unit := fields["u"] or fields["ul"]:
        text += unit if unit in "%°" else f" {_unit(unit)}"
    if below := fields["up"] or fields["upl"]:
        text += f"/{_unit(below)}"
    return text


# {{convert|3|to|5|km|mi}} shows "3 to 5 km (1.9 to 3.1 mi)"; the part in brackets is left out.
RANGES = {
    "-": "–",
    "–": "–",
    "to": " to ",
    "to(-)": " to ",
    "and": " and ",
    "and(-)": " and ",
    "or": " or ",
    "by": " by ",
    "x": " × ",
    "xx": " × ",
    "×": " × ",
    "*": " × ",
    "±": " ± ",
    "+/-": " ± ",
}
CONVERTED_UNITS = {
    "C": "°C",
    "F": "°F",
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "sqyd": "sq yd",
    "sqin": "sq in",
    "cuft": "cu ft",
    "cuyd": "cu yd",
    "cuin": "cu in",
    "USgal": "US gal",
    "impgal": "imp gal",
}
SMALLER_UNITS = {"ft": ("in",), "yd": ("ft",), "mi": ("yd", "ft"), "lb": ("oz",), "st": ("lb",)}


def _quantity(fields: Fields) -> str:
    """{{convert|3|to|5|km2|sqmi}}: 3 to 5 km²; {{convert|5|ft|11|in|cm}}: 5 ft 11 in."""
    value, *rest = fields.numbered or [""]
    while len(rest) > 1 and rest[0] in RANGES:
        value += RANGES[rest[0]] + rest[1]
        rest = rest[2:]
    value = re.sub(r"\+(?=\d+/)", " ", value)  # 1+1/2 is 1 1/2
    text = f"{value} {CONVERTED_UNITS.get(rest[0]) or _unit(rest[0])}" if rest else value
    while len(rest) > 2 and rest[2] in SMALLER_UNITS.get(rest[0], ()) and rest[1][:1].isdigit():
        text += f" {rest[1]} {rest[2]}"
        rest = rest[2:]
    return text


def _unit(unit: str) -> str:
    """A unit with its powers, as in km²."""
    return re.sub(r"(?<=m)([23])\b", lambda power: "²³"[int(power[1]) - 2], unit)


def _gauge(fields: Fields) -> str:
    """{{track gauge|4ft8.5in}}: 4 ft 8.5 in."""
    given = fields[1] if fields[1][:1].isdigit() else ""  # others are codes, such as ussg
    return re.sub(r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)", " ", given)


def _ordinal(fields: Fields) -> str:
    """{{ordinal|22}}: 22nd."""
    number = fields[1]
    endings = {} if number[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}
    ending = endings.get(number[-1:], "th")
    return number + ending if number.isdecimal() else number


# --- dates and places -----------------------------------------------------------------------


def _date(fields: Fields) -> str:
    """{{start date|1990|5|3}}: May 3, 1990, or 3 May 1990 with df=y."""
    return _written_date(fields, day_first=bool(fields["df"]))


def _as_of(fields: Fields) -> str:
    """{{as of|2016|5|lc=y}}: as of May 2016."""
    date = _written_date(fields, day_first=fields["df"].lower() not in ("us", "mdy"))
    return fields["alt"] or (f"{'as' if fields['lc'] else 'As'} of {date}" if date else "")


def _written_date(fields: Fields, day_first: bool) -> str:
    year, month, day = fields[1], _month(fields[2]), fields[3].lstrip("0")
    if not month or not day:
        return f"{month} {year}".strip()
    return f"{day} {month} {year}" if day_first else f"{month} {day}, {year}"


def _month(text: str) -> str:
    number = int(text) if text.isdecimal() else 0
    return MONTHS[number - 1] if 1 <= number <= len(MONTHS) else text


def _years(sign: str) -> Callable[[Fields], str]:
    """{{circa|1900|1910}}: c. 1900 – c. 1910."""
    return lambda fields: " – ".join(f"{sign} {year}" for year in fields.numbered[:2] if year)


def _coordinates(fields: Fields) -> str:
    """{{coord|13|19|N|169|9|W|type:event}}: 13°19′N 169°9′W, where they stand in the text."""
    if fields["display"].lower() in ("title", "t"):
        return ""
    numbers = [field for field in fields.numbered if re.fullmatch(r"-?\d+(?:\.\d+)?|[NSEW]", field)]
    axes, figures = [], []
    for field in numbers:
        if field.isalpha():
            axes.append("".join(map("".join, zip(figures, "°′″", strict=False))) + field)
            figures = []
        else:
            figures.append(field)
    return " ".join(axes) or ", ".join(numbers[:2])


# --- words ----------------------------------------------------------------------------------


def _joined(sign: str) -> Callable[[Fields], str]:
    return lambda fields: sign.join(filter(None, fields.numbered))


def _money(sign: str) -> Callable[[Fields], str]:
    """{{inr|5 crore}}: ₹5 crore; {{inr}}: ₹."""
    return lambda fields: sign + fields[1]


def _last(fields: Fields) -> str:
    return fields.last


def _quotation(fields: Fields) -> str:
    return f"\n\n{fields[1] or fields['quote']}\n\n"


def _chinese(fields: Fields) -> str:
    """{{zh|c=孔子|p=Kǒngzǐ}}: 孔子, Kǒngzǐ."""
    return fields[1] or ", ".join(filter(None, (fields[name] for name in "ctspwj")))


def _verse(fields: Fields) -> str:
    """{{bibleverse|1|Mark|3:25}}: 1 Mark 3:25."""
    end = 3 if ":" in fields[3] or not fields[1].strip() or fields[1].isdecimal() else 2
    return " ".join(filter(None, fields.numbered[:end]))


# Names of templates, and the text that they show: {1} stands for the first field. A template whose
# fields are all empty shows nothing, unless its text has no {1}.
_SHOWN: list[tuple[str, str | Callable[[Fields], str]]] = [
    # Words in some style, or with an explanation or a link.
    ("nowrap, nobr, nowr, abbr, abbrlink, tooltip, small, smaller, big, large, larger", "{1}"),
    ("sc, sc1, sc2, smallcaps, small caps, sub, sup, strong, em, underline, no italic", "{1}"),
    ("code, mono, tt, var, kbd, samp, math, mvar, nq, vanchor, visible anchor, linktext", "{1}"),
    ("ill, interlanguage link, nihongo, not a typo, sic, proper name, ship name, date", "{1}"),
    ("flag, flagcountry, flagu", "{1}"),
    ("resize, hover title, color, font color, fontcolor", _last),
    ("key, key press, keypress", _joined("+")),
    # Other languages; the language itself is not named.
    ("lang, langx, rtl-lang, ltr-lang, script, wikt-lang, wt, mention", "{2}"),
    ("transl, transliteration", _last),
    ("zh, lang-zh", _chinese),
    ("literal translation, lit", "lit. '{1}'"),
    ("gloss", "'{1}'"),
    # Letters and single sounds. {{IPA|de|…}} is the pronunciation of a word, as {{IPA-de}} is.
    ("angbr, angle bracket, vr", "⟨{1}⟩"),
    ("ipa", lambda fields: fields[1] if len(fields.numbered) == 1 else ""),
    ("ipalink, ipa link", "{1}"),
    ("ipaslink", "/{1}/"),
    ("ipablink", "[{1}]"),
    # Quotations and lists.
    ("quote, blockquote, cquote, bq, quotation, poemquote", _quotation),
    ("hlist, flatlist", _joined(", ")),
    ("unbulleted list, ubl", _joined("\n")),
    ("plainlist, columns-list", lambda fields: f"\n{fields.last}\n"),
    # Numbers and what they measure.
    ("convert, cvt", _quantity),
    ("val", _value),
    ("frac, fraction, sfrac", _fraction),
    ("e", "×10^{1}"),
    ("10^", "10^{1}"),
    ("gaps", _joined("")),
    ("ordinal", _ordinal),
    ("formatnum, format number", lambda fields: _grouped(fields[1])),
    ("railgauge, rail gauge, track gauge", _gauge),
    ("us$, usd", _money("US$")),
    ("a$, aud", _money("A$")),
    ("gbp, £", _money("£")),
    ("eur, €", _money("€")),
    ("inr, indian rupee", _money("₹")),
    ("us patent", "U.S. patent {1}"),
    # Dates and places.
    ("start date, end date, start date and age, end date and age, birth date, death date", _date),
    ("birth date and age, death date and age", _date),
    ("oldstyledate", "{1} [O.S. {3}] {2}"),
    ("as of", _as_of),
    ("circa, c., ca.", _years("c.")),
    ("floruit, fl.", _years("fl.")),
    ("reign, r.", lambda fields: "r. " + "–".join(fields.numbered[:2])),
    ("coord", _coordinates),
    # People, ships, books and substances.
    ("sortname", "{1} {2}"),
    *((ship.lower(), f"{ship} {{1}}") for ship in SHIPS),
    ("ship", "{1} {2}"),
    ("sclass, sclass-, sclass2, sclass2-", "{1}-class {2}"),
    ("bibleref, bibleref2, bibleverse", _verse),
    ("cite quran", "Quran {1}:{2}"),
    ("chem, chem2", _joined("")),
    ("nuclide, nuclide2, simplenuclide", "{1}-{2}"),
    ("music", lambda fields: {"flat": "♭", "sharp": "♯", "natural": "♮"}.get(fields[1], "")),
    # Signs.
    ("snd, spnd, sndash, spaced ndash, spaced en dash, dash", " – "),
    ("ndash, endash, en dash", "–"),
    ("mdash, mdashb, emdash, em dash", "—"),
    ("spaced mdash, spaced em dash", " — "),
    ("nbsp, space, spaces, hsp, thinsp, thin space, nnbsp, gap, pad", " "),
    ("·, •, middot, bull, bullet", " · "),
    # Not as markup: ''Eagle''{{'s}} is the word Eagle in italics and its ending.
    ("'", protect("'")),
    ("'s", protect("'s")),
    ('", -"', '"'),
    ("' \", '\"", protect("'") + '"'),
    ("\" ', \"'", '"' + protect("'")),
    ("pi", "π"),
    ("eqm", " ⇌ "),
]
TEMPLATES = {name: show for names, show in _SHOWN for name in names.split(", ")}
PREFIXES = ("lang-", "script/")


def _if(condition: str, then: str = "", otherwise: str = "", *_: str) -> str:
    return then if condition else otherwise


def _plural(count: str, one: str = "", many: str = "", *_: str) -> str:
    with contextlib.suppress(ValueError):
        return one if float(count.replace(",", "")) == 1 else many or one
    return many


FUNCTIONS: dict[str, Callable[..., str]] = {
    "formatnum": _grouped,
    "lc": lambda text, *_: text.lower(),
    "uc": lambda text, *_: text.upper(),
    "lcfirst": lambda text, *_: text[:1].lower() + text[1:],
    "ucfirst": lambda text, *_: text[:1].upper() + text[1:],
    "plural": _plural,
    "#if": _if,
}
"""Parser functions, as in {{lc:Text}}, which return the text that is shown."""
