"""The command writes what PyTorch's generate writes, and says what it cannot do."""

import json

import pytest

from arena_jax import models
from arena_jax.cli.main import main
from arena_jax.data import train_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
TEXTS = ["Ada met Bob in Rome.", "A film, and a very good film at that.", "yes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("generate") / "gpt2"
    tokenizer = train_tokenizer(TEXTS * 3, "gpt2", vocab_size=300)
    config = models.preset("gpt2-tiny").replace(
        vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, initializer_range=0.5, max_positions=48
    )
    models.save_pretrained(
        models.create(config, task="causal-lm", seed=2),
        path,
        also=lambda target: tokenizer.save(target, max_length=config.max_length),
    )
    return path


def test_the_command_goes_on_as_pytorch_does(folder, capsys, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("".join(text + "\n" for text in TEXTS))
    assert main(["generate", str(folder), str(file), "--tokens", "8"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, line in zip(TEXTS, lines, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        row = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        new = row[0, ids.shape[1] :].tolist()
        end = tokenizer.eos_token_id
        new = new[: new.index(end)] if end in new else new
        assert line == {"model": "gpt2", "text": text, "continuation": tokenizer.decode(new), "tokens": len(new)}


def test_draws_repeat_with_their_seed(folder, capsys):
    def drawn(seed):
        words = ["--text", "Ada", "--temperature", "2", "--top-k", "50", "--top-p", "0.99", "--seed", seed]
        assert main(["generate", str(folder), *words, "--tokens", "8"]) == 0
        return capsys.readouterr().out

    assert drawn("3") == drawn("3") != drawn("4")


def test_the_front_of_a_long_text_is_cut_and_said(folder, capsys):
    assert main(["generate", str(folder), "--text", "film " * 60, "--text", "", "--tokens", "8"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["cut"]
    assert "cut" not in second


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "a", "--tokens", "48"], "takes 48 with the text; write fewer"),
        (["--text", "a", "--top-k", "3"], "give a temperature"),
        (["--text", "a", "--tokens", "0"], "tokens is 0"),
        ([], "give either a FILE or --text"),
    ],
)
def test_what_cannot_be_written_is_one_line(folder, capsys, words, message):
    assert main(["generate", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_model_that_does_not_write_is_named(tmp_path, capsys):
    tokenizer = train_tokenizer(TEXTS * 3, "bert", vocab_size=300)
    config = models.preset("bert-tiny").replace(vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
    models.save_pretrained(
        models.create(config, task="masked-lm"),
        tmp_path / "bert",
        also=lambda target: tokenizer.save(target, max_length=config.max_length),
    )
    assert main(["generate", str(tmp_path / "bert"), "--text", "a"]) == 2
    assert "'bert' is of the task masked-lm: only a causal language model writes" in capsys.readouterr().err
