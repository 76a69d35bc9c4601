"""Published face measurements the built-in face is made to agree with.

Means and standard deviations in mm of adults, from the head-and-face survey of the United States National Institute for
Occupational Safety and Health: Z. Zhuang and B. Bradtmiller, "Head-and-Face Anthropometric Survey of U.S. Respirator
Users", Journal of Occupational and Environmental Hygiene 2(11), 567-576, 2005.
"""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    """One measurement of men and women: means and standard deviations in mm."""

    men: float
    men_sd: float
    women: float
    women_sd: float

    @property
    def mean(self) -> float:
        """Mean of a population of as many women as men."""
        return 0.5 * (self.men + self.women)

    @property
    def sd(self) -> float:
        """Standard deviation of that population: within and between the sexes."""
        within = 0.5 * (self.men_sd**2 + self.women_sd**2)
        return (within + (0.5 * (self.men - self.women)) ** 2) ** 0.5

    @property
    def half_difference(self) -> float:
        """Half the difference between the means of men and women."""
        return 0.5 * (self.men - self.women)


FACTS: dict[str, Fact] = {
    "face_width": Fact(143.5, 6.9, 135.1, 6.5),
    "jaw_width": Fact(120.4, 10.4, 110.1, 8.8),
    "forehead_width": Fact(105.5, 5.7, 102.9, 5.4),
    "face_height": Fact(122.7, 7.0, 113.4, 6.1),
    "nose_length": Fact(52.0, 4.1, 48.2, 3.8),
    "nose_breadth": Fact(36.6, 4.1, 33.2, 3.9),
    "nose_protrusion": Fact(21.1, 2.7, 19.8, 2.7),
    "nose_root_breadth": Fact(16.6, 2.3, 16.3, 2.0),
    "lip_width": Fact(51.1, 4.2, 48.0, 4.0),
    "interpupillary": Fact(64.5, 3.6, 61.9, 3.5),
    "head_breadth": Fact(153.0, 6.0, 146.8, 5.6),
}
