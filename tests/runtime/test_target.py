"""GPUs that are not here: their facts, what is refused, and what is around the compiler; `make plan-test` has that."""

import dataclasses
import functools
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
from arena_jax.arena import plan as shares_plan
from arena_jax.cli import plan_file
from arena_jax.cli.main import main
from arena_jax.cli.plan import configuration
from arena_jax.config import ArenaConfig, DataConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig, presets
from arena_jax.reports import plan_page
from arena_jax.runs import document
from arena_jax.runtime.gpus import gpu, gpus
from arena_jax.runtime.memory import tree_bytes
from arena_jax.runtime.target import Target
from arena_jax.training import plan, plan_variants, remat
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
    "packed": ("bert", {"text": ["a b", "c d e"]}, {}),
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
    how = {"documents": "packed"} if kind == "packed" else {}
    rows = data.encode(dataset, tokenizer, max_length=32, lengths=[32], **how)
    config = RunConfig(
        preset="plan",
        task=dataset.task,
        models=(ModelConfig("m", preset=f"{family}-tiny", **SIZES),),
        data=DataConfig(name="unread", max_length=32, **options, **how),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(steps=1),
    )
    (model,) = plan.abstract_models(config).values()
    planned = plan.abstract_batch(model, 2, 32, cpus(), packed=kind == "packed")
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


@pytest.mark.slow
def test_variants_say_why_one_cannot_be():
    tried = plan_variants.variants(tiny(), ("gpt2",), cpus(), attentions=("xla", "cudnn"), limit=2)
    assert [(v.attention, v.remat) for v in tried if v.need] == [("xla", "none"), ("xla", "dots"), ("xla", "block")]
    assert [v.options for v in tried[:3]] == ["--remat none", "", "--remat block"]
    refused = [v for v in tried if not v.need]
    assert {v.attention for v in refused} == {"cudnn"}
    assert {v.shard for v in tried} == {"none"}
    assert all(v.reason == "cuDNN's attention needs bfloat16" for v in refused)


def test_variants_are_ranked_by_their_batch(monkeypatch):
    """Several GPUs: parameters whole and dealt out. Needs are made up: of each its number of examples, by its mesh."""
    sizes, starts = {"none": 3, "parameters": 5}, []

    def largest_need(networks, config, target, *, limit, start):
        (model,) = networks.values()
        starts.append(start)
        bonus = {"xla": 0, "chunked": 10, "cudnn": 20}[model.config.attention]
        return NEED._replace(
            batch_sizes={"gpt2": bonus + sizes["parameters" if "shard" in target.mesh.shape else "none"]}
        )

    monkeypatch.setattr(plan_variants, "largest_need", largest_need)
    for given in (cpus(2), cpus(2).sharded()):
        tried = plan_variants.variants(tiny(dtype="bfloat16"), ("gpt2",), given)
        kinds = [("cudnn", "parameters"), ("cudnn", "none"), ("chunked", "parameters"), ("chunked", "none")]
        assert [(v.attention, v.shard) for v in tried[::3]] == [*kinds, ("xla", "parameters"), ("xla", "none")]
        assert tried[6].options == "--attention chunked --remat none --shard parameters"
        assert {v.attention_dropout for v in tried if v.attention == "chunked"} == {0.1}
        assert {v.attention_dropout for v in tried if v.attention == "cudnn"} == {0.0}
        assert [starts.pop(0) for _ in tried][:4] == [None, 3, 5, 3]  # each search begins where the last one ended


@pytest.mark.slow
def test_a_plan_chooses_what_blocks_keep_as_a_run_would():
    """The reference are the bytes of the two programs: a budget between them leaves one."""
    config, target = tiny(remat="auto", batch_size=64), cpus()
    need = {}
    for policy in ("none", "block"):
        networks = remat.with_remat(plan.abstract_models(config), policy)
        step, arguments_of = plan.step_and_arguments(networks, config, target)
        need[policy] = target.compile_program(step, *arguments_of(dict.fromkeys(networks, 64))).bytes.with_code
    assert need["block"] < need["none"]
    for budget, policy in ((need["none"], "none"), (need["block"], "block")):
        assert plan.with_cheapest_remat(config, target._replace(budget=budget)).training.remat == policy


