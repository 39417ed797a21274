"""A run's way: what its records say was spent until each evaluation, counted by hand."""

from arena_jax.compare.curve import curve


def test_what_a_leader_took_alone_is_counted_in_every_point():
    scores = {"bert": {"loss": 1.0}}
    records = [
        {"kind": "compile", "step": 0, "seconds": 3.0},
        {"kind": "train", "step": 4, "seconds": 2.0},
        {"kind": "evaluation", "step": 2, "split": "validation", "models": scores},
        {"kind": "evaluation", "step": 4, "split": "validation", "models": scores},
    ]
    spent = {"steps": 10, "seconds": 5.0, "compile_seconds": 7.0}

    def points(start):
        return [
            (point["step"], point["seconds"], point["compile_seconds"]) for point in curve([start, *records], devices=2)
        ]

    assert points({"kind": "start", "step": 0}) == [(2, 2.0, 6.0), (4, 4.0, 6.0)]
    assert points({"kind": "start", "step": 0, "relay": spent}) == [(12, 12.0, 20.0), (14, 14.0, 20.0)]
