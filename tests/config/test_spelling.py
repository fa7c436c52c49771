"""The word that was probably meant."""

import pytest

from micro_framework.config.spelling import edit_distance, nearest


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "acb", 1),
        ("abc", "ab", 1),
        ("URL", "URI", 1),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),
    ],
)
def test_distance_counts_edits_and_swaps(left, right, distance):
    assert edit_distance(left, right) == distance
    assert edit_distance(right, left) == distance


def test_the_nearest_word_is_found_whatever_its_case():
    assert nearest("amqp_url", ["AMQP_URI", "AMQP_SSL"]) == "AMQP_URI"
    assert nearest("serialiser", ["SERIALIZERS", "serializer"]) == "serializer"
    assert nearest("AMQP_HOST", ["AMQP_URI"]) is None
    assert nearest("abcd", ["abcx", "abcy"], limit=1) == "abcx"
