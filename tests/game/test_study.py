"""The scaling study: its trainer against Optax, its moves against the unchanged model, its verdicts on planted laws."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import optax
import pytest

from arena_jax import models
from arena_jax.cli.main import main
from arena_jax.config.errors import ArenaError
from arena_jax.game.study import ARMS, COMPONENTS, Plan, Size, Study, architecture
from arena_jax.game.study.corpus import LENGTH, Corpus, load_corpus
from arena_jax.game.study.trainer import ROWS, Trainer
from arena_jax.reports import study_figures
from arena_jax.reports.scaling_study import markdown, results, save
from arena_jax.runs.lock import Busy

SIZES = (Size(16, 1, 2), Size(24, 2, 2), Size(32, 2, 4))
PLAN = Plan(data="python-docs", sizes=SIZES, tokens=(50_000, 60_000, 70_000), seeds=(3, 3, 3), law_seeds=1)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus("python-docs", held_out=4096)


@pytest.fixture(scope="module")
def trainer(corpus: Corpus) -> Trainer:
    return Trainer(Size(24, 2, 2), corpus, spare=0.5)


# ---- the parts ----


def test_batches_repeat_no_row_before_all_were_seen_and_depend_on_the_seed(corpus: Corpus) -> None:
    few = corpus._replace(train=np.arange(40 * LENGTH).reshape(40, LENGTH))
    rows = few.batches(tokens=4 * ROWS * LENGTH, rows=ROWS, seed=3)
    assert rows.shape == (4, ROWS, LENGTH)
    assert len(np.unique(rows.reshape(-1, LENGTH)[:40, 0])) == 40
    assert (rows == few.batches(tokens=4 * ROWS * LENGTH, rows=ROWS, seed=3)).all()
    assert (rows != few.batches(tokens=4 * ROWS * LENGTH, rows=ROWS, seed=4)).any()


def test_the_trainer_takes_the_steps_of_optax(corpus: Corpus) -> None:
    """Two segments with all ones equal AdamW written with Optax's own parts, on the plain model."""
    trainer = Trainer(Size(16, 1, 2), corpus)
    batches = corpus.batches(tokens=4 * ROWS * LENGTH, rows=ROWS, seed=0)
    state = trainer.start(0)
    for part in (batches[:2], batches[2:]):
        state = trainer.advance(state, part, learning_rate=1e-2, multipliers=np.ones(len(COMPONENTS)), steps=4)
    model = models.create(trainer.config, task="causal-lm", seed=0)
    structure, params = models.split(model)
    matrices = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ("kernel", "embedding"), params)
    done = np.arange(4) / 4
    schedule = np.where(done < 0.05, 1e-3 / 0.051, 0.1 + 0.45 * (1 + np.cos(np.pi * (done - 0.05) / 0.95)))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda i: 1e-2 * jax.numpy.asarray(schedule)[i], 0.9, 0.99, weight_decay=0.1, mask=matrices),
    )
    moments = optimizer.init(params)

    @jax.jit
    def step(params: Any, moments: Any, ids: Any) -> Any:
        def loss(p: Any) -> Any:
            logits = models.merge(structure, p)(ids)
            return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, 1:]).mean()

        updates, moments = optimizer.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    for ids in batches:
        params, moments = step(params, moments, ids)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_closed_spare_parts_cost_nothing_and_opening_one_changes_nothing(trainer: Trainer) -> None:
    plain = Trainer(Size(24, 2, 2), trainer.corpus)
    assert trainer.forward_flops() == plain.forward_flops()
    assert trainer.forward_flops(np.ones_like(trainer.open)) > plain.forward_flops()
    state = trainer.start(0)
    spare = int(np.flatnonzero(trainer.open == 0)[0])
    silent = architecture._silenced(state.params, trainer.table.players[spare].parts[-1])
    opened = trainer.open.copy()
    opened[spare] = 1
    rows = trainer.corpus.validation
    assert trainer.loss(state._replace(params=silent), rows, opened) == trainer.loss(state, rows)


