"""`arena-jax game …` on a small Hugging Face folder, from start to figures."""

import dataclasses
import json
import re
import types

import numpy as np
import pytest

from arena_jax import data, game, models
from arena_jax.cli import game_prune
from arena_jax.cli.main import main
from arena_jax.game.coalitions import Values
from arena_jax.game.utilities import METHODS
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
    return main(["game", *map(str, words)])


@pytest.mark.slow
def test_analyze_writes_a_record_and_figures(folder, tmp_path, capsys):
    options = "--data synthetic-sentiment --sequences 4 --groups 2 --windows 2 --window-steps 1 --evaluations 60"
    assert run("analyze", folder, *options.split(), "--output", tmp_path) == 0
    out = capsys.readouterr().out
    assert "12 players" in out
    assert "update game, the mean window, in nats" in out
    # Every measure that samples has its error; what a player has no number of is a dash, and neither is nan.
    head, *rows = out.splitlines()[2:15]
    assert re.split(r" {2,}", head) == ["player", *METHODS]
    shown = {row.split()[0]: re.split(r" {2,}", row)[1:] for row in rows}
    number, sampled = r"[+-]\d+\.\d{4}", r"[+-]\d+\.\d{4} ± \d\.\de-\d\d"
    for name, cells in shown.items():
        kinds = [sampled, number, sampled, sampled, number, number, r"[01]\.\d{4}" if "head" in name else "-"]
        assert all(re.fullmatch(kind, cell) for kind, cell in zip(kinds, cells, strict=True)), (name, cells)
    assert "worth in nats, ± standard error" in out
    assert "nan" not in out
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


def test_a_quadrature_that_misses_its_sum_is_told():
    table = game.fine_players(models.preset("gpt2-tiny"), groups=2)
    worth = Values(np.arange(12.0), np.zeros(12), 13, "given")
    pairs = Values(-np.ones((12, 12)), np.zeros((12, 12)), 79, "given")
    played = types.SimpleNamespace(table=table)

    def warned(gap):
        found = {"banzhaf": worth, "leave-one-out": worth, "aumann-shapley": dataclasses.replace(worth, gap=gap)}
        analysis = game.GameAnalysis("tiny", "causal-lm", played, 1.0, found, pairs, None, None, None, None, {})
        return [text for text in analysis.warnings() if "aumann-shapley" in text]

    assert warned(0.6) == []  # within 1 % of 66
    (told,) = warned(-4.0)
    assert "miss their sum v(N) − v(∅) by -6.1%" in told


@pytest.mark.slow
def test_prune_and_grow_write_folders(folder, tmp_path, capsys):
    common = ("--data", "synthetic-sentiment", "--sequences", "4")
    # 1 of 12 players: the other block stays as wide as it was.
    options = ("--groups", "2", "--criterion", "leave-one-out", "--share", "0.1", "--form", "compact")
    assert run("prune", folder, *common, *options, "--output", tmp_path / "pruned") == 0
    out = capsys.readouterr().out
    assert "neither bought nor sold" in out
    assert "compact removes no parameter here" in out
    assert run("grow", folder, *common, "--widen", 8, "--insert-block", 1, "--output", tmp_path / "grown") == 0
    out = capsys.readouterr().out
    before, after = out.split("validation rows ")[1].split(" nats")[0].split(" → ")
    assert before == after
    assert "bought: " in out
    grown = models.from_pretrained(tmp_path / "grown").config
    assert (grown.num_layers, grown.intermediate_size) == (3, 72)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--share 0.5 --even --form compact --criterion magnitude", "heads are zeroed in their places"),
        ("--share 0.5 --criterion least-squares --repair least-squares --recover-steps 2", "2 steps of training"),
        ("--parts blocks --share 0.5", "remove 1 of 2 blocks"),
        ("--parts blocks --share 0.5 --criterion leave-one-out", "remove 1 of 2 blocks"),
        ("--parts weights --share 0.5", "nothing gets smaller or faster"),
    ],
)
def test_prune_by_every_kind_of_criterion(folder, tmp_path, capsys, words, expected):
    common = ("--data", "synthetic-sentiment", "--sequences", "4", "--output", tmp_path / "pruned")
    assert run("prune", folder, *common, *words.split()) == 0
    assert expected in capsys.readouterr().out
    model = models.from_pretrained(tmp_path / "pruned")
    kernel = np.asarray(model.blocks.feed_forward.down.kernel[...])
    output = np.asarray(model.blocks.attention.output.kernel[...])
    if "even" in words:
        assert (model.config.num_heads, model.config.intermediate_size) == (4, 32)
        assert (np.abs(output).reshape(2, 4, -1).max(-1) == 0).sum(1).tolist() == [2, 2]
    elif "recover" in words:
        zero = (np.abs(output).reshape(2, 4, -1).max(-1) == 0).sum() + (
            np.abs(kernel).reshape(2, 4, -1).max(-1) == 0
        ).sum()
        assert zero == 8  # training brought none of them back
    elif "blocks" in words:
        assert model.config.num_layers == 1
    else:
        assert (kernel == 0).mean() == 0.5


