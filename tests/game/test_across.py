"""The same game at several sizes: the line against scipy's closed form, and the command on two folders."""

import json

import numpy as np
import pytest

from arena_jax import data, models
from arena_jax.cli.main import main
from arena_jax.game.across import MEASUREMENTS, trend


def test_a_trend_is_the_least_squares_line_with_students_interval():
    x, y = np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.0, 1.5, 2.5, 2.0])
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    residual = y - y.mean() - slope * centred
    error = np.sqrt(residual @ residual / 2 / (centred @ centred))
    line = trend(10**x, y)
    quantile = 4.302652729911275  # of Student's t, 2 degrees of freedom, 97.5 %: tables
    np.testing.assert_allclose(line[:3], [slope, slope - quantile * error, slope + quantile * error], rtol=1e-9)
    assert line.verdict == "no trend is shown"
    assert trend(10**x, [np.nan, 1.0, 0.5, -1.0]).runs == 3
    assert trend([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]).verdict == "cannot be determined"
    assert trend(10**x, -x).verdict == "falls"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    where = tmp_path_factory.mktemp("sizes")
    train = data.load("synthetic-sentiment", task="sequence-classification", split="train")
    for name, family, layers in (("one", "gpt2", 1), ("two", "gpt2", 2), ("other", "bert", 1)):
        tokenizer = data.train_tokenizer(train, family, vocab_size=300)
        sizes = {"hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "num_layers": layers}
        config = models.preset(
            f"{family}-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, **sizes
        )
        models.save_pretrained(models.create(config, "sequence-classification", seed=0), where / name)
        tokenizer.save(where / name)
    return where


def run(folders, words):
    words = words.replace("FOLDERS", str(folders)).split()
    return main(["game", "across", *words, "--data", "synthetic-sentiment"])


@pytest.mark.slow
def test_the_command_writes_a_table_and_a_record(folders, capsys):
    options = "--sequences 4 --groups 2 --output FOLDERS/across.json"
    assert run(folders, f"FOLDERS/one FOLDERS/two {options}") == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in MEASUREMENTS)
    record = json.loads((folders / "across.json").read_text())
    assert [row["family"] for row in record["runs"]] == ["gpt2", "gpt2"]
    assert 0 <= record["runs"][0]["worthless"] <= 1
    assert record["runs"][0]["Owen predicts"] is None  # one block has no order
    assert record["trends"]["loss"]["runs"] == 2
    assert record["trends"]["loss"]["low"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("FOLDERS/one", "one model has no trend"),
        ("FOLDERS/one FOLDERS/../sizes0/one", "a run is named twice"),
        ("FOLDERS/one FOLDERS/two --sequences 0", "--sequences is 0"),
        ("FOLDERS/one FOLDERS/two --output FOLDERS/no/x.json", "give a file in a folder that exists"),
    ],
)
def test_mistakes_get_one_line(folders, capsys, words, message):
    assert run(folders, words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_other_families_are_refused(folders, capsys):
    assert run(folders, "FOLDERS/one FOLDERS/other --sequences 2") == 2
    assert "name models of one family and task" in capsys.readouterr().err
