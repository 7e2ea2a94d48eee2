"""Words that stand in formulas: functions, units, and the short words of English, which no formula is made of."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt pi min max gcd lcm mod det binom
    inf matrix pmatrix bmatrix infinity alpha beta gamma delta theta lambda mu phi psi omega sigma rho tau
    epsilon and or deg
    """
)
"""Names of functions and constants, written in letters."""

UNITS = _words(
    """
    m cm mm km nm ft in inch inches foot feet yard yards yd mile miles mi meter meters metre metres kilometers
    kilometres centimeters centimetres millimeters s sec second seconds min minute minutes h hr hrs hour hours
    day days week weeks month months year years g kg mg gram grams kilogram kilograms lb lbs pound pounds oz
    ounce ounces ton tons l ml liter liters litre litres gallon gallons j kj w kw n pa kpa v hz k mol mph kmh
    kph degree degrees deg radian radians rad dollar dollars cent cents euro euros usd eur gbp rupees percent
    percentage pct unit units square squared cubic cubed sq cu per people students ways points \\omega
    """
)
"""Units after a number, in lower case; also what is counted most often."""

ENGLISH = _words(
    """
    all am an and any are as at be but by can did do for get go had has he her him his how if in is it its let
    may me my new no not now of off old on one or our out per pm put say see set she so sum the to too top two
    up us use via was way we who why yes yet you
    """
)
"""Words of two and three letters. Other letters, as `xy`, are a product of variables."""