def test_help_says_where_heads_are_added(capsys):
    with pytest.raises(SystemExit):
        run("grow", "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "game.add_heads" in out
    assert "--add-heads" not in out


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
        ("analyze FOLDER --data synthetic-sentiment --windows 1", "1 windows of 20 steps: give at least 2 windows"),
        ("analyze FOLDER --data synthetic-sentiment --windows -2", "-2 windows of 20 steps: give at least 2 windows"),
        ("analyze FOLDER --data synthetic-sentiment --window-steps 0", "at least 1 step"),
        ("analyze FOLDER --data synthetic-sentiment --learning-rate nan", "learning_rate is nan"),
        ("analyze FOLDER --data synthetic-sentiment --learning-rate 0", "learning_rate is 0.0"),
        ("analyze FOLDER --data synthetic-sentiment --seed -1", "the seed is -1"),
        ("analyze FOLDER --output FOLDER/config.json", "is a file; give a folder with --output"),
        ("analyze NUMBER", "neither a run's folder nor a Hugging Face folder"),
        ("prune FOLDER --output FOLDER/config.json", "is a file; give another folder"),
        ("prune FOLDER --output FOLDER/../tiny", "is what is read; give another folder"),
        ("prune FOLDER --output RUN", "holds a run; give another folder"),
        ("prune FOLDER --output x --threshold nan", "threshold is nan"),
        ("prune FOLDER --output x --criterion entropy", "'entropy' is none for heads-and-neurons: known: "),
        ("prune FOLDER --output x --criterion sparsegpt", "none for heads-and-neurons: it is one of weights"),
        ("prune FOLDER --output x --parts blocks --repair mean", "--repair is for heads and neurons"),
        ("prune FOLDER --output x --parts weights --groups 2", "--groups is for heads and neurons"),
        ("prune FOLDER --output x --parts blocks --threshold 0", "--threshold is for heads and neurons"),
        ("prune FOLDER --output x --parts blocks --groups 0", "--groups is for heads and neurons"),
        ("prune FOLDER --data synthetic-sentiment --output x --groups 0", "0 groups do not divide"),
        ("prune FOLDER --output x --threshold 0.1 --criterion wanda", "--threshold is in nats, and 'wanda' is not"),
        ("prune FOLDER --output x --threshold 0.1 --even", "give --share, not --threshold"),
        ("prune FOLDER --output x --regrow --form compact", "would take away: choose one"),
        ("prune FOLDER --output x --learning-rate 1", "give --recover-steps too"),
        ("prune FOLDER --output x --recover-steps 0", "--recover-steps is 0"),
        ("prune FOLDER --output x --sequences -3", "--sequences is -3"),
        ("grow FOLDER --output x --widen 4 --sequences 0", "--sequences is 0"),
        ("grow FOLDER --output x --widen 4 --seed -1", "the seed is -1"),
        ("grow FOLDER --output x --add-heads 1", "unknown option '--add-heads'"),
        ("grow FOLDER --output x --groups 2", "unknown option '--groups'"),
        ("evaluate FOLDER --data synthetic-sentiment", "the task of 'tiny' is sequence-classification"),
        ("evaluate FOLDER --summaries FOLDER/config.json --papers 0", "the number of papers is 0"),
        ("evaluate FOLDER --seed 1", "unknown option '--seed'"),
    ],
)
def test_mistakes_get_one_line(folder, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    for name, content in (("RUN", "{}"), ("NUMBER", "3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    (tmp_path / "RUN" / "records.jsonl").write_text("")
    words = words.split() if isinstance(words, str) else words
    assert run(*[word.replace("FOLDER", str(folder)) for word in words]) == 2
    out, err = capsys.readouterr()
    *progress, error = err.splitlines()
    assert out == ""
    assert told in error
    assert all(line.startswith("…") for line in progress)
    assert {path.name for path in tmp_path.iterdir()} == {"RUN", "NUMBER"}


def test_criteria_of_the_command_are_those_of_the_library():
    libraries = (game.CRITERIA, game.BLOCK_CRITERIA, game.WEIGHT_CRITERIA)
    assert tuple(game_prune.CRITERIA.values()) == libraries


def test_a_file_that_is_no_record(tmp_path):
    (tmp_path / "game.json").write_text("{}")
    with pytest.raises(ValueError, match="no game's record"):
        game_figures.draw(tmp_path / "game.json")
