"""The command line says what it would do, does it through the library, and tells a mistake in one line."""

from __future__ import annotations

import dataclasses
import gc
import json
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import arena_jax
from arena_jax import ArenaError, config
from arena_jax.cli import options
from arena_jax.cli.main import main
from arena_jax.config import ModelConfig, presets
from arena_jax.config.fields import hints
from arena_jax.runs import Stopped


@pytest.fixture
def loop(monkeypatch):
    """A loop that notes what it is asked to do."""
    calls = []

    def train(run, output=None, *, resume=False):
        calls.append(("train", run, output, resume))
        return "folder"

    def evaluate(run, dataset=None, split="validation", checkpoint="newest", **reading):
        calls.append(("evaluate", run, dataset, split, checkpoint, *reading.values()))
        return {"bert": {"loss": 0.25, "accuracy": 0.9}}

    def export(run, model, directory, checkpoint):
        calls.append(("export", run, model, directory, checkpoint))

    def load_run(run):
        return config.load(Path(run) / "config.json")

    fake = types.SimpleNamespace(train=train, calls=calls, drawn=[])
    for place, function in {
        "training.train": lambda *words, **options: fake.train(*words, **options),
        "arena.competition.train": lambda *words, **options: fake.train(*words, **options),
        "training.evaluate": evaluate,
        "training.export": export,
        "runs.load_run": load_run,
        "reports.draw": fake.drawn.append,
    }.items():
        monkeypatch.setattr(f"arena_jax.{place}", function)
    return fake


def trained(loop, *words):
    """The configuration that `arena-jax train …` would train."""
    assert main(["train", *words]) == 0
    return loop.calls[-1][1]


def test_a_preset_is_trained_as_it_is(loop):
    assert trained(loop, "joint-synthetic") == presets.joint_synthetic()
    assert loop.calls[-1][2:] == (None, False)


def test_the_command_draws_the_figures(loop):
    trained(loop, "joint-synthetic", "--output", "here", "--no-figures")
    assert loop.drawn == []
    trained(loop, "joint-synthetic")
    trained(loop, "arena-small")
    assert loop.drawn == ["folder", "folder"]


def test_every_field_has_an_option_that_sets_it(loop):
    values = {int: "6", float: "0.25", str: "abc", bool: None, tuple[int, ...]: "8,16", tuple[str, ...]: "*:head"}
    particular = {
        "max_length": "40",
        "convergence_high": "2.5",
        "accumulation": "2",
        "memory_budget": "1GB",
        "spend": "9s",
        "distil": "best",
        "distil_into": "gpt2",
        "relay": "gpt2",
        "stop_after": "2h",
        "profile": "10:20",
        "component_rates": "embeddings=10,query-key=8/4",
    }
    changed = set()
    for flag, (section, field) in options.flags().items():
        kind = hints(options.SECTIONS[section])[field.name]
        inner = options.optional(kind)[0]
        text = field.metadata["choices"][-1] if field.metadata["choices"] else values.get(inner, "a=b")
        text = particular.get(field.name, text)
        preset = "arena-small" if section == "arena" else "joint-synthetic"
        before = getattr(getattr(presets.get(preset), section), field.name)
        words = [flag.replace("--", "--no-", 1) if before else flag] if inner is bool else [flag, text]
        if field.name.startswith("convergence_") and field.name != "convergence_window":
            words += ["--convergence-window", "9"]  # without it they would do nothing, and are refused
        if field.name in ("distil_alpha", "distil_temperature", "relay_part"):
            words += ["--distil", "best", "--relay", "gpt2"]  # without which they would do nothing
        if field.name == "relay_warm":
            words += ["--distil", "gpt2", "--relay", "gpt2"]  # it teaches what it does not hand down
        if field.name == "momentum":
            words += ["--optimizer", "sgd"]
        if field.name in ("target", "pareto_cost"):
            words += ["--objective", field.name.partition("_")[0]]
        if field.name == "evaluation_share":
            words += ["--evaluate-every", "none"]
        after = getattr(getattr(trained(loop, preset, *words), section), field.name)
        assert after != before, flag
        changed.add((section, field.name))
    fields = {(section, field.name) for section, kind in options.SECTIONS.items() for field in dataclasses.fields(kind)}
    assert changed == fields


def test_the_length_that_is_given_replaces_the_other(loop):
    run = trained(loop, "joint-synthetic", "--steps", "7")
    assert (run.training.steps, run.training.epochs) == (7, None)


