"""Units of measurement and currencies, and what they measure.

A unit converts into another only if its size is fixed: a month is no fixed number of days, a cup no fixed number of
millilitres, and exchange rates change. A name with several meanings ("$": of which country?) keeps all of them; two
units agree if any two of their meanings do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

Meaning = tuple[str, Fraction]
"""What a unit measures, and its size in that dimension's base unit."""

# Dimension → size in its base unit → names. "5 M" is no "5 m": a lone letter counts in its own case.
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "1": "m metre metres meter meters 米 公尺",
        "1000": "km kms kilometre kilometres kilometer kilometers 公里 千米",
        "1/10": "dm decimetre decimetres decimeter decimeters 分米",
        "1/100": "cm cms centimetre centimetres centimeter centimeters 厘米 公分",
        "1/1000": "mm mms millimetre millimetres millimeter millimeters 毫米",
        "1e-6": "µm μm um micron microns micrometre micrometres micrometer micrometers 微米",
        "1e-9": "nm nanometre nanometres nanometer nanometers 纳米",
        "0.0254": "inch inches 英寸",
        "0.3048": "ft foot feet 英尺",
        "0.9144": "yd yds yard yards",
        "1609.344": "mi mile miles 英里",
        "1852": "nmi",
    },
    "length^2": {"10000": "ha hectare hectares 公顷", "4046.8564224": "acre acres"},
    "length^3": {
        "1/1000": "l L litre litres liter liters 升",
        "1/100000": "cl centilitre centilitres centiliter centiliters",
        "1/1000000": "ml mL millilitre millilitres milliliter milliliters cc 毫升",
    },
    "mass": {
        "1": "kg kgs kilogram kilograms kilo kilos 公斤 千克",
        "1/1000": "g gram grams gramme grammes 克",
        "1e-6": "mg milligram milligrams 毫克",
        "1e-9": "µg μg mcg microgram micrograms",
        "1000": "tonne tonnes 吨",
        "0.45359237": "lb lbs pound pounds 磅",
        "0.028349523125": "oz ounce ounces",
    },
    "time": {
        "1": "s sec secs second seconds 秒",
        "1/1000": "ms millisecond milliseconds 毫秒",
        "1e-6": "µs μs microsecond microseconds",
        "1e-9": "ns nanosecond nanoseconds",
        "60": "min mins minute minutes 分钟 分鐘 分",
        "3600": "h hr hrs hour hours 小时 小時 个小时",
        "86400": "d day days 天 日",
        "604800": "wk wks week weeks 周 星期 个星期",
    },
    "calendar": {
        "1": "month months 个月 個月",
        "12": "yr yrs year years 年",
        "120": "decade decades",
        "1200": "century centuries",
    },
    "angle": {"1": "° º degree degrees deg degs 度", "1/60": "arcmin", "1/3600": "arcsec"},
    "radian": {"1": "rad rads radian radians"},
    "celsius": {"1": "°C ºC ℃ celsius centigrade 摄氏度"},
    "fahrenheit": {"1": "°F ºF ℉ fahrenheit 华氏度"},
    "kelvin": {"1": "K kelvin kelvins"},
    "share": {"1/100": "% percent pct 个百分点", "1/1000": "‰"},
    "factor": {"1": "x X × fold times"},
    "frequency": {"1": "Hz hertz", "1000": "kHz", "1e6": "MHz", "1e9": "GHz"},
    "power": {
        "1": "W watt watts 瓦",
        "1000": "kW kilowatt kilowatts 千瓦",
        "1e6": "MW megawatt megawatts",
        "1e9": "GW",
    },
    "energy": {
        "1": "J joule joules",
        "1000": "kJ kilojoule kilojoules",
        "1e6": "MJ",
        "4.184": "cal",
        "4184": "kcal",
        "3600": "Wh",
        "3600000": "kWh kilowatt-hour kilowatt-hours",
        "3.6e9": "MWh",
        "3.6e12": "GWh",
        "3.6e15": "TWh",
        "1.602176634e-19": "eV",
    },
    "voltage": {"1": "V volt volts 伏", "1/1000": "mV", "1000": "kV"},
    "current": {"1": "A amp amps ampere amperes 安", "1/1000": "mA"},
    "resistance": {"1": "Ω Ω ohm ohms", "1000": "kΩ"},
    "force": {"1": "N newton newtons", "1000": "kN"},
    "pressure": {"1": "Pa pascal pascals", "100": "hPa", "1000": "kPa", "1e6": "MPa", "100000": "bar", "101325": "atm"},
    "amount": {"1": "mol mole moles", "1/1000": "mmol"},
    "bytes": {"1": "byte bytes", "1000": "KB kB", "1e6": "MB", "1e9": "GB", "1e12": "TB"},
    "pulse": {"1": "bpm"},
    "turns": {"1": "rpm"},
    "pixels": {"1": "px pixel pixels"},
    "cup": {"1": "cup cups"},
    "tablespoon": {"1": "tbsp tablespoon tablespoons"},
    "teaspoon": {"1": "tsp teaspoon teaspoons"},
    "gallon": {"1": "gal gallon gallons"},
    "ton": {"1": "ton tons"},
    "usd": {"1": "$ US$ usd dollar dollars 美元", "1/100": "¢ cent cents"},
    "euro": {"1": "€ eur euro euros 欧元", "1/100": "cent cents"},
    "sterling": {"1": "£ gbp pound pounds quid 英镑", "1/100": "pence"},
    "yen": {"1": "¥ ￥ jpy yen 円 日元"},
    "yuan": {"1": "¥ ￥ cny rmb yuan 元 块 人民币"},
    "rupee": {"1": "₹ inr rupee rupees Rs"},
    "won": {"1": "₩ krw"},
    "rouble": {"1": "₽ rub rouble roubles ruble rubles"},
    "franc": {"1": "chf franc francs"},
    "cad": {"1": "$ C$ CA$ cad dollar dollars"},
    "aud": {"1": "$ A$ AU$ aud dollar dollars"},
    "hkd": {"1": "$ HK$ hkd dollar dollars 港元"},
}
_SPOKEN = {  # of several words
    "per cent": ("share", "1/100"),
    "percentage points": ("share", "1/100"),
    "percentage point": ("share", "1/100"),
    "degrees celsius": ("celsius", "1"),
    "degree celsius": ("celsius", "1"),
    "degrees fahrenheit": ("fahrenheit", "1"),
    "degree fahrenheit": ("fahrenheit", "1"),
    "light years": ("light year", "1"),
    "light-years": ("light year", "1"),
    "nautical miles": ("length", "1852"),
    "us dollars": ("usd", "1"),
    "u.s. dollars": ("usd", "1"),
    "canadian dollars": ("cad", "1"),
    "australian dollars": ("aud", "1"),
    "hong kong dollars": ("hkd", "1"),
    "pounds sterling": ("sterling", "1"),
    "japanese yen": ("yen", "1"),
}
_RATES = {"mph": ("mile", "hour"), "kph": ("km", "h"), "kmh": ("km", "h"), "mps": ("m", "s"), "fps": ("ft", "s")}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measurement.

    Attributes:
        name: as written, except for case.
        meanings: what it measures; several where the name has several.
    """

    name: str
    meanings: tuple[Meaning, ...]

    @property
    def dimension(self) -> str:
        """What it measures, of several meanings the first."""
        return self.meanings[0][0]

    def shared(self, other: Unit) -> list[tuple[Fraction, Fraction]]:
        """The sizes of both in each dimension that both measure; none if they measure different things."""
        return [(x, y) for a, x in self.meanings for b, y in other.meanings if a == b]


CLOCK = Unit("h:mm", (("clock", Fraction(3600)), ("time", Fraction(3600)), ("time", Fraction(60))))
"""Of 3:45, which may be a time of day, hours and minutes, or minutes and seconds."""
NOON = Unit("am/pm", (("clock", Fraction(3600)),))
"""Of 3:45 pm, as hours since midnight."""


def _named() -> dict[str, Unit]:
    found: dict[str, tuple[Meaning, ...]] = {}
    for dimension, sizes in _TABLE.items():
        for size, names in sizes.items():
            for name in names.split():
                found[name] = (*found.get(name, ()), (dimension, Fraction(size)))
    found |= {name: ((dimension, Fraction(size)),) for name, (dimension, size) in _SPOKEN.items()}
    units = {name: Unit(name, meanings) for name, meanings in found.items()}
    rates = {name: _per(name, units[over], units[under]) for name, (over, under) in _RATES.items()}
    return units | rates


def _per(name: str, over: Unit, under: Unit) -> Unit:
    return Unit(name, tuple((f"{a}/{b}", x / y) for a, x in over.meanings for b, y in under.meanings))


UNITS: dict[str, Unit] = _named()
"""Every unit that has a name of its own. Squares, cubes and one unit per another are made from them."""
# m and M are a thousandth and a million before the same letter, so such abbreviations count in their own case.
_BY_LOWER = {
    name.lower(): name
    for name in reversed(UNITS)
    if len(name) > 1 and not (name[0] in "mM" and len(name) < 4 and name != name.lower())
}


_LONGEST_CJK = 4
_PHRASES = [name for name in UNITS if not name.isalpha() and name[-1].isalpha() and len(name) > 3]
_PHRASE = re.compile(
    rf"(?:{'|'.join(sorted(map(re.escape, _PHRASES), key=len, reverse=True))})(?![A-Za-z])", re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z]{0,2}\$|[°º][CFcf](?![A-Za-z])|[A-Za-zµμΩ]+")
_AREA = re.compile(r"(?:(?P<square>sq\.?|square)|(?P<cubic>cu\.?|cubic))[ ]", re.IGNORECASE)
# Of a length and a time: "$2" and "%2" are no squares.
_POWER = re.compile(r"\^?\{?[23]\}?(?![0-9.])|[²³]|[ ](?:squared|cubed)(?![A-Za-z])", re.IGNORECASE)
_RAISED = ("length", "time")
# An inch where nothing follows: "5 in the box" has no unit.
_INCH = re.compile(r"in(?=\.?[ ]?[,;:)]*$|[²³^]|[ ]?[,x×][ ]?[0-9])")
_BEFORE = re.compile(r"[ -]?(?P<open>\(?)[ ]?")
_BETWEEN = re.compile(r"[ ]?/[ ]?|[ ]per[ ]", re.IGNORECASE)
_CODES = "usd|eur|gbp|jpy|cny|rmb|inr|chf|cad|aud|hkd|krw|rub"
CURRENCY = rf"(?:(?:US|C|CA|A|AU|HK)?\$|[€£¥￥₹₩₽]|Rs\.?|(?:{_CODES})(?![a-z]))"
"""A currency as it stands before a number, for a pattern that ignores case."""


def unit(name: str) -> Unit:
    """The unit of this name, in any case. KeyError if there is none."""
    return UNITS[name] if name in UNITS else UNITS[_BY_LOWER[name.lower()]]


def is_unit(word: str) -> bool:
    """Whether a word is the name of a unit."""
    return word in UNITS or word.lower() in _BY_LOWER


def unit_at(text: str, start: int) -> tuple[Unit, int] | None:
    """The unit that stands at this place of a text, after a space, a hyphen or a bracket, and where it ends."""
    before = _BEFORE.match(text, start)
    assert before is not None
    found = _one_at(text, before.end())
    if found is None:
        return None
    one, end = found
    between = _BETWEEN.match(text, end)
    under = _one_at(text, between.end()) if between else None
    if between and under:
        one, end = _per(f"{one.name}/{under[0].name}", one, under[0]), under[1]
    if before["open"]:
        return (one, end + 1) if text[end : end + 1] == ")" else None
    return one, end


def _one_at(text: str, start: int) -> tuple[Unit, int] | None:
    area = _AREA.match(text, start)
    named = _named_at(text, area.end() if area else start)
    if named is None:
        return None
    base, end = named
    exponent = 1 if area is None else 2 if area["square"] else 3
    written = _POWER.match(text, end) if base.dimension in _RAISED else None
    if written:
        end = written.end()
        exponent *= 2 if re.search("2|²|squared", written.group(), re.IGNORECASE) else 3
    if exponent == 1:
        return base, end
    name = f"{base.name}{'²' if exponent == 2 else '³' if exponent == 3 else f'^{exponent}'}"
    return Unit(name, tuple((f"{what}^{exponent}", size**exponent) for what, size in base.meanings)), end


def _named_at(text: str, start: int) -> tuple[Unit, int] | None:
    """The unit whose name stands here as a whole word; of Chinese names, which no space ends, the longest."""
    found = _PHRASE.match(text, start) or _WORD.match(text, start)
    if found and is_unit(found.group()):
        return unit(found.group()), found.end()
    if found:
        inch = _INCH.match(text, start)
        return (UNITS["inch"], inch.end()) if inch else None
    name = next((text[start:end] for end in range(start + _LONGEST_CJK, start, -1) if text[start:end] in UNITS), "")
    return (UNITS[name], start + len(name)) if name else None
