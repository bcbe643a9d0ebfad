"""A page that is written is read back as the memory it was, whatever the entity is called."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import ENTITY_LIMIT, MemoryRevision
from streams.page import Page, read_page, write_page

texts = st.text(st.characters(codec="utf-8"), max_size=60)
entities = st.text(st.characters(codec="utf-8"), min_size=1, max_size=ENTITY_LIMIT)


@given(entity=entities, by=texts, after=texts, number=st.integers(0, 10**9))
def test_whose_page_it_is_which_revision_and_its_text_are_read_back(entity: str, by: str, after: str, number: int) -> None:
    made_at = datetime(2024, 1, 1, tzinfo=UTC)
    revision = MemoryRevision(
        entity=entity, revision=number, cause="command", op="edit", accepted=True, after=after, by=by, made_at=made_at
    )
    page = read_page(write_page(entity, revision))
    assert page == Page(after + "\n" if after else "", entity, number)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "Notes:\n- Calm.",
        "# Notes\n- Calm.",
        "# revision 3 of seattle\n- Calm.",
        '# revision x of "a": edit\n',
        '# revision 1 of "\\x"\n',
        "\n",
    ],
)
def test_what_has_no_such_first_line_is_all_text(written: str) -> None:
    assert read_page(written) == Page(written)