def test_models_are_chosen_and_changed(loop, tmp_path):
    run = trained(
        loop, "joint-synthetic", "--models", f"bert,mine={tmp_path},big=gpt2-medium", "--model", "bert.weight=2"
    )
    bert = dataclasses.replace(presets.joint_synthetic().model("bert"), weight=2.0)
    assert run.models == (
        bert,
        ModelConfig("mine", checkpoint=str(tmp_path)),
        ModelConfig("big", preset="gpt2-medium"),
    )
    words = ["--model", "bert.initializer_range=0.1", "--model", "*.initializer_range=0.05"]
    run = trained(loop, "joint-synthetic", *words)
    assert [model.initializer_range for model in run.models] == [0.1, 0.05, 0.05]
    run = trained(loop, "joint-synthetic", "--model", f"gpt2.checkpoint={tmp_path}", "--model", "gpt2.dropout=none")
    assert run.model("gpt2").checkpoint == str(tmp_path)
    assert run.model("gpt2").hidden_size is None


def test_a_checkpoint_takes_the_place_of_every_size_in_a_saved_configuration(loop, tmp_path):
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 16}
    preset = presets.joint_synthetic()
    model = ModelConfig("gpt2", preset="gpt2-tiny", **sizes)
    config.save(dataclasses.replace(preset, models=(model,)), tmp_path / "config.json")
    run = trained(loop, "--config", str(tmp_path / "config.json"), "--model", f"gpt2.checkpoint={tmp_path}")
    assert all(getattr(run.model("gpt2"), size) is None for size in sizes)


def test_a_saved_configuration_can_be_given_back(loop, tmp_path):
    run = trained(loop, "joint-sst2", "--batch-size", "16", "--columns", "text=sentence,label=label")
    config.save(run, tmp_path / "config.json")
    assert trained(loop, "--config", str(tmp_path / "config.json")) == run


def test_resume_evaluate_and_export_reach_the_library(loop, tmp_path, capsys):
    config.save(presets.joint_synthetic(), tmp_path / "config.json")
    assert main(["resume", str(tmp_path)]) == 0
    assert loop.calls[-1] == ("train", presets.joint_synthetic(), tmp_path, True)
    assert main(["evaluate", str(tmp_path), "--data", "x.tsv", "--split", "test"]) == 0
    assert loop.calls[-1] == ("evaluate", tmp_path, "x.tsv", "test", "newest", (), ())
    assert main(["evaluate", str(tmp_path), "--columns", "text=a", "--label-names", "x,y"]) == 0
    assert loop.calls[-1][-2:] == ((("text", "a"),), ("x", "y"))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path), "--data", "x.tsv", "--split", "test"]) == 0
    assert "bert   0.250    90.0 %" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bert": {"loss": 0.25, "accuracy": 0.9}}
    assert main(["export", str(tmp_path), "bert", "out", "--checkpoint", "best"]) == 0
    assert loop.calls[-1] == ("export", tmp_path, "bert", Path("out"), "best")


def test_a_competition_has_the_length_that_is_asked_for(loop):
    given = [("--steps", "7"), ("--spend", "9s"), ("--spend", "9s", "--steps", "none")]
    lengths = [trained(loop, "arena-small", *words) for words in given]
    assert [(run.training.steps, run.arena.spend) for run in lengths] == [(7, None), (None, "9s"), (None, "9s")]
    assert main(["train", "arena-small", "--spend", "9s", "--steps", "7"]) == 2


