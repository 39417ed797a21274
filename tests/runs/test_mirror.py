"""A run mirrored to object storage goes on elsewhere, to the bit; a copy counts when it is whole."""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path

import fsspec
import jax.numpy as jnp
import numpy as np
import pytest

from arena_jax.cli import train
from arena_jax.cli.main import main
from arena_jax.config import presets
from arena_jax.config.errors import ArenaError
from arena_jax.runs import Session, load_run
from arena_jax.runs.mirror import Mirror, bring
from arena_jax.runs.records import read

STEPS = 6


def a_run(
    folder: Path, address: str | None, *, resume: bool = False, kill: int | None = None, keep: int = 2
) -> np.ndarray:
    """A state of one vector, saved after every second step; the last one."""
    run = presets.get("joint-synthetic")
    training = dataclasses.replace(
        run.training, tensorboard=False, figures=False, mirror=address, keep_checkpoints=keep, checkpoint_every=2
    )
    with Session(dataclasses.replace(run, training=training), folder, resume=resume) as session:
        state, _ = session.begin({"bert": jnp.zeros(3)}, ("bert",))
        session.record_start(steps=STEPS, models={"bert": {}}, derived=[])
        for step in range(session.first_step + 1, STEPS + 1):
            state = {"bert": jnp.sin(state["bert"] + step)}
            session.record("train", step, models={"bert": {"loss": 1 / step}})
            session.advance(step)
            if session.checkpoint_due(step, over=step == STEPS):
                session.save(step, state, {}, over=step == STEPS)
                session.checkpoints.wait()
            if step == kill:
                raise RuntimeError("power cut")
        session.finish(STEPS, STEPS, over=True)
        session.record_end(STEPS)
    return np.asarray(state["bert"])


@pytest.fixture
def address() -> str:
    """In this process' memory; new to each test."""
    return f"memory://{uuid.uuid4().hex}/run"


def losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["models"]["bert"]["loss"]) for record in read(run) if record["kind"] == "train"]


def goes_on_elsewhere(tmp_path: Path, address: str) -> None:
    expected = a_run(tmp_path / "whole", None)
    with pytest.raises(RuntimeError, match="power cut"):
        a_run(tmp_path / "first", address, kill=5)
    assert Mirror(address).steps() == [2, 4]
    Mirror(address).restore(tmp_path / "second")
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")[:4]
    assert not (tmp_path / ".second.partial").exists()
    state = a_run(tmp_path / "second", address, resume=True)
    np.testing.assert_array_equal(state, expected)
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")
    assert Mirror(address).steps() == [4, 6]
    Mirror(address).restore(tmp_path / "third")
    assert {path.name for path in (tmp_path / "third" / "checkpoints").iterdir()} == {"4", "6"}


def test_a_run_goes_on_elsewhere(tmp_path, address):
    goes_on_elsewhere(tmp_path, address)


@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_a_run_goes_on_elsewhere_from_s3(tmp_path, monkeypatch):
    server_module = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("bucket")
        goes_on_elsewhere(tmp_path, "s3://bucket/a/run")
        with pytest.raises(ArenaError, match=r"^cannot write to 's3://other/run': "):
            Mirror("s3://other/run").take(presets.get("joint-synthetic"), resume=False)
    finally:
        server.stop()


def test_a_copy_that_is_not_whole_does_not_count_and_stops_nothing(tmp_path, address, monkeypatch):
    memory = type(fsspec.filesystem("memory"))
    put = memory.pipe_file

    def refuse(self, path, value, **options):
        if "/4/" in path and "checkpoints" in path:
            raise OSError("the bucket is full\nmore of it")
        put(self, path, value, **options)

    monkeypatch.setattr(memory, "pipe_file", refuse)
    a_run(tmp_path / "run", address)
    texts = [record["text"] for record in read(tmp_path / "run") if record["kind"] == "trouble"]
    assert texts == [
        f"the checkpoint of step 4 could not be copied to '{address}': the bucket is full; the run goes on, and the"
        " next one is copied again"
    ]
    assert Mirror(address).steps() == [6]


