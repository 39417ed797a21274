"""GPUs that are not here: their facts, what is refused, and what is around the compiler; `make plan-test` has that."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax import ArenaError, data, models, runtime, training
from arena_jax.cli.main import main
from arena_jax.cli.plan import configuration
from arena_jax.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from arena_jax.runtime.gpus import gpu, gpus
from arena_jax.runtime.target import Target
from arena_jax.training import plan, remat
from arena_jax.training.build_optimizer import schedules

HERE = importlib.util.find_spec("jax_cuda12_plugin") is not None
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "vocab_size": 300}


def cpus(count=1, budget=50_000_000):
    """A target of the CPU's own devices: all of a plan but the GPU's compiler."""
    return Target(gpu("a100-40gb"), runtime.make_mesh(count), budget)


def tiny(**training):
    return RunConfig(
        preset="plan",
        task="language-model",
        models=(ModelConfig("bert", preset="bert-tiny", **SIZES), ModelConfig("gpt2", preset="gpt2-tiny", **SIZES)),
        data=DataConfig(name="python-docs", max_length=16),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(steps=1, **training),
    )


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [("a100-40gb", 312), ("a100-80gb", 312), ("h100", 989), ("h100-pcie", 757), ("h200", 989), ("a6000", 155)],
)
def test_peaks_are_those_of_the_makers_sheets(name, teraflops):
    """NVIDIA's data sheets, dense bfloat16; H100 PCIe 756 there, A6000 154.8."""
    assert gpu(name).peak("bfloat16") / 1e12 == pytest.approx(teraflops, rel=0.005)
    assert gpu(name).peak("float32") == gpu(name).peak("bfloat16") / 2  # TensorFloat-32


def test_a_v100_has_no_bfloat16():
    assert gpu("v100").peak("float16") / 1e12 == pytest.approx(125, rel=0.005)
    assert gpu("v100").peak("bfloat16") == gpu("v100").peak("float32") < 16e12


def test_descriptions_state_every_fact_once():
    for kind in gpus().values():
        text = kind.description(memory=123)
        assert text.count("{") == text.count("}") == 3
        assert "device_memory_size: 123\n" in text
        fields = [line.split(":")[0].strip() for line in text.splitlines() if ":" in line and "{" not in line]
        assert len(set(fields)) == len(fields)


def test_a_gpu_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    facts = {"title": "Mine", "memory": 10**9, "bandwidth": 10**11, "cores": 10, "clock": 1.0, "matrix_products": 512}
    facts |= {"scalar_units": 64, "capability": "8.0", "shared": [1, 1], "threads": 1024, "l2": 1}
    file.write_text("[mine]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in facts.items()))
    assert gpu(str(file)).title == "Mine"
    for field, value, form in (
        ("capability", "8", 'be like "8.0"'),
        ("capability", 8, 'be like "8.0"'),
        ("memory", "40GB", "be a number above 0"),
        ("clock", 0, "be a number above 0"),
        ("shared", [1], "be two numbers of bytes"),
        ("title", 'A "card"', "be a line of text without quotes"),
    ):
        file.write_text("[mine]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in (facts | {field: value}).items()))
        with pytest.raises(ArenaError, match=f"the GPU 'mine' has {field} = .*, and it must {form}; "):
            gpu(str(file))
    file.write_text("memory = 5\n")
    with pytest.raises(ArenaError, match="the GPU 'memory' is 5 and no table of facts; "):
        gpu(str(file))
    file.write_text("[mine]\ntitle = 'Mine'\n")
    with pytest.raises(ArenaError, match=r"the GPU 'mine' lacks memory, bandwidth, .*; .*gpus.toml shows the form"):
        gpu(str(file))
    with pytest.raises(ArenaError, match="cannot read the GPU's facts"):
        gpu(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: runtime.target("h1000"), "unknown GPU 'h1000'; did you mean"),
        (lambda: runtime.target("h100", gpus=8, hosts=3), "8 GPUs cannot be dealt out over 3 machines"),
        (lambda: runtime.target("h100", memory_budget="100GB"), r"a budget of 100.0 GB is more than a .* has, 84.9 GB"),
    ],
)
def test_targets_that_make_no_sense(call, message):
    with pytest.raises(ArenaError, match=message):
        call()


@pytest.mark.skipif(HERE, reason="the compiler is installed")
def test_without_the_compiler_one_line_says_what_to_install(capsys):
    with pytest.raises(ArenaError, match=r"pip install 'arena-jax\[plan\]'"):
        runtime.target("a100-40gb")
    assert main(["plan", "joint-sst2"]) == 2
    assert "pip install 'arena-jax[plan]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_is_of_the_step_that_trains():
    """The reference is the program of a real step, compiled for real arrays."""
    config, target = tiny(), cpus()
    needs = {need.models: need for need in plan.plan(config, target, limit=2)}
    assert set(needs) == {("bert",), ("gpt2",), ("bert", "gpt2")}
    need = needs[("bert", "gpt2")]
    assert need.batch_size == 2
    abstract = plan.abstract_models(config)
    made = {name: models.create(model.config, model.task) for name, model in abstract.items()}
    step = plan.abstract_step(made, config, target)
    state = step.init()
    shapes = {name: plan.abstract_batch(model, 2, 16, target) for name, model in abstract.items()}
    batches = {
        name: {key: jnp.zeros(column.shape, column.dtype) for key, column in batch.items()}
        for name, batch in shapes.items()
    }
    extra = {"active": dict.fromkeys(step.names, jnp.ones((), bool)), "learning_rates": schedules(config, 3)}
    program = runtime.compile_program(jax.jit(step.whole, donate_argnums=(0,)), state, batches, step.keys, extra)
    assert program.bytes.temporaries == need.temporaries
    assert need.parameters == sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    assert need.flops == sum(
        2 * models.training_flops(m.config, m.task, 16, training.objectives.head_positions(m.task, 16))
        for m in made.values()
    )


