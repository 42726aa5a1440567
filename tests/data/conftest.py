"""A phantom series shared by the tests of files."""

import pytest
from volumes import phantom


@pytest.fixture(scope="module")
def deep():
    """A series of 25 slices, and its affine."""
    return phantom(25)