@pytest.mark.slow
def test_models_of_different_batches_grow_in_proportion():
    config = tiny()
    models_of = tuple(dataclasses.replace(m, batch_size=8 if m.name == "bert" else 24) for m in config.models)
    (need,) = plan.plan(dataclasses.replace(config, models=models_of), cpus(), [("bert", "gpt2")], limit=2)
    assert dict(need.batch_sizes) == {"bert": 2, "gpt2": 6}


def competition():
    names = {"bert": "bert-tiny", "gpt2": "gpt2-tiny"}
    return dataclasses.replace(
        presets.get("arena-small"),
        models=tuple(ModelConfig(name, preset=size, **SIZES) for name, size in names.items()),
        data=DataConfig(name="python-docs", max_length=16),
        arena=ArenaConfig(
            memory_budget="1500KB", policy="modelarena", spend="1TFLOP", batch_sizes=(1, 2, 4, 8, 16, 32)
        ),
    )


@pytest.mark.slow
def test_shares_allow_the_batches_that_a_competition_would_find():
    """The reference are the bytes of the programs: each size fits its share, and the next one does not."""
    config, target = competition(), cpus(budget=1_500_000)
    needs = list(shares_plan.plan_shares(config, target, stated={"bert": 0.9}))
    assert [(n.kind, n.model) for n in needs] == [
        *((kind, name) for kind in ("equal", "least", "most") for name in ("bert", "gpt2")),
        ("stated", "bert"),
    ]
    networks, sizes = plan.abstract_models(config), config.arena.batch_sizes
    step = plan.abstract_step(networks, config, target)
    state = step.abstract_state()

    def working(name, size):
        batch = plan.abstract_batch(networks[name], size, 16, target)
        count = jax.ShapeDtypeStruct((), jnp.int32)
        run = functools.partial(step.measured_gradients, name)
        program = target.compile_program(jax.jit(run), state.params[name], batch, step.keys[name], count)
        return program.bytes.with_code - 2 * tree_bytes(state.params[name])

    for need in (needs[0], needs[1]):
        assert need.allowed == (1_500_000 - need.resident) // 2
        assert 1 < need.batch_size < 32
        # The margin of a competition is on all that the compiler says.
        factor, own = 1 + config.arena.memory_margin, 2 * tree_bytes(state.params[need.model])
        at = sizes.index(need.batch_size)
        fitting, larger = (working(need.model, size) + own for size in sizes[at : at + 2])
        assert factor * fitting <= need.allowed + own < factor * larger
    assert needs[4].batch_size >= needs[0].batch_size >= needs[2].batch_size
    with pytest.raises(ArenaError, match="a share is given for 'roberta', which does not compete"):
        shares_plan.shares_of(config, {"roberta": 0.5})


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
    words = ["plan", "--models", "gpt2-tiny", "--length", "64", "--memory-budget", "1GB"]
    words += ["--output", str(tmp_path / "p.json"), "--output", str(tmp_path / "p.html")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=os.environ, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "p.json").read_text())["needs"][0]["batch_sizes"]["gpt2-tiny"] > 100
    assert "Roofline" in (tmp_path / "p.html").read_text()


# ---- a run takes its plan ----


def planned(tmp_path, config, sizes=None, gpus=2):
    """A plan's file, without compiling."""
    needs = [NEED._replace(batch_sizes=sizes)] if sizes else []
    file = tmp_path / "plan.json"
    content = plan_file.content(config, gpu("a100-40gb")._asdict(), gpus, 38_000_000_000, needs, [], [])
    file.write_text(json.dumps(content))
    return plan_file.read(str(file))


NEED = plan.Need({"bert": 3, "gpt2": 3}, 1, 2, 3, 6, "4 would need 7 B", 1e12, 10, 0.1, 0.2, 3, 9.0)


def test_a_run_takes_its_answer_from_a_plan(tmp_path):
    config = tiny(dtype="bfloat16", remat="block", attention="cudnn")
    config = dataclasses.replace(
        config, models=tuple(dataclasses.replace(model, attention_dropout=0.0) for model in config.models)
    )
    answer = planned(tmp_path, config, {"bert": 3, "gpt2": 3})
    run = plan_file.take(answer, tiny(accumulation=2, batch_size=32), {})
    training_config = run.training
    assert (training_config.batch_size, training_config.accumulation, training_config.devices) == (12, 2, 2)
    assert (training_config.dtype, training_config.remat, training_config.attention) == ("bfloat16", "block", "cudnn")
    assert {(model.attention_dropout, model.batch_size) for model in run.models} == {(0.0, None)}
    said = plan_file.described(answer, 1, "cpu")
    assert said.endswith("3 of bert, 3 of gpt2 per GPU, for 2 × NVIDIA A100-SXM4-40GB; this run is on 1 × cpu")


