import random
import re

import pytest

from tests.emulator.patterns import Unmatched, text_for

PATTERNS = [
    r"^[+-][0-9]{1,3}\.[0-9]$",
    r"^-?[0-9]{1,7}$",
    r"^((High wind|Low wind)( [A-Za-zÀ-ž]+([_'-][A-Za-zÀ-ž]+)*[,;]?){2,28}\.)?$",
    r"^(a|bc)\1[^a-z]\d+\w\s.$",
    r"x{2,}?y*",
    r"^[^\d\s]+$",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_text_matches_its_expression_and_they_differ(pattern) -> None:
    texts = [text_for(pattern, random.Random(seed)) for seed in range(200)]
    assert all(re.search(pattern, text) for text in texts)
    assert len(set(texts)) > 5


def test_letters_that_may_repeat_become_words() -> None:
    texts = {text_for(r"^[a-z]+$", random.Random(seed)) for seed in range(50)}
    assert "wind" in texts


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"a\bb", r"^[\D]$"])
def test_what_no_text_is_known_for_is_said(pattern) -> None:
    with pytest.raises(Unmatched):
        text_for(pattern, random.Random(0))
