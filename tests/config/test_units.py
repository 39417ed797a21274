"""Amounts are read as people write them; what is none is refused before anything is built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_jax.config import ArenaConfig
from arena_jax.config.errors import ArenaError
from arena_jax.config.units import parse_memory, parse_spend
from arena_jax.runtime import parse_bytes

NUMBERS = st.sampled_from(["0", "1", "0.9", ".5", "150", "1e3", "100", "101", "1.5", "-1", "", "x", "1.", "1e-3"])
UNITS = st.sampled_from(["", "B", "kB", " MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB", "%", "PB", "s", "gigs", "M B"])


@given(NUMBERS, UNITS)
def test_what_is_refused_early_is_what_the_device_would_refuse(number, unit):
    told = []
    for read in (parse_memory, parse_bytes):
        try:
            read(number + unit)
        except ArenaError as error:
            told.append(str(error))
        else:
            told.append(None)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("text", "of", "amount"),
    [("150s", "seconds", 150), ("10 min", "seconds", 600), ("1.5h", "seconds", 5400), ("20tflop", "flops", 2e13)],
)
def test_what_a_run_may_spend(text, of, amount):
    assert parse_spend(text) == (of, amount)


@pytest.mark.parametrize("text", ["150", "0s", "-1s", "ten minutes", "5 EUR", "1e400s"])
def test_what_is_no_amount_is_refused_with_the_configuration(text):
    with pytest.raises(ArenaError, match=r"--spend is '.*': it must be device time \(150s"):
        ArenaConfig(spend=text)
    with pytest.raises(ArenaError, match="memory budget 'lots' is not an amount"):
        ArenaConfig(memory_budget="lots")