def test_each_model_takes_its_own_batch_from_a_plan(tmp_path):
    answer = planned(tmp_path, tiny(), {"bert": 3, "gpt2": 9})
    run = plan_file.take(answer, tiny(), {})
    assert {model.name: model.batch_size for model in run.models} == {"bert": 6, "gpt2": 18}


def test_a_competition_takes_the_plans_budget(tmp_path):
    run = plan_file.take(planned(tmp_path, competition()), competition(), {})
    assert run.arena.memory_budget == "38000000000B"
    assert plan_file.take(planned(tmp_path, competition()), competition(), {"arena.memory_budget": "38GB"}).arena
    with pytest.raises(ArenaError, match="--memory-budget 37GB contradicts"):
        plan_file.take(planned(tmp_path, competition()), competition(), {"arena.memory_budget": "37GB"})


def test_what_contradicts_a_plan_is_refused_in_one_line(tmp_path):
    answer = planned(tmp_path, tiny(), {"bert": 3, "gpt2": 3})
    for words, run, message in (
        ({"training.batch_size": "8"}, tiny(batch_size=8), r"--batch-size 8 contradicts .*plan.json, which says 6; "),
        ({"training.remat": "block"}, tiny(remat="block"), "--remat block contradicts .*, which says dots; "),
        ({}, dataclasses.replace(tiny(), data=DataConfig(name="python-docs", max_length=12)), "max_length is 16 there"),
        ({}, dataclasses.replace(tiny(), optimizer=OptimizerConfig(inner="lion")), "optimizer.inner is adamw there"),
        ({}, dataclasses.replace(tiny(), models=tiny().models[:1]), r"models is \['bert', 'gpt2'\] there and"),
    ):
        with pytest.raises(ArenaError, match=message):
            plan_file.take(answer, run, words)
    changed = dataclasses.replace(
        tiny(), models=(dataclasses.replace(tiny().models[0], batch_size=5), tiny().models[1])
    )
    with pytest.raises(ArenaError, match=r"--model bert.batch_size 5 contradicts"):
        plan_file.take(answer, changed, {"model": ["bert.batch_size=5"]})
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ArenaError, match="holds no plan"):
        plan_file.read(str(tmp_path / "other.json"))
    with pytest.raises(ArenaError, match="cannot read"):
        plan_file.read(str(tmp_path / "none.json"))


def test_a_page_shows_batches_roofline_variants_and_commands():
    need = NEED
    variant = plan_variants.Variant(
        ("bert", "gpt2"), "cudnn", "block", 0.0, need._replace(batch_sizes={"bert": 6, "gpt2": 6})
    )
    share = shares_plan.ShareNeed("bert", "equal", 0.5, 10, 20, 8, 2, 15, 3, 9.0)
    blocks = plan_page.compose(tiny(), cpus(2), [need], [variant], [], "arena-jax train mine")
    text = document.text(blocks)
    lower, options = "--attention xla --remat dots", "--attention cudnn --remat block --model bert.attention_dropout=0"
    assert f"  arena-jax train mine --batch-size 6 {lower}\n" in text
    assert f"  arena-jax train mine --batch-size 12 {options} --model gpt2.attention_dropout=0" in text
    assert "200 ms" in text.split("lower bound of a step")[1]
    page = document.page("plan", plan_page.compose(tiny(), cpus(2), [need], [variant], [share], "arena-jax train mine"))
    assert "<pre>arena-jax train mine --batch-size 12" in page
    assert "50.00 %" in page


def test_models_of_the_hub_take_their_size_offline():
    """HF_HUB_OFFLINE is set, and no folder is there."""
    config = tiny()
    named = tuple(
        ModelConfig(name, checkpoint=hub)
        for name, hub in (("b", "google-bert/bert-base-uncased"), ("g", "openai-community/gpt2"))
    )
    networks = plan.abstract_models(dataclasses.replace(config, models=named))
    assert {name: (n.config.num_layers, n.config.vocab_size) for name, n in networks.items()} == {
        "b": (12, 30522),
        "g": (12, 50257),
    }
