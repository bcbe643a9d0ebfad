import pytest

from streams.upstream import PINNED, UnsupportedVersion, check_versions


def test_the_installed_versions_are_the_ones_the_counter_measures_were_written_for() -> None:
    check_versions()


@pytest.mark.parametrize("name", sorted(PINNED))
def test_another_version_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(UnsupportedVersion, match=rf"{name} 99\.0 .* streams/upstream\.py"):
        check_versions({**PINNED, name: "99.0"})
