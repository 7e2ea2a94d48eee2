"""Segments cover the text, are within their maximum number, and start where the prefix cache ends."""

from itertools import pairwise

import numpy as np
import pytest

from forkpoint_server.fork_analysis.segments import Segment, split


@pytest.mark.parametrize("seed", range(200))
def test_segments_partition_the_text_at_block_boundaries(seed: int) -> None:
    random = np.random.default_rng(seed)
    length, prompt, most = (int(random.integers(1, top)) for top in (3000, 500, 80))
    block = int(random.choice([1, 16, 32, 128]))
    found = split(length, prompt, block, most)
    assert [found[0].begin, found[-1].end] == [0, length]
    assert all(one.end == other.begin for one, other in pairwise(found))
    assert all(one.begin < one.end for one in found)
    assert len(found) <= most
    assert all((prompt + one.begin - 1) % block == 0 for one in found[1:])


def test_segments_are_of_equal_length() -> None:
    found = split(1000, 25, 32, 8)
    assert {one.end - one.begin for one in found[1:-1]} == {160}
    assert all(one.end - one.begin <= 160 for one in found)


def test_a_short_text_or_an_engine_for_one_request_gives_one_segment() -> None:
    assert split(5, 3, 32, 64) == [Segment(0, 5)]
    assert split(5000, 3, 32, 1) == [Segment(0, 5000)]
