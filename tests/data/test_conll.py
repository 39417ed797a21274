"""Words with tags, in the forms in which people have them."""

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.data import load


def words(tmp_path, text, **options):
    path = tmp_path / "a.conll"
    path.write_text(text)
    data = load(path, split="all", **options)
    tags = [[data.label_names[tag] for tag in row] for row in data.columns["labels"]]
    return [list(zip(row, own, strict=True)) for row, own in zip(data.columns["words"], tags, strict=True)], data


ANNA = [[("Anna", "B-PER"), ("sings", "O")]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna B-PER\nsings O\n", ANNA),
        ("# id a1\tdomain=x\nAnna _ _ B-PER\nsings _ _ O\n", ANNA),
        ("#begin document (bc/x); part 000\nAnna B-PER\nsings O\n\n#end document\n", ANNA),
        ("# sent_id = 1\n# text = Anna sings\nAnna\tB-PER\nsings\tO\n", ANNA),
        ("# newdoc\nAnna NNP B-PER\n# mid comment here too\nsings VBZ O\n", ANNA),
        ("-DOCSTART- -X- O O\n\nAnna NNP B-NP B-PER\nsings VBZ B-VP O\n", ANNA),
        ("#win\tB-PER\n#\tO\nnow\tO\n", [[("#win", "B-PER"), ("#", "O"), ("now", "O")]]),
        ("1\tAnna\tB-PER\tO\n2\tsings\tO\tO\n", ANNA),
        ("0 Anna B-PER\n1 sings O\n\n0 he O\n", [*ANNA, [("he", "O")]]),
        (
            "1\tIm\tO\tO\n2\tKiel\tB-LOC\tB-PER\n3\tlebt\tO\tO\n4\tAnna\tB-PER\tO\n",  # GermEval: outer before inner
            [[("Im", "O"), ("Kiel", "B-LOC"), ("lebt", "O"), ("Anna", "B-PER")]],
        ),
        (
            "1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_\n1\tin\tin\tADP\t_\t_\t3\tcase\t_\t_\n2\tdem\tder\tDET\t_\t_\t3\tdet\t_\t_\n"
            "2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_\n3\tHaus\tHaus\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No\n",
            [[("in", "ADP"), ("dem", "DET"), ("Haus", "NOUN")]],
        ),
        ("bc/x 0 0 Anna NNP B-PER\nbc/x 0 1 sings VBZ O\n", ANNA),  # OntoNotes: document, part, number, word
    ],
)
def test_forms(tmp_path, text, expected):
    assert words(tmp_path, text)[0] == expected


def test_what_was_left_out_and_chosen_is_said(tmp_path):
    data = words(tmp_path, "# sent_id = 1\n1\tAnna\tNNP\tB-PER\n2\tsings\tVBZ\tO\n")[1]
    assert "1 comment lines left out" in data.notes
    assert "field 1 numbers the words; field 2 is the word" in data.notes
    assert "4 fields a line: the tag is field 4; not used: field 3 (label='field 3' takes another)" in data.notes
    other = words(tmp_path, "1\tAnna\tNNP\tB-PER\n2\tsings\tVBZ\tO\n", columns={"label": "field 3"})[0]
    assert other == [[("Anna", "NNP"), ("sings", "VBZ")]]


def test_names_of_conll_2003(tmp_path):
    for split, word in (("train", "a"), ("testa", "b"), ("testb", "c")):
        (tmp_path / f"eng.{split}").write_text(f"{word} NNP B-NP I-PER\n. . O O\n")
    for split, word in (("all", "a"), ("validation", "b"), ("test", "c")):
        assert load(tmp_path, split=split, task="token-classification").columns["words"] == [[word, "."]]


def test_tsv_with_words_and_tags(tmp_path):
    text = "#\thttp://a [2009]\n1\tAnna\tB-PER\tO\n2\tsings\tO\tO\n\n#\thttp://b\n1\the\tO\tO\n2\tran\tO\tO\n"
    (tmp_path / "NER-de-train.tsv").write_text(text)
    for task in ("token-classification", None):
        data = load(tmp_path, split="all", task=task)
        assert data.columns == {"words": [["Anna", "sings"], ["he", "ran"]], "labels": [[1, 0], [0, 0]]}


def test_a_ragged_line_costs_its_sentence_and_is_named(tmp_path):
    text = "".join(f"w{index}\tO\nx\tB-PER\n\n" for index in range(30))
    data = words(tmp_path, text + "lost\ny\tO\n")[1]
    assert len(data) == 30
    assert any("line 91: 'lost' has no tag" in note for note in data.notes)
    with pytest.raises(ArenaError, match="line 2: 'b c d' has 3 fields, others have 2"):
        words(tmp_path, "a\tO\nb\tc\td\ne\tO\n")