def test_a_useless_part_is_traded_for_a_spare_one_of_its_kind(trainer: Trainer) -> None:
    """One head of the first block writes nothing; the second block's heads write much."""
    state = trainer.start(0)
    params = architecture._silenced(state.params, trainer.table.players[trainer.table.index("0.head1")].parts[-1])
    kernel = params["blocks"]["attention"]["output"]["kernel"]
    params["blocks"]["attention"]["output"]["kernel"] = kernel.at[1].multiply(20)
    _, gates, moves = architecture.rearrange(trainer, state._replace(params=params), trainer.open, seed=0)
    assert gates.sum() == trainer.open.sum()
    assert trainer.forward_flops(gates) == trainer.forward_flops()
    for move in moves:
        assert move.closed.rstrip("0123456789")[2:] == move.opened.rstrip("0123456789")[2:]
        assert move.bound < move.layer_mean / 2
        assert gates[trainer.table.index(move.closed)] == 0
        assert gates[trainer.table.index(move.opened)] == 1


# ---- the whole, on planted results ----


class Planted(Study):
    """Trainings are a law: an arm's loss is that of so many times the compute."""

    gains: ClassVar[dict[str, float]] = {}

    def _train(self, k: int, tokens: int, seed: int, rate: float, table: Any, moves: bool) -> dict[str, Any]:
        compute = self.trainer(k).flops(tokens)
        multipliers = tuple(np.round(table[0], 3))
        arm = "both" if moves and len(set(multipliers)) > 1 else "architecture" if moves else "rates"
        if arm == "rates":
            arm = self.names.get(multipliers, "adamw")
        noise = 1 + 1e-4 * np.random.default_rng([k, seed, len(arm)]).standard_normal()
        away = 0.01 * np.log(rate / 8e-3) ** 2  # best at 8e-3
        loss = (1.0 + 40 * (self.gains.get(arm, 1.0) * compute) ** -0.15) * noise + away
        return {
            "loss": loss,
            "elsewhere": loss + 1,
            "flops": compute,
            "parameters": 1,
            **({"moves": []} if moves else {}),
        }

    def protocol(self) -> dict[str, Any]:
        return {
            "multipliers": [2.0, 1.0, 2.0, 2.0, 0.5, 1.0],
            "effects": [[0.1, 0, 0.1]] * 4 + [[0.1, 0, -0.1]] + [[0.1, 0, 0.2]],
            "gain": 0.1, "settled": True, "profiles": 20, "flops": 1e10,
        }  # fmt: skip

    def population(self) -> dict[str, Any]:
        return {"schedule": [[1.1, 1, 1, 1, 1, 1]], "flops": 1e10}

    def myopic(self) -> dict[str, Any]:
        return {"multipliers": [1.2, 1, 1, 1, 1, 1], "flops": 1e9}

    @property
    def names(self) -> dict[tuple[float, ...], str]:
        named = {}
        for arm in ("blockwise", "population", "myopic", "protocol"):
            named[tuple(np.round(np.atleast_2d(self.setting(arm, 0)[0])[0], 3))] = arm
        return named


def test_planted_gains_are_found_and_judged_by_the_rule(tmp_path: Path) -> None:
    study = Planted(PLAN, tmp_path / "study")
    study.gains = {"protocol": 1.3, "both": 1.3, "architecture": 1.0, "myopic": 0.8}
    study.run()
    found = results(study)
    for arm, gain in {"protocol": 1.3, "both": 1.3, "architecture": 1.0, "myopic": 0.8, "shuffled": 1.0}.items():
        judged = found["gains"][arm]["adamw"]
        assert judged["gain"] == pytest.approx(gain, rel=0.02), arm
        assert judged["at_largest"]["gain"] == pytest.approx(gain, rel=0.03), arm
        assert judged["at_largest"]["low"] <= judged["at_largest"]["gain"] <= judged["at_largest"]["high"]
    verdicts = {
        sentence.split(":")[0]: " success by" in sentence.replace("no success", "none")
        for sentence in found["verdicts"]
    }
    assert verdicts == {"protocol": True, "architecture": False, "both": True}
    assert found["signs"]["right"] == 5
    assert all(cell["interior"] for cells in found["table"].values() for cell in cells)
    assert found["table"]["adamw"][0]["rate"] == 8e-3
    paths = save(found, study.folder)
    assert json.loads(paths[0].read_text())["baseline"] in ("adamw", "blockwise")
    text = markdown(found)
    assert text.count("\n| both") == 1 + len(SIZES)
    assert "nan" not in text
    assert study_figures.draw(found, study.folder).stat().st_size > 10_000


