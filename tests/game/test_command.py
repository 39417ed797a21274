"""`arena-jax game …` on a small Hugging Face folder, from start to figures."""

import json

import numpy as np
import pytest

from arena_jax import cli, data, models
from arena_jax.reports import game_figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("model") / "tiny"
    train = data.load("synthetic-sentiment", task="sequence-classification", split="train")
    tokenizer = data.train_tokenizer(train, "gpt2", vocab_size=300)
    config = models.preset("gpt2-tiny", vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
    models.save_pretrained(models.create(config, "sequence-classification", seed=0), where)
    tokenizer.save(where)
    return where


def run(*words):
    return cli.main(["game", *map(str, words)])


def test_analyze_writes_a_record_and_figures(folder, tmp_path, capsys):
    options = "--data synthetic-sentiment --sequences 4 --groups 2 --windows 2 --window-steps 1 --evaluations 60"
    assert run("analyze", folder, *options.split(), "--output", tmp_path) == 0
    out = capsys.readouterr().out
    assert "12 players" in out
    assert "update game" in out
    content = json.loads((tmp_path / "game.json").read_text())
    assert len(content["players"]) == 12
    assert set(content["utilities"]) == {
        "banzhaf",
        "leave-one-out",
        "shapley",
        "sensitivity",
        "second-order",
        "aumann-shapley",
        "entropy",
    }
    assert content["utilities"]["entropy"]["values"].count(None) == 4  # neurons do not attend
    assert np.allclose(content["interactions"], np.transpose(content["interactions"]))
    assert content["update"]["directed"]["bootstrap"]["windows"] == 2
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn >= {"importance.png", "interactions.png", "entropy.png", "update.png", "simplex.png"}
    assert all(path.stat().st_size > 10_000 for path in tmp_path.glob("*.png"))


def test_prune_and_grow_write_folders(folder, tmp_path, capsys):
    common = ("--data", "synthetic-sentiment", "--sequences", "4", "--groups", "2")
    options = ("--measure", "leave-one-out", "--share", "0.3")
    assert run("prune", folder, *common, *options, "--output", tmp_path / "pruned") == 0
    assert "neither bought nor sold" in capsys.readouterr().out
    assert run("grow", folder, *common, "--widen", 8, "--insert-block", 1, "--output", tmp_path / "grown") == 0
    out = capsys.readouterr().out
    before, after = out.split("validation rows ")[1].split(" nats")[0].split(" → ")
    assert before == after
    assert "bought: " in out
    grown = models.from_pretrained(tmp_path / "grown").config
    assert (grown.num_layers, grown.intermediate_size) == (3, 72)
    assert run("grow", folder, *common, "--add-heads", 1, "--output", tmp_path / "refused") == 2
    assert "num_heads=5 of head_width=8" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["analyze", "FOLDER"], "name a data set with --data"),
        (["analyze", "FOLDER", "--data", "synthetic-sentiment", "--model", "bert"], "holds one model"),
        (["analyze", "FOLDER", "--data", "synthetic-sentiment", "--groups", "5"], "5 groups do not divide"),
        (["analyze", "FOLDER", "--data", "synthetic-sentiment", "--sequences", "0"], "at least 1"),
        (["analyze", "nowhere"], "neither a run's folder nor a Hugging Face folder"),
        (["analyze", "FOLDER", "--sequence", "3"], "did you mean '--sequences'"),
        (["analyse", "FOLDER"], "analyse"),
        (["grow", "FOLDER", "--data", "synthetic-sentiment", "--output", "x"], "nothing to grow"),
        (["prune", "FOLDER", "--data", "synthetic-sentiment"], "--output"),
    ],
)
def test_mistakes_get_one_line(folder, capsys, words, told):
    assert run(*[folder if word == "FOLDER" else word for word in words]) == 2
    *progress, error = capsys.readouterr().err.splitlines()
    assert told in error
    assert all(line.startswith("…") for line in progress)


def test_a_file_that_is_no_record(tmp_path):
    (tmp_path / "game.json").write_text("{}")
    with pytest.raises(ValueError, match="no game's record"):
        game_figures.draw(tmp_path / "game.json")
