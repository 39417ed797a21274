"""Schemes of entity tags: recognised, completed, and read as seqeval reads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.data import Dataset, load
from arena_jax.data.tags import scheme_of, why_no_scheme
from arena_jax.training.entities import entities


def typed(prefixes, delimiter="-", kinds=("x", "y")):
    return ["O", *(f"{prefix}{delimiter}{kind}" for prefix in prefixes for kind in kinds)]


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (typed("BI"), "BIO"),
        (typed("I"), "BIO"),
        (typed("IE"), "IOE"),
        (typed("BIES"), "BIOES"),
        (typed("BILU"), "BILOU"),
        (typed("BMES"), "BMES"),
        (typed("BMEW"), "BMEWO"),
        (typed("BMES", "_"), "BMES"),
        (typed("BI", "_"), "BIO"),
        (["O", "B", "I"], "BIO"),
        (["B", "M", "E", "S"], "BMES"),
        (["O", "B-x", "I-x", "X"], "BIO"),
        (["O", "0", "B-x", "I-x"], "BIO"),
        (["O", "[CLS]", "B-x"], "BIO"),
        (["O", "B-creative-work", "I-creative-work"], "BIO"),
    ],
)
def test_recognised(names, scheme):
    assert scheme_of(names).name == scheme
    assert why_no_scheme(names) == ""


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["NOUN", "VERB"], "'NOUN' has no prefix"),
        (["O", "B-x", "NOUN"], "'NOUN' has no prefix"),
        (typed("LM"), "belong to no one scheme"),
        (["O", "B-x", "I_x"], "both - and _"),
        (["O", "B", "I-x"], "has no type"),
        (["O"], "no tag marks an entity"),
        (["O", "Q-x"], "'Q-x' has no prefix"),
    ],
)
def test_not_recognised_and_why(names, why):
    assert scheme_of(names) is None
    assert why in why_no_scheme(names)


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (["B-x", "O"], ("O", "B-x", "I-x")),
        (["S-x", "B-x", "E-x", "O"], ("O", "B-x", "E-x", "I-x", "S-x")),
        (["U-x", "O"], ("O", "B-x", "I-x", "L-x", "U-x")),
        (["M_x", "O"], ("O", "B_x", "E_x", "M_x", "S_x")),
        (["B", "O"], ("O", "B", "I")),
        (["NOUN", "VERB"], ("NOUN", "VERB")),
    ],
)
def test_completed_within_their_scheme(tags, names):
    data = load([["w"] * len(tags)], [tags], split="all", task="token-classification")
    assert data.label_names == names


def test_said_in_the_report():
    report = Dataset(
        "d", "token-classification", "all", {"words": [["a"]], "labels": [[0]]}, tuple(typed("BMES"))
    ).report()
    assert "entities in BMES, read as IOBES" in report[0]
    report = Dataset("d", "token-classification", "all", {"words": [["a"]], "labels": [[0]]}, ("NOUN", "VERB")).report()
    assert "mark no entities ('NOUN' has no prefix of a scheme)" in report[0]


SEQUENCES = st.lists(st.sampled_from(typed("BILU")), max_size=10)


@settings(max_examples=1000, deadline=None)
@given(tags=SEQUENCES)
def test_bilou_is_seqevals_strict_mode(tags):
    scheme = pytest.importorskip("seqeval.scheme")
    found = scheme.Entities([tags], scheme.BILOU)
    theirs = [(entity.tag, entity.start, entity.end - 1) for entity in found.entities[0]]
    assert entities(tags, scheme_of(typed("BILU"))) == theirs


@settings(max_examples=500, deadline=None)
@given(tags=st.lists(st.sampled_from(typed("BMES", "_")), max_size=10))
def test_bmes_is_iobes_translated_first(tags):
    reference = pytest.importorskip("seqeval.metrics.sequence_labeling")
    iobes = [tag.replace("M_", "I_").replace("_", "-") for tag in tags]
    assert entities(tags, scheme_of(typed("BMES", "_"))) == reference.get_entities(iobes)
