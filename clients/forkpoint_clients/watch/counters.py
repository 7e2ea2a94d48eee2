"""A server's /metrics page, looked at twice: what has been counted in between."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

COUNTED = ("counter", "histogram", "summary")


@dataclass(frozen=True)
class Sample:
    """One line of the page."""

    labels: Mapping[str, str]
    value: float
    counted: bool  # it only grows, as long as the server runs


Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The page as it was once, by the samples' names and labels; `seconds` on a clock that only goes forward."""

    seconds: float
    samples: Mapping[str, Mapping[Labels, Sample]]

    def chosen(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, Sample]]:
        """All samples of this name with these labels, among others."""
        for key, sample in self.samples.get(name, {}).items():
            if labels.items() <= sample.labels.items():
                yield key, sample

    def value(self, name: str, labels: Labels) -> float:
        """What one sample is; 0 where it is not there, as a counter is before its first event."""
        sample = self.samples.get(name, {}).get(labels)
        return 0.0 if sample is None else sample.value


def read(page: str, seconds: float) -> Scrape:
    """Read a page in Prometheus' text format. Raises ValueError for what is no such page."""
    found: dict[str, dict[Labels, Sample]] = {}
    for family in text_string_to_metric_families(page):
        for line in family.samples:
            labels = frozenset(line.labels.items())
            found.setdefault(line.name, {})[labels] = Sample(line.labels, line.value, family.type in COUNTED)
    return Scrape(seconds, found)


@dataclass(frozen=True)
class ScrapeDelta:
    """What was counted between two looks, and what is so at the second."""

    before: Scrape
    now: Scrape

    @property
    def seconds(self) -> float:
        return self.now.seconds - self.before.seconds

    def counted(self, name: str, **labels: str) -> float:
        """By how much a counter grew, summed over all series with these labels."""
        return sum(sample.value - self.before.value(name, key) for key, sample in self.now.chosen(name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """A counter's growth per second."""
        return self.counted(name, **labels) / self.seconds if self.seconds > 0 else 0.0

    def mean(self, name: str, **labels: str) -> float | None:
        """The mean of what a histogram or summary observed; None when it observed nothing."""
        times = self.counted(f"{name}_count", **labels)
        return self.counted(f"{name}_sum", **labels) / times if times > 0 else None

    def is_now(self, name: str, **labels: str) -> float:
        """What a gauge is, or a counter since the server started, summed over all series with these labels."""
        return sum(sample.value for _, sample in self.now.chosen(name, labels))

    def values(self, name: str, label: str, **labels: str) -> list[str]:
        """The values that a label takes."""
        return sorted({sample.labels.get(label, "") for _, sample in self.now.chosen(name, labels)})

    def has(self, name: str) -> bool:
        return name in self.now.samples


@dataclass
class ScrapeWindow:
    """The looks of the last `seconds`; those before a restart of the server are forgotten."""

    seconds: float
    looks: deque[Scrape] = field(default_factory=deque)

    def add(self, look: Scrape) -> ScrapeDelta:
        """Take a look in; what happened since the oldest one."""
        if self.looks and _restarted(self.looks[-1], look):
            self.looks.clear()
        self.looks.append(look)
        while len(self.looks) > 2 and look.seconds - self.looks[1].seconds >= self.seconds:
            self.looks.popleft()
        return ScrapeDelta(self.looks[0], look)

    def along(self, figure: Callable[[ScrapeDelta], float | None]) -> list[float | None]:
        """A figure between each look and the next."""
        return [figure(ScrapeDelta(before, now)) for before, now in itertools.pairwise(self.looks)]


def _restarted(before: Scrape, now: Scrape) -> bool:
    return any(
        sample.counted and now.value(name, key) < sample.value
        for name, named in before.samples.items()
        if name.startswith("forkpoint_")
        for key, sample in named.items()
    )
