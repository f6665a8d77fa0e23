import math
from fractions import Fraction

import pytest

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.quantities import format_fraction, parse_count, parse_fraction, parse_number


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("300M", 300_000_000),
        ("2.5M", 2_500_000),
        ("256K", 256_000),
        ("256k", 256_000),
        ("1G", 10**9),
        ("1B", 10**9),
        ("2T", 2 * 10**12),
        ("4Ki", 4096),
        ("1Mi", 1_048_576),
        ("1Gi", 2**30),
        ("1_000_000", 1_000_000),
        ("2e6", 2_000_000),
        ("1.5e1", 15),
        (2e6, 2_000_000),
        (8.0, 8),
        (12, 12),
        (-3, -3),
        (" 7 ", 7),
        ("0.29M", 290_000),
    ],
)
def test_counts(given, count):
    assert parse_count(given) == count
    assert type(parse_count(given)) is int


@pytest.mark.parametrize(
    "given",
    [
        *(True, False, None, [1], {}),
        *("", "M", "300m", "2KK", "1/3", "50%", "0x10", "1 000", "nan"),
        *("1.5", 2.5, "1e-3", "1.00000001M", math.nan, math.inf),
        *("1e99999999", "9" * 5000, "1e19", 10**400),
    ],
)
def test_invalid_counts(given):
    with pytest.raises(RecipeError, match="must be"):
        parse_count(given)


@pytest.mark.parametrize(
    ("given", "fraction"),
    [
        ("1/3", Fraction(1, 3)),
        ("2 / 6", Fraction(1, 3)),
        ("0.25", Fraction(1, 4)),
        ("25%", Fraction(1, 4)),
        ("12.5%", Fraction(1, 8)),
        (0.1, Fraction(1, 10)),
        (1, Fraction(1)),
        (Fraction(1, 9), Fraction(1, 9)),
    ],
)
def test_fractions_are_exact(given, fraction):
    assert parse_fraction(given) == fraction
    assert type(parse_fraction(given)) is Fraction


@pytest.mark.parametrize("given", [True, None, "1/0", "a/b", "1//3", "1M", math.inf, [], "1/3/5"])
def test_invalid_fractions(given):
    with pytest.raises(RecipeError, match="must be a fraction"):
        parse_fraction(given)


@pytest.mark.parametrize(
    ("given", "number"),
    [("2e-4", 0.0002), (2e-4, 0.0002), (1, 1.0), ("1/4", 0.25), ("5%", 0.05), ("-1.5", -1.5)],
)
def test_numbers(given, number):
    assert parse_number(given) == number
    assert type(parse_number(given)) is float


@pytest.mark.parametrize(
    "given", [True, None, "", "x", math.nan, math.inf, "inf", "1e400", 10**400]
)
def test_invalid_numbers(given):
    with pytest.raises(RecipeError, match="must be a number"):
        parse_number(given)


@pytest.mark.parametrize(
    ("fraction", "text"), [(Fraction(1, 9), "1/9"), (Fraction(1), 1), (Fraction(0), 0)]
)
def test_a_written_fraction_reads_back(fraction, text):
    assert format_fraction(fraction) == text
    assert parse_fraction(text) == fraction