def test_presets_are_listed_and_printed_as_files(capsys):
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    for name in presets.PRESETS:
        assert f"arena-jax train {name}" in listed
    assert main(["presets", "joint-sst2"]) == 0
    assert config.from_dict(json.loads(capsys.readouterr().out)) == presets.joint_sst2()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("tran", "unknown command 'tran'; did you mean 'train'?"),
        ("train joint-sst3", "unknown preset 'joint-sst3'; did you mean 'joint-sst2'?"),
        ("train", "nothing to train: give a preset"),
        ("train joint-sst2 --config x.json", "give one of the two"),
        ("train --config nowhere.json", "cannot read the configuration nowhere.json"),
        ("train joint-sst2 --batchsize 3", "unknown option '--batchsize'; did you mean '--batch-size'?"),
        ("train joint-sst2 --xyz", "unknown option '--xyz'; --help lists all"),
        ("train joint-sst2 more", "'more' is one word too many"),
        ("train joint-sst2 --steps", "--steps/--max-steps: expected one argument"),
        ("train joint-sst2 --steps many", "--steps is 'many': it must be a whole number"),
        ("train joint-sst2 --steps 1 --epochs 1", "both are given"),
        ("train joint-sst2 --learning-rate nan", "--learning-rate is 'nan': it must be a finite number"),
        ("train joint-sst2 --learning-rate -1", "optimizer.learning_rate is -1.0: it must be above 0"),
        ("train joint-sst2 --lengths 8,x", "--lengths is 'x': it must be a whole number"),
        ("train joint-sst2 --columns text", "--columns holds 'text': write NAME=VALUE"),
        ("train joint-sst2 --decay linaer", "did you mean 'linear'?"),
        ("train joint-sst2 --task language", "invalid choice: 'language'"),
        ("train joint-sst2 --models brt", "did you mean 'bert'?"),
        ("train joint-sst2 --models a=brt-tiny", "did you mean 'bert-tiny'?"),
        ("train joint-sst2 --models a=bert-tiny,a=gpt2", "two models are called 'a'"),
        ("train joint-sst2 --model bert.wieght=1", "did you mean 'weight'?"),
        ("train joint-sst2 --model brt.weight=1", "did you mean 'bert'?"),
        ("train joint-sst2 --model weight=1", "write NAME.FIELD=VALUE"),
        ("train joint-sst2 --model bert.weight=heavy", "--model bert.weight is 'heavy': it must be a number"),
        ("train arena-small --memory-budget -5GB", "memory budget '-5GB' is not an amount; write 40GB"),
        ("train arena-small --memory-budget 1.5", "memory budget '1.5' is no whole number of bytes; write a unit"),
        ("resume", "the following arguments are required: RUN"),
        ("resume nowhere", "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, told, loop, capsys):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.startswith("arena-jax: error: ")
    assert err.count("\n") == 1
    assert loop.calls == []


def test_a_traceback_is_shown_with_debug_alone(loop, capsys, monkeypatch):
    assert main(["--debug", "train", "joint-sst3"]) == 2
    assert "Traceback" in capsys.readouterr().err

    def broken(*_, **__):
        raise KeyError("lost")

    monkeypatch.setattr(loop, "train", broken)
    assert main(["train", "joint-sst2"]) == 1
    err = capsys.readouterr().err
    assert err == "arena-jax: error: this is a bug (KeyError: 'lost'); --debug shows where\n"
    assert main(["train", "joint-sst2", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ArenaError("two\nlines"), 2)])
def test_interruptions_and_errors_have_their_exit_codes(error, code, loop, capsys, monkeypatch):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(loop, "train", stop)
    assert main(["train", "joint-sst2"]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(loop, capsys, monkeypatch):
    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        raise KeyboardInterrupt

    def collect(*_, **__):
        gc.callbacks.append(interrupt)
        gc.collect()
        time.sleep(30)

    monkeypatch.setattr(loop, "train", collect)
    # A shell starts what it puts into the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["train", "joint-sst2"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "arena-jax: error: interrupted\n"


def test_a_run_that_was_asked_to_stop_says_how_to_go_on(loop, capsys, monkeypatch):
    def stop(*_, **__):
        raise Stopped(Path("runs/x-1"), 3, 9)

    monkeypatch.setattr(loop, "train", stop)
    assert main(["train", "joint-sst2"]) == 130
    assert "arena-jax resume runs/x-1" in capsys.readouterr().out


def test_help_says_what_a_form_means_for_a_field_that_is_left_open(capsys):
    def page(*words):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        return " ".join(capsys.readouterr().out.split())

    told = page("train")
    assert "(gradient norm) [depends on the form: default 1, paper 0, published 0]" in told
    assert "how gradients are pooled [depends on the form: default mean, paper sum, published sum]" in told
    assert "from the pool of all models; 0: no sharing (fraction) [0.2]" in told
    optimizer = told.split("optimizer: how")[1].split("training: ")[0]
    assert "[depends on the optimizer: muon 0.95, sgd 0.9]" in told
    assert optimizer.count("[none]") == 4, (
        "weights follow nothing, all is shared, nothing is frozen, parts have one rate"
    )
    assert "before sharing; 0: no clipping (gradient norm) [1]" in page("train", "joint-sst2")


@pytest.mark.parametrize("words", [["train", "--help"], ["train", "joint-sst2", "--help"]])
def test_help_explains_every_option_with_its_unit_and_value(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    for flag, (_, field) in options.flags().items():
        assert flag in page
        assert " ".join(field.metadata["help"].split()[:3]) in page
    for field in dataclasses.fields(ModelConfig)[1:]:
        assert f" {field.name} {field.metadata['help'][:10]}" in page
    shown = presets.get(words[1]).training.epochs if len(words) == 3 else "none"
    assert f"give this or steps (epochs) [{shown}]" in page


def test_without_a_command_the_page_is_shown(capsys):
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"arena-jax {arena_jax.__version__}\n"


def test_nothing_heavy_is_imported_before_it_is_needed():
    """Seconds would be measured on a machine that is busy; modules are the cause and can be counted."""
    code = (
        "import sys\nfrom arena_jax.cli.main import main\n"
        "try:\n    main(['train', 'joint-sst2', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'jax', 'numpy', 'flax', 'transformers', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_read_enough_is_no_error():
    """As `arena-jax presets | head -1`."""
    code = "import sys; from arena_jax.cli.main import main; sys.exit(main(['presets']))"
    with subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