def test_ctrl_c_stops_between_two_trainings_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Planted):
        def _train(self, *arguments: Any) -> dict[str, Any]:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Busy, match="is in use by"):  # another process, at the same piece
                Planted(PLAN, self.folder).run()
            return super()._train(*arguments)

    monkeypatch.setattr("arena_jax.game.study.Study", Interrupted)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN.to_json()))
    assert main(["game", "scale", str(tmp_path / "study"), "--plan", str(plan)]) == 130
    assert f"go on with: arena-jax game scale {tmp_path / 'study'}" in capsys.readouterr().out
    assert len(list((tmp_path / "study" / "cells").iterdir())) == 1, "the training that ran is kept"


def test_a_plan_whose_data_cannot_be_read_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ArenaError, match="nowhere"):
        Study(dataclasses.replace(PLAN, data=str(tmp_path / "nowhere.txt")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_stopped_study_goes_on_and_another_plan_is_refused(tmp_path: Path) -> None:
    study = Planted(PLAN, tmp_path)
    study.run()
    cells = {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    kept, *lost = sorted(cells)
    for path in lost:
        path.unlink()
    age = kept.stat().st_mtime_ns
    Planted(PLAN, tmp_path).run()
    assert {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == cells
    assert kept.stat().st_mtime_ns == age, "what was over is not computed again"
    with pytest.raises(ArenaError, match="holds another study: since its first run the plan changed"):
        Study(Plan(**{**PLAN.__dict__, "seeds": (9, 9, 9)}), tmp_path)


@pytest.mark.slow
def test_a_real_training_with_moves_says_what_it_cost(tmp_path: Path, corpus: Corpus) -> None:
    study = Study(PLAN, tmp_path)
    study.corpus = corpus
    plain = study.train(0, 45_000, 0, 8e-3, np.ones(len(COMPONENTS)))
    moved = study.train(0, 45_000, 0, 8e-3, np.ones(len(COMPONENTS)), moves=True)
    assert 2 < plain["loss"] < 5.6
    assert 2 < moved["loss"] < 5.6
    assert moved["game_flops"] > 0
    assert abs(moved["flops"] - plain["flops"]) <= study.trainer(0).flops(ROWS * LENGTH)  # a step
    assert moved["parameters"] == plain["parameters"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "not an object"),
        ('{"seed": [1]}', "did you mean 'seeds'"),
        ('{"arms": ["adamw", "protocl"]}', "did you mean 'protocol'"),
        ('{"arms": ["adamw"]}', "'protocol' is what others are compared with"),
        ('{"tokens": [1, 2, 3]}', "give 40960 or more"),
        ('{"sizes": [[1, 2]]}', "no plan"),
        ('{"sizes": [[16, 1, 3], [32, 1, 2], [48, 1, 2]]}', "3 heads do not divide the hidden size 16; change one"),
        ('{"sizes": [[16, 1.5, 2], [32, 1, 2], [48, 1, 2]]}', "layers of the size [16, 1.5, 2] is 1.5"),
        ('{"sizes": [[16, 1, 2], [32, 0, 2], [48, 1, 2]]}', "layers of the size [32, 0, 2] is 0"),
        ('{"tokens": [90000.5, 90000, 90000]}', "an entry of tokens is 90000.5"),
        ('{"seeds": [1, "2", 1]}', "an entry of seeds is '2'"),
        ('{"rates": [0.1]}', "at least 3 learning rates"),
        ('{"rates": [0.1, 0.2, NaN]}', "an entry of rates is nan; give numbers above 0"),
        ('{"actions": [1, "a"]}', "an entry of actions is 'a'"),
        ('{"actions": [2, 3]}', "with 1 among them"),
        ('{"search_rounds": -1}', "search_rounds is -1"),
        ('{"law_seeds": null}', "law_seeds is None"),
        ('{"data": 3}', "data is 3; give a data set"),
        ("{", "cannot read the plan"),
    ],
)
def test_plans_that_make_no_study(content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(content)
    assert main(["game", "scale", str(tmp_path / "study"), "--plan", str(plan)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_every_arm_is_told() -> None:
    assert set(ARMS) == set(Plan().arms)
