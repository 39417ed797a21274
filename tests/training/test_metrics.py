"""Scores against seqeval, scikit-learn and the words of the official SQuAD script."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_jax.config.errors import ArenaError
from arena_jax.data import Dataset, encode, train_tokenizer
from arena_jax.training import metrics

TAGS = ["O", "B-per", "I-per", "B-loc", "I-loc", "I-creative-work", "B-creative-work", "E-per", "S-loc", "E-loc"]
SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(range(7)), st.sampled_from(range(7))), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)


@settings(max_examples=2000, deadline=None)
@given(tags=st.lists(st.sampled_from(TAGS), max_size=14))
def test_entities_are_seqevals(tags):
    reference = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert metrics.entities(tags) == reference.get_entities(tags)


@settings(max_examples=400, deadline=None)
@given(sentences=SENTENCES, ignored=st.integers(0, 3), split=st.integers(0, 6))
def test_entity_scores_are_seqevals_in_batches_of_any_size(sentences, ignored, split):
    reference = pytest.importorskip("seqeval.metrics")
    length = max(map(len, sentences)) + ignored
    labels = np.full((len(sentences), length), -100)
    predictions = np.ones_like(labels)  # what is ignored must not matter
    for row, pairs in enumerate(sentences):
        labels[row, ignored : ignored + len(pairs)], predictions[row, ignored : ignored + len(pairs)] = zip(
            *pairs, strict=True
        )
    sums = metrics.total(
        metrics.entity_sums(labels[part], predictions[part], TAGS) for part in (slice(None, split), slice(split, None))
    )
    scores = metrics.ratios(sums)
    true = [[TAGS[tag] for tag, _ in pairs] for pairs in sentences]
    predicted = [[TAGS[tag] for _, tag in pairs] for pairs in sentences]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where it defines 0/0 as 0
        assert scores["entity_f1"] == pytest.approx(reference.f1_score(true, predicted), abs=1e-12)
        assert scores["entity_precision"] == pytest.approx(reference.precision_score(true, predicted), abs=1e-12)
        assert scores["entity_recall"] == pytest.approx(reference.recall_score(true, predicted), abs=1e-12)


def test_rows_that_are_not_valid_do_not_count():
    labels = predictions = np.asarray([[1, 2], [1, 2]])
    assert metrics.entity_sums(labels, predictions, TAGS, [True, False])["entities_true"] == 1


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
    batch=st.integers(1, 7),
)
def test_accuracy_is_scikit_learns_whatever_the_batches(rows, batch):
    reference = pytest.importorskip("sklearn.metrics")
    true, predicted = map(list, zip(*rows, strict=True))
    sums = metrics.total(
        {
            "correct": sum(a == b for a, b in rows[at : at + batch]),
            "count": np.float32(len(rows[at : at + batch])),
            "loss_sum": float(sum(true[at : at + batch])),
        }
        for at in range(0, len(rows), batch)
    )
    scores = metrics.ratios(sums)
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted))
    assert scores["loss"] == pytest.approx(np.mean(true))


def test_language_scores_of_a_uniform_model_are_known():
    # Guessing each of 10 bytes among 256 costs log(256) nats each: perplexity 256, 8 bits per byte.
    scores = metrics.ratios({"loss_sum": 10 * math.log(256), "count": 10, "bytes": 10})
    assert scores["perplexity"] == pytest.approx(256)
    assert scores["bits_per_byte"] == pytest.approx(8)
    # The same text in tokens of two bytes costs the same bits.
    scores = metrics.ratios({"loss_sum": 5 * math.log(256**2), "count": 5, "bytes": 10})
    assert scores["bits_per_byte"] == pytest.approx(8)
    assert metrics.ratios({"loss_sum": 1e6, "count": 1, "bytes": 1})["perplexity"] == math.inf


def test_a_score_over_nothing_is_nan_or_zero():
    scores = metrics.ratios({"loss_sum": 0, "count": 0, "correct": 0, "bytes": 0})
    assert all(math.isnan(score) for score in scores.values())
    nothing = {"entities_true": 0.0, "entities_predicted": 0.0, "entities_correct": 0.0}
    assert set(metrics.ratios(nothing).values()) == {0.0}


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        # Worked by hand from the official script's steps: lower case, no punctuation, no articles, single spaces.
        ("The Norman-conquest.", ["normanconquest"], 1.0, 1.0),
        ("in  the 10th  century", ["10th century", "in 10th century"], 1.0, 1.0),
        ("10th and 11th centuries", ["in the 10th and 11th centuries"], 0.0, 2 * 1.0 * 0.8 / 1.8),
        (
            "a a b b b",
            ["b b"],
            0.0,
            2 * (2 / 3) * 1.0 / (5 / 3),
        ),  # a word counts as often as it occurs
        ("Denver", ["Carolina"], 0.0, 0.0),
        ("Denver", ["Carolina", "Denver Broncos", "broncos"], 0.0, 2 / 3),  # the best of several people
        ("the", ["the"], 1.0, 0.0),  # version 1.1: nothing is left to share
        ("“Denver”", ["Denver"], 0.0, 0.0),  # only ASCII punctuation goes
        ("", [], 1.0, 1.0),  # version 2: rightly no answer
        ("Denver", [], 0.0, 0.0),
    ],
)
def test_answers_are_scored_as_the_official_script_does(prediction, answers, exact, f1):
    assert metrics.answer_scores(prediction, answers) == pytest.approx((exact, f1))


WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="module")
def questions():
    context = " ".join(WORDS)
    columns = {
        "id": ["a", "b"],
        "question": ["where is w7", "w50"],
        "context": [context, context],
        "answers": [[(f"w{n}", context.index(f"w{n}"))] for n in (7, 50)],
    }
    data = Dataset("made up", "question-answering", "train", columns)
    return encode(data, train_tokenizer(data, "bert", min_frequency=1), max_length=32, stride=8)


def perfect_logits(rows):
    length = rows.lengths[-1]
    logits = np.zeros((len(rows), length, 2), np.float32)
    for row in range(len(rows)):
        if rows.columns["end_positions"][row]:
            logits[row, rows.columns["start_positions"][row], 0] = 10
            logits[row, rows.columns["end_positions"][row], 1] = 10
    return logits


def test_the_best_span_over_all_windows_is_the_answer(questions):
    logits = perfect_logits(questions)
    order = np.random.default_rng(0).permutation(len(questions))
    outputs = []
    for part in np.array_split(order, 3):
        batch = questions.batch(part)
        outputs.append((batch, {"span_logits": logits[part]}))
    scores = metrics.finalize(questions, {"loss_sum": 1.0, "count": 2.0}, outputs)
    assert scores == {"loss": 0.5, "exact_match": 1.0, "f1": 1.0}


def brute_force(rows, logits, n_best, longest):
    """Every pair of positions, one by one."""
    best = {}
    for row in range(len(rows)):
        spans = rows.offsets[row]
        size = len(spans)
        top = [sorted(range(size), key=lambda i, k=k, row=row: -logits[row, i, k])[:n_best] for k in (0, 1)]
        for i in top[0]:
            for j in top[1]:
                if spans[i, 0] < 0 or spans[j, 0] < 0 or j < i or j - i + 1 > longest:
                    continue
                score = float(logits[row, i, 0]) + float(logits[row, j, 1])
                example = int(rows.columns["example_index"][row])
                if example not in best or score > best[example][0]:
                    best[example] = (score, spans[i, 0], spans[j, 1])
    contexts = rows.source.columns["context"]
    return [contexts[e][best[e][1] : best[e][2]] if e in best else "" for e in range(len(contexts))]


@pytest.mark.parametrize("seed", range(20))
def test_decoding_equals_trying_every_pair(questions, seed):
    logits = np.random.default_rng(seed).normal(size=(len(questions), questions.lengths[-1], 2)).astype(np.float32)
    answers = metrics.Answers(questions, n_best=5, max_answer_length=3)
    answers.add(np.arange(len(questions)), logits[..., 0], logits[..., 1])
    assert answers.texts() == brute_force(questions, logits, 5, 3)


def test_answers_need_all_rows_of_questions(questions):
    answers = metrics.Answers(questions)
    with pytest.raises(ArenaError, match="2 of 2 questions have no logits"):
        answers.texts()
    text = Dataset("t", "language-model", "train", {"text": ["some text"]})
    with pytest.raises(ArenaError, match="question-answering only"):
        metrics.Answers(encode(text, train_tokenizer(text, "gpt2"), max_length=8))


def test_no_answer_wins_where_the_data_has_questions_without_one():
    columns = {"id": ["a"], "question": ["w1"], "context": [" ".join(WORDS[:9])], "answers": [[]]}
    data = Dataset("two", "question-answering", "train", columns)
    rows = encode(data, train_tokenizer(data, "bert", min_frequency=1), max_length=32)
    logits = np.zeros((len(rows), rows.lengths[-1]))
    for null, expected in ((1.0, 1.0), (-1.0, 0.0)):
        logits[:, 0] = null
        answers = metrics.Answers(rows)
        answers.add(np.arange(len(rows)), logits, logits)
        assert metrics.ratios(answers.sums())["exact_match"] == expected


def test_people_agree_with_themselves_on_real_squad(arena_data):
    articles = json.loads((arena_data / "squad" / "dev.json").read_text())["data"]
    for article in articles[:2]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [answer["text"] for answer in question["answers"]]
                exact, f1 = metrics.answer_scores(answers[-1], answers)
                assert exact == 1.0
                assert f1 == 1.0 or not metrics.normalize_answer(answers[-1])


def test_tagging_scores_come_from_the_rows():
    data = Dataset(
        "tags", "token-classification", "train", {"words": [["a", "b"], ["c", "d"]], "labels": [[1, 2], [0, 1]]}, TAGS
    )
    rows = encode(data, train_tokenizer(data, "bert", min_frequency=1), max_length=8)
    batch = rows.batch(np.arange(2))
    predictions = np.where(batch["labels"] < 0, 0, batch["labels"])
    scores = metrics.finalize(rows, {"loss_sum": 0.0, "count": 4.0}, [(batch, {"predictions": predictions})])
    assert scores["entity_f1"] == 1.0