ROWS = {
    "causal-lm": ("gpt2", {"text": ["a b", "c d e"]}, {}),
    "masked-lm": ("bert", {"text": ["a b", "c d e"]}, {}),
    "one class": ("roberta", {"text": ["a b", "c"], "label": [1, 0]}, {}),
    "regression": ("bert", {"text": ["a b", "c"], "label": [0.5, 1.5]}, {"problem_type": "regression"}),
    "several": (
        "gpt2",
        {"text": ["a b", "c"], "label": [["x", "y"], ["z"]]},
        {"problem_type": "multi_label_classification", "label_names": ("x", "y", "z")},
    ),
    "tags": ("bert", {"words": [["a", "b"], ["c"]], "tags": [["O", "O"], ["B-x"]]}, {}),
    "questions": (
        "bert",
        {"question": ["a"], "context": ["a b c"], "answers": [{"text": ["b"], "answer_start": [2]}]},
        {},
    ),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_plan_feeds_what_the_data_do(kind):
    family, columns, options = ROWS[kind]
    dataset = data.load(columns, split="all", **options)
    tokenizer = data.train_tokenizer(dataset, family, vocab_size=300)
    rows = data.encode(dataset, tokenizer, max_length=32, lengths=[32])
    config = RunConfig(
        preset="plan",
        task=dataset.task,
        models=(ModelConfig("m", preset=f"{family}-tiny", **SIZES),),
        data=DataConfig(name="unread", max_length=32, **options),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(steps=1),
    )
    (model,) = plan.abstract_models(config).values()
    planned = plan.abstract_batch(model, 2, 32, cpus())
    fed = rows.batch(np.zeros(2, int), 32)
    no_step_reads = {"example_index", "feature_index"}
    assert {name: (array.shape, array.dtype) for name, array in fed.items() if name not in no_step_reads} == {
        name: (column.shape[1:], column.dtype) for name, column in planned.items()
    }
    plan.abstract_step({"m": model}, config, cpus()).abstract_state()


@pytest.mark.slow
def test_rows_are_dealt_out_and_parameters_are_not():
    one, two = ([*plan.plan(tiny(), cpus(count), limit=2)][-1] for count in (1, 2))
    assert (one.batch_size, two.batch_size) == (2, 2)
    assert one.parameters == two.parameters
    assert two.temporaries < 1.1 * one.temporaries


def test_variants_say_why_one_cannot_be():
    tried = plan.variants(tiny(), "gpt2", cpus(), limit=2)
    assert [(v.attention, v.remat) for v in tried if v.need] == [("xla", "none"), ("xla", "dots"), ("xla", "block")]
    assert [v.options for v in tried[:3]] == ["--remat none", "", "--remat block"]
    refused = [v for v in tried if not v.need]
    assert {v.attention for v in refused} == {"cudnn"}
    assert all(v.reason == "cuDNN's attention needs bfloat16" for v in refused)


def test_a_plan_chooses_what_blocks_keep_as_a_run_would():
    """The reference are the bytes of the two programs: a budget between them leaves one."""
    config, target = tiny(remat="auto", batch_size=64), cpus()
    need = {}
    for policy in ("none", "block"):
        networks = remat.with_remat(plan.abstract_models(config), policy)
        step, arguments_at = plan.step_and_arguments(networks, config, target)
        need[policy] = target.compile_program(step, *arguments_at(64)).bytes.with_code
    assert need["block"] < need["none"]
    for budget, policy in ((need["none"], "none"), (need["block"], "block")):
        assert plan.with_cheapest_remat(config, target._replace(budget=budget)).training.remat == policy


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to plan"),
        (["joint-sst2", "--models", "gpt2"], "both --models and a run are given"),
        (["--models", "gpt3"], "unknown size 'gpt3'; did you mean 'gpt2'?"),
        (["--models", "gpt2", "--attention", "cudnn"], "needs half precision"),
        (["--models", "bert-base", "--length", "1024"], "takes 512 tokens, the plan is for 1024"),
    ],
)
def test_plans_that_make_no_sense(words, message):
    from arena_jax.cli.main import parser

    with pytest.raises(ArenaError, match=message.replace("?", r"\?")):
        plan.abstract_models(configuration(parser().parse_args(["plan", *words])))


@pytest.mark.skipif(not HERE, reason="needs the extra plan: make plan-test")
def test_the_command_plans_for_a_gpu(tmp_path):
    code = "import sys; from arena_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["plan", "--models", "gpt2-tiny", "--length", "64", "--memory", "1GB", "--output", str(tmp_path / "p.json")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=os.environ, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "p.json").read_text())["needs"][0]["batch_size"] > 100
