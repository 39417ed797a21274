"""Faults in scores, tokens and labels."""

from __future__ import annotations

from parity.mutants.fault import fault

ENTITIES, ANSWERS = "entity scores/all/token-classification/float64", "answer scores/all/question-answering/float64"
SPANS, PERPLEXITY = "best spans/all/question-answering/float64", "perplexity/all/causal-lm/float64"
ROWS = "batches and labels"
BEGINS = 'prefix in ("B", "S") or before in ("O", "E", "S") or kind != kind_before'

MUTANTS = (
    fault(
        "a stray I- begins no entity",
        "training.entities:entities",
        BEGINS,
        'prefix in ("B", "S") or not spans or kind != kind_before',
        ENTITIES,
    ),
    fault(
        "another type goes on with the entity",
        "training.entities:entities",
        BEGINS,
        'prefix in ("B", "S") or before in ("O", "E", "S")',
        ENTITIES,
    ),
    fault("invalid rows are scored", "training.entities:entity_sums", "if valid is None", "if True", ENTITIES),
    fault("articles kept", "training.squad:normalize_answer", '_ARTICLES.sub(" ", ', "str(", ANSWERS),
    fault(
        "words counted once",
        "training.squad:answer_scores",
        "Counter(predicted.split())",
        "Counter(set(predicted.split()))",
        ANSWERS,
    ),
    fault("an answer may end before it starts", "training.squad:Answers.add", "(length >= 0) & ", "", SPANS),
    fault(
        "an answer one token too long",
        "training.squad:Answers.add",
        "length < self._longest",
        "length <= self._longest",
        SPANS,
    ),
    fault("nats for bits", "training.metrics:ratios", "/ math.log(2.0)", "/ 1.0", PERPLEXITY),
    fault(
        "perplexity to the base 2",
        "training.metrics:ratios",
        'math.exp(scores["loss"])',
        '2 ** scores["loss"]',
        PERPLEXITY,
    ),
    fault(
        "every piece of a word has its tag",
        "data.encode_tagging:encode_tagging",
        "word is None or word == before",
        "word is None",
        f"{ROWS}/bert/token-classification/int32",
        f"{ROWS}/roberta/token-classification/int32",
    ),
    fault(
        "last token of an answer one late",
        "data.encode_questions:_answer_tokens",
        'end = inside[np.searchsorted(spans[inside, 1], last, side="left")]',
        'end = inside[min(len(inside) - 1, np.searchsorted(spans[inside, 1], last, side="right"))]',
        f"{ROWS}/bert/question-answering/int32",
    ),
    fault(
        "first token of an answer one early",
        "data.encode_questions:_answer_tokens",
        'first, side="right") - 1]',
        'first, side="left") - 1]',
        f"{ROWS}/bert/question-answering/int32",
    ),
    fault(
        "rows filled up with token 0",
        "data.encoded:token_columns",
        '{"input_ids": tokenizer.pad_id}',
        '{"input_ids": 0}',
        f"{ROWS}/roberta/sequence-classification/int32",
    ),
    fault(
        "padding shown to the model",
        "data.encoded:Encoded.batch",
        'batch["attention_mask"] = real.astype(np.int32)',
        'batch["attention_mask"] = np.ones_like(real, np.int32)',
        f"{ROWS}/bert/sequence-classification/int32",
    ),
    fault(
        "phrases of a sentence held out are learnt",
        "data.sentence_hold_out:sentence_hold_out",
        "if text not in dropped",
        "if text not in held_out",
        "tests/data/test_sentence_hold_out.py::test_no_text_is_learnt_that_stands_in_a_sentence_held_out",
    ),
)
