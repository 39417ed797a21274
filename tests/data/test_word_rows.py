"""A word per row, as spreadsheets and data frames have tagged text: put together where that is plain, else refused."""

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load

WORDS, LABELS = [["Anna", "sings"], ["he", "ran"]], [[1, 0], [0, 0]]
KAGGLE = "Sentence #,Word,POS,Tag\nSentence: 1,Anna,NNP,B-per\n,sings,VBZ,O\nSentence: 2,he,PRP,O\n,ran,VBD,O\n"
GAPS = "word,tag\nAnna,B-per\nsings,O\n\nhe,O\nran,O\n"
EACH_ROW = "sentence_id,words,labels\n0,Anna,B-per\n0,sings,O\n1,he,O\n1,ran,O\n"
DOCUMENTS = "doc,sentence_id,token,ner\na,1,Anna,B-per\na,1,sings,O\nb,1,he,O\nb,1,ran,O\n"
TASK = "token-classification"


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (KAGGLE, "column 'Sentence #'"),
        (EACH_ROW, "column 'sentence_id'"),
        (EACH_ROW.replace("0,", "0.0,").replace("1,", "1.0,"), "column 'sentence_id'"),
        (DOCUMENTS, "column 'sentence_id'"),
        (GAPS, "empty lines"),
        (GAPS.replace("\n\n", "\n,\n"), "empty lines"),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_words_become_sentences(tmp_path, text, how, separator):
    path = tmp_path / {",": "a.csv", "\t": "a.tsv"}[separator]
    path.write_text(text.replace(",", separator))
    data = load(path, split="all", task=TASK)
    assert (data.columns, data.label_names) == ({"words": WORDS, "labels": LABELS}, ("O", "B-per", "I-per"))
    assert f"a word per row, sentences told by {how}" in data.notes
    if how != "empty lines":
        assert load(path, split="all").columns == data.columns


def test_lists_written_as_text_are_no_words(tmp_path):
    rows = "\"['Anna', 'sings']\",\"['B-per', 'O']\"\n\"['he', 'ran']\",\"['O', 'O']\"\n"
    (tmp_path / "a.csv").write_text("words,tags\n" + rows)
    assert load(tmp_path / "a.csv", split="all", task=TASK).columns == {"words": WORDS, "labels": LABELS}


def test_frames(tmp_path):
    pandas = pytest.importorskip("pandas")
    (tmp_path / "a.csv").write_text(KAGGLE)
    frame = pandas.read_csv(tmp_path / "a.csv")
    for source in (frame, frame.ffill()):
        assert load(source, split="all").columns == {"words": WORDS, "labels": LABELS}


def test_shards_begin_sentences_of_their_own(tmp_path):
    for index, words in enumerate(("Anna,B-per\nsings,O\n", "he,O\nran,O\n")):
        (tmp_path / f"train-0000{index}-of-00002.csv").write_text("word,tag\n" + words)
    assert load(tmp_path, split="all", task=TASK).columns == {"words": WORDS, "labels": LABELS}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GAPS.replace("\n\n", "\n"), "neither a column nor empty lines say where a sentence ends"),
        (EACH_ROW + "0,again,O\n", "line 6: sentence '0' began at line 2 and others lie between"),
        ("words,labels\nAnna sings,B-per O\nhe ran,O O\n", "'Anna sings' in column 'words' is more than a word"),
    ],
)
def test_what_is_not_plain_is_refused(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ArenaError, match=reason):
        load(tmp_path / "a.csv", split="all", task=TASK)
    with pytest.raises(ArenaError, match="no column says the sentence"):
        load({"word": ["a", "b"], "tag": ["O", "O"]}, split="all", task=TASK)


def test_a_bad_row_costs_its_sentence(tmp_path):
    whole = "".join(f"{number},w,O\n{number},x,B-per\n" for number in range(60))
    bad = "60,,O\n60,y,O\n61,a,O\n61,b\n61,c,O\n"
    (tmp_path / "a.csv").write_text("sentence_id,word,tag\n" + whole + bad)
    data = load(tmp_path / "a.csv", split="all", task=TASK)
    assert len(data) == 60
    (note,) = (note for note in data.notes if "left out" in note)
    assert note.startswith("2 of 62 records left out: line 122 has no word in column 'word'; line 125 has 2 fields")


def test_a_text_with_its_words_is_still_a_text(tmp_path):
    (tmp_path / "a.csv").write_text("sentence,word,label\nthe bank of 1 river,bank,0\na bank of 2 towns,bank,1\n")
    assert load(tmp_path / "a.csv", split="all").task == "sequence-classification"


def test_names_of_columns_above_words_are_no_word(tmp_path):
    for name in ("a.conll", "a.tsv"):
        (tmp_path / name).write_text(GAPS.replace(",", "\t"))
        assert load(tmp_path / name, split="all", task=TASK).columns == {"words": WORDS, "labels": LABELS}
