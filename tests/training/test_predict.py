"""What is said of texts is what PyTorch's models say of them, and an input that does not fit is named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from arena_jax import ArenaError, models
from arena_jax.cli.main import main
from arena_jax.data import train_tokenizer
from arena_jax.training.predict import load_subjects, predict, read_inputs

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
TEXTS = ["Ada met Bob in Rome.", "A film, and a very good film at that.", "yes"]
INPUTS = [{"text": text} for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders by family and task: new models with weights that matter, and trained tokenizers."""

    def make(family, task, **options):
        path = tmp_path_factory.mktemp("predict") / f"{family}-{task}"
        tokenizer = train_tokenizer(TEXTS * 3, family, vocab_size=300)
        config = models.preset(f"{family}-tiny").replace(
            vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id, initializer_range=0.5, **options
        )
        models.save_pretrained(
            models.create(config, task=task, seed=2),
            path,
            also=lambda target: tokenizer.save(target, max_length=config.max_length),
        )
        return path

    return make


def reference(path, kind, **inputs):
    """The logits of PyTorch's model for one input."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    encoding = tokenizer(return_tensors="pt", **inputs)
    model = getattr(transformers, kind).from_pretrained(path).eval()
    with torch.no_grad():
        output = model(**encoding)
    return encoding, output


@pytest.mark.parametrize(("family", "kind"), [("bert", "BertFor"), ("gpt2", "GPT2For")])
def test_labels(folder, family, kind):
    path = folder(family, "sequence-classification", label_names=("no", "yes", "so"))
    (subject,) = load_subjects(path)
    answers = list(predict(subject, INPUTS, batch_size=2))
    for text, answer in zip(TEXTS, answers, strict=True):
        _, output = reference(path, f"{kind}SequenceClassification", text=text)
        probabilities = torch.softmax(output.logits[0], -1).numpy()
        np.testing.assert_allclose(list(answer["probabilities"].values()), probabilities, atol=1e-5)
        assert answer["label"] == ("no", "yes", "so")[int(probabilities.argmax())]


def test_several_labels_and_numbers(folder):
    several = folder("bert", "sequence-classification", problem_type="multi_label_classification", num_labels=3)
    number = folder("roberta", "sequence-classification", num_labels=1)
    _, output = reference(several, "BertForSequenceClassification", text=TEXTS[0])
    answer = next(predict(*load_subjects(several), INPUTS[:1]))
    np.testing.assert_allclose(list(answer["probabilities"].values()), torch.sigmoid(output.logits[0]), atol=1e-5)
    assert answer["labels"] == [f"LABEL_{i}" for i in range(3) if output.logits[0, i] >= 0]
    _, output = reference(number, "RobertaForSequenceClassification", text=TEXTS[0])
    assert next(predict(*load_subjects(number), INPUTS[:1]))["value"] == pytest.approx(float(output.logits), abs=1e-5)


def test_entities_and_tags(folder):
    path = folder("bert", "token-classification", label_names=("O", "B-PER", "I-PER", "B-LOC"))
    text = TEXTS[0]
    encoding, output = reference(
        path, "BertForTokenClassification", text=["Ada", "met", "Bob", "in", "Rome", "."], is_split_into_words=True
    )
    words = encoding.word_ids()
    first = [words.index(word) for word in range(6)]
    tags = [("O", "B-PER", "I-PER", "B-LOC")[i] for i in output.logits[0].argmax(-1)[first]]
    answer = next(predict(*load_subjects(path), [{"text": text}]))
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert len(answer["entities"]) >= sum(tag.startswith("B-") for tag in tags)
    other = folder("bert", "token-classification", label_names=("NOUN", "VERB"))
    assert [word for word, _ in next(predict(*load_subjects(other), [{"text": text}]))["tags"]] == [
        *("Ada", "met", "Bob", "in", "Rome", "."),
    ]


def test_answers(folder):
    path = folder("bert", "question-answering")
    question, context = "Who?", "Ada met Bob in Rome."
    encoding, output = reference(path, "BertForQuestionAnswering", text=question, text_pair=context)
    start, end = output.start_logits[0], output.end_logits[0]
    inside = [i for i, part in enumerate(encoding.sequence_ids()) if part == 1]
    _, i, j = max((float(start[i] + end[j]), i, j) for i in inside for j in inside if i <= j)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    offsets = tokenizer(question, context, return_offsets_mapping=True)["offset_mapping"]
    answer = next(predict(*load_subjects(path), [{"question": question, "context": context}]))
    assert answer == {"answer": context[offsets[i][0] : offsets[j][1]]}


def test_perplexity(folder):
    path = folder("gpt2", "causal-lm")
    *answers, single = predict(*load_subjects(path), INPUTS)
    assert single == {"perplexity": None, "loss": None, "tokens": 0}  # one token, with none before it
    for text, answer in zip(TEXTS[:2], answers, strict=True):
        encoding, _ = reference(path, "GPT2LMHeadModel", text=text)
        model = transformers.GPT2LMHeadModel.from_pretrained(path).eval()
        with torch.no_grad():
            loss = float(model(**encoding, labels=encoding["input_ids"]).loss)
        assert answer["loss"] == pytest.approx(loss, rel=1e-5)
        assert answer["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_pseudo_perplexity(folder):
    path = folder("bert", "masked-lm")
    encoding, _ = reference(path, "BertForMaskedLM", text=TEXTS[2])
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.BertForMaskedLM.from_pretrained(path).eval()
    ids, losses = encoding["input_ids"], []
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            losses.append(-torch.log_softmax(model(masked).logits[0, place], -1)[ids[0, place]].item())
    answer = next(predict(*load_subjects(path), INPUTS[2:]))
    assert answer["tokens"] == len(losses)
    assert answer["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_command(folder, tmp_path, capsys):
    path = folder("bert", "sequence-classification", label_names=("no", "yes"))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one", "text_pair": "two"}) + "\n")
    assert main(["predict", str(path), str(tmp_path / "a.jsonl"), "--no-compilation-cache"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["text"], line["text_pair"], line["label"] in ("no", "yes")) == ("one", "two", True)
    assert main(["predict", str(path), "--no-compilation-cache"]) == 2
    assert "either a FILE or --text" in capsys.readouterr().err
    long = next(predict(*load_subjects(path), [{"text": "word " * 600}]))
    assert long["cut"]


def test_inputs_that_do_not_fit(folder, tmp_path):
    path = folder("bert", "question-answering")
    with pytest.raises(ArenaError, match="input 1 has no question"):
        next(predict(*load_subjects(path), INPUTS))
    (tmp_path / "b.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(ArenaError, match="line 1: an object of texts"):
        read_inputs(tmp_path / "b.jsonl")
    (tmp_path / "b.txt").write_text("one\n\ntwo\n")
    assert read_inputs(tmp_path / "b.txt") == [{"text": "one"}, {"text": "two"}]
