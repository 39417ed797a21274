import subprocess
import sys

from arena_jax.data import python_docs


def test_splits_are_disjoint_documents_that_make_up_the_whole():
    train, validation, whole = (python_docs(split) for split in ("train", "validation", "all"))
    assert sorted(train.columns["text"] + validation.columns["text"]) == sorted(whole.columns["text"])
    assert not set(train.columns["text"]) & set(validation.columns["text"])
    assert 0.05 < len(validation) / len(whole) < 0.15


def test_it_is_megabytes_of_the_manual_and_of_docstrings():
    text = "\n".join(python_docs("all").columns["text"])
    assert len(text.encode()) > 1_000_000
    assert 'The "assert" statement' in text  # a topic of the manual
    assert "Return the least common multiple" not in text  # math is written in C: no source to read
    assert "OrderedDict" in text


def test_tests_are_not_documentation_and_nothing_is_imported():
    # antigravity opens a browser and `this` prints when imported.
    code = (
        "import sys; from arena_jax.data import python_docs; python_docs();"
        "print([m for m in ('this', 'antigravity', 'unittest.test', 'idlelib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