def test_what_comes_back_is_what_was_written_or_nothing_is(tmp_path, address):
    a_run(tmp_path / "run", address)
    memory, root = fsspec.core.url_to_fs(address)

    def damage(name: str) -> None:
        memory.pipe_file(f"{root}/{name}", memory.cat_file(f"{root}/{name}")[:-1] + b"?")

    damage("6/records.jsonl")
    (note,) = Mirror(address).restore(tmp_path / "older")
    assert note.endswith("6/records.jsonl' is not what was written: the checksum differs")
    assert {path.name for path in (tmp_path / "older" / "checkpoints").iterdir()} == {"4"}
    assert losses(tmp_path / "older")[-1][0] == 4
    checksums = json.loads(memory.cat_file(f"{root}/4/complete.json"))
    memory.pipe_file(f"{root}/4/complete.json", json.dumps({"../../outside": [0, 0], **checksums}).encode())
    with pytest.raises(ArenaError, match=r"^no copy can be used: .*the checksum differs; .*a file outside the run"):
        Mirror(address).restore(tmp_path / "back")
    memory.pipe_file(f"{root}/4/complete.json", b"[1]")
    with pytest.raises(ArenaError, match=r"4/complete\.json' is not what was written$"):
        Mirror(address).restore(tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["older", "run"]


def test_an_older_checkpoint_that_is_damaged_is_left_out(tmp_path, address):
    a_run(tmp_path / "run", address)
    memory, root = fsspec.core.url_to_fs(address)
    name = next(name for name in memory.find(f"{root}/4") if "/checkpoints/" in name)
    memory.pipe_file(name, b"")
    assert len(Mirror(address).restore(tmp_path / "back")) == 1
    assert {path.name for path in (tmp_path / "back" / "checkpoints").iterdir()} == {"6"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, address):
    a_run(tmp_path / "run", address)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArenaError, match=r"^cannot bring 'memory://"):
        Mirror(address).restore(tmp_path / "file" / "back")


def test_whoever_came_first_writes_no_more(tmp_path, address):
    a_run(tmp_path / "run", address)
    config = load_run(tmp_path / "run")
    first = Mirror(address)
    first.take(config, resume=True)
    Mirror(address).take(config, resume=True)
    first.copy(tmp_path / "run", 6, [6])
    assert first.trouble is not None
    assert first.trouble.endswith("another process has begun to write there")
    assert Mirror(address).steps() == [4, 6]
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=config.training.seed + 1))
    with pytest.raises(ArenaError, match=r"^'memory://.*' holds another run: training.seed: "):
        Mirror(address).take(other, resume=True)


def test_a_copy_is_none_while_it_is_written_again(tmp_path, address, monkeypatch):
    a_run(tmp_path / "run", address)
    memory = type(fsspec.filesystem("memory"))

    def refuse(self, path, value, **options):
        raise OSError("power cut")

    mirror = Mirror(address)
    mirror.take(load_run(tmp_path / "run"), resume=True)
    monkeypatch.setattr(memory, "pipe_file", refuse)
    mirror.copy(tmp_path / "run", 6, [4, 6])
    assert Mirror(address).steps() == [4]


def test_the_command_brings_a_run_back_and_goes_on(tmp_path, address, monkeypatch):
    with pytest.raises(RuntimeError, match="power cut"):
        a_run(tmp_path / "first", address, kill=3)
    monkeypatch.chdir(tmp_path)
    resumed = []
    monkeypatch.setattr(train, "execute", lambda config, folder, resume: resumed.append((config, folder, resume)) or 0)
    assert main(["resume", address]) == 0
    assert resumed == [(load_run(tmp_path / "first"), Path("runs/run"), True)]
    with pytest.raises(ArenaError, match=r"^'runs/run' is there already: go on with `arena-jax resume runs/run`"):
        bring(address)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("runs/joint", "'runs/joint' is no address of object storage"),
        ("http://host/run", "'http://host/run' is no address of object storage"),
        ("s4://bucket/run", "known: abfs, az, gcs, gs, memory"),
    ],
)
def test_other_places_are_refused(tmp_path, wrong, message):
    with pytest.raises(ArenaError) as refusal:
        a_run(tmp_path / "run", wrong)
    assert message in str(refusal.value)


def test_an_address_is_neither_a_runs_folder_nor_anothers(tmp_path, address, capsys):
    a_run(tmp_path / "run", address)
    with pytest.raises(ArenaError, match=r"holds a run already: go on with `arena-jax resume memory://"):
        a_run(tmp_path / "other", address)
    with pytest.raises(ArenaError, match="there is no run at"):
        Mirror(f"{address}-2").restore(tmp_path / "back")
    assert main(["train", "joint-synthetic", "--output", "s3://bucket/run"]) == 2
    assert "give --output FOLDER --mirror s3://bucket/run" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "bert", "s3://bucket/bert"]) == 2
    assert "not to s3://bucket/bert" in capsys.readouterr().err
