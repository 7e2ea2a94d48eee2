"""Scrapes of a server's /metrics page, and what was counted between two of them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

CUMULATIVE_TYPES = ("counter", "histogram", "summary")


@dataclass(frozen=True)
class Sample:
    """One line of the page."""

    labels: Mapping[str, str]
    value: float
    cumulative: bool  # never decreases while the server runs


Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The page at one time, by the samples' names and labels; `seconds` on a monotonic clock."""

    seconds: float
    samples: Mapping[str, Mapping[Labels, Sample]]

    def matching(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, Sample]]:
        """All samples of this name that have these labels, and perhaps others."""
        for key, sample in self.samples.get(name, {}).items():
            if labels.items() <= sample.labels.items():
                yield key, sample

    def value(self, name: str, labels: Labels) -> float:
        """The value of one sample; 0 if it is absent, as a counter is before its first event."""
        sample = self.samples.get(name, {}).get(labels)
        return 0.0 if sample is None else sample.value


def read(page: str, seconds: float) -> Scrape:
    """Parse a page in Prometheus' text format. Raises ValueError if it is not one."""
    samples: dict[str, dict[Labels, Sample]] = {}
    for family in text_string_to_metric_families(page):
        for line in family.samples:
            labels = frozenset(line.labels.items())
            samples.setdefault(line.name, {})[labels] = Sample(line.labels, line.value, family.type in CUMULATIVE_TYPES)
    return Scrape(seconds, samples)


@dataclass(frozen=True)
class ScrapeDelta:
    """The counts between two scrapes, and the gauges of the second."""

    before: Scrape
    now: Scrape

    @property
    def seconds(self) -> float:
        return self.now.seconds - self.before.seconds

    def increase(self, name: str, **labels: str) -> float:
        """The increase of a counter, summed over all series with these labels."""
        return sum(sample.value - self.before.value(name, key) for key, sample in self.now.matching(name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """The increase of a counter per second."""
        return self.increase(name, **labels) / self.seconds if self.seconds > 0 else 0.0

    def mean(self, name: str, **labels: str) -> float | None:
        """The mean observation of a histogram or summary; None without observations."""
        times = self.increase(f"{name}_count", **labels)
        return self.increase(f"{name}_sum", **labels) / times if times > 0 else None

    def current(self, name: str, **labels: str) -> float:
        """A gauge, or a counter since the server started, summed over all series with these labels."""
        return sum(sample.value for _, sample in self.now.matching(name, labels))

    def values(self, name: str, label: str, **labels: str) -> list[str]:
        """The values that a label takes."""
        return sorted({sample.labels.get(label, "") for _, sample in self.now.matching(name, labels)})

    def has(self, name: str) -> bool:
        return name in self.now.samples


@dataclass
class ScrapeWindow:
    """The scrapes of the last `seconds`; a restart of the server discards the earlier ones."""

    seconds: float
    scrapes: deque[Scrape] = field(default_factory=deque)

    def add(self, scrape: Scrape) -> ScrapeDelta:
        """Add a scrape. Returns the delta from the oldest one."""
        if self.scrapes and _restarted(self.scrapes[-1], scrape):
            self.scrapes.clear()
        self.scrapes.append(scrape)
        while len(self.scrapes) > 2 and scrape.seconds - self.scrapes[1].seconds >= self.seconds:
            self.scrapes.popleft()
        return ScrapeDelta(self.scrapes[0], scrape)

    def along(self, figure: Callable[[ScrapeDelta], float | None]) -> list[float | None]:
        """A figure between each scrape and the next, oldest first."""
        return [figure(ScrapeDelta(before, now)) for before, now in itertools.pairwise(self.scrapes)]


def _restarted(before: Scrape, now: Scrape) -> bool:
    """Whether a counter has fallen. One that is gone says nothing: the server removes those of deleted policies."""
    return any(
        sample.cumulative and key in now.samples.get(name, {}) and now.value(name, key) < sample.value
        for name, named in before.samples.items()
        if name.startswith("forkpoint_")
        for key, sample in named.items()
    )
