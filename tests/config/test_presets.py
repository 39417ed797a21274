"""What a preset says it is, it is."""

from arena_jax.config import presets
from arena_jax.config.change import resolved


def test_the_paper_is_set_up_as_its_section_on_training_says():
    """MultiModelOptimizer §4.4, line by line."""
    run = resolved(presets.get("mmo-paper"))
    optimizer, training = run.optimizer, run.training
    assert (optimizer.inner, optimizer.b1, optimizer.b2, optimizer.epsilon) == ("adamw", 0.9, 0.999, 1e-8)
    assert optimizer.learning_rate == 3e-5
    assert optimizer.weight_decay == 0.01
    assert training.accumulation == 2
    assert training.batch_size // training.accumulation == 16
    assert optimizer.warmup_steps == 100
    assert {model.name: model.weight for model in run.models} == {"bert": 1.0, "gpt2": 0.8, "roberta": 1.2}
    assert optimizer.share_alpha == 0.2
    assert (optimizer.synchronize_beta, optimizer.synchronize_every) == (0.1, 10)
    assert (optimizer.form, optimizer.share_reduce, optimizer.correspondence) == ("paper", "sum", "by_kind")


def test_presets_of_three_tasks_have_their_data():
    tasks = {name: (presets.get(name).task, presets.get(name).data.name) for name in ("joint-ner", "joint-qa")}
    assert tasks == {"joint-ner": ("token-classification", "wnut17"), "joint-qa": ("question-answering", "squad")}
