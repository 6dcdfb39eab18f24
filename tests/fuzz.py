"""What tests of anything-goes inputs share: arbitrary JSON, and the promise that a refusal names the file."""

from contextlib import contextmanager

from hypothesis import strategies as st

WORDS = ["a", "b", "0", "1", "-1", "", "\0", "phantom_000"]
LEAF = st.none() | st.booleans() | st.integers(-9, 999) | st.floats() | st.sampled_from(WORDS)
JSON = st.recursive(LEAF, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("ab01"), v, max_size=3))


@contextmanager
def refused_by_name(*names):
    """What is inside ends well, or with a ValueError that has one of these names in it; any other error fails."""
    try:
        yield
    except ValueError as error:
        if not any(str(name) in str(error) for name in names):
            raise AssertionError(f"names no file: {error}") from error
