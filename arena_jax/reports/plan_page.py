"""A plan for GPUs that are not here as a document: batches, roofline, variants, shares, and commands to copy."""

from __future__ import annotations

from collections.abc import Sequence

from arena_jax.arena.plan import ShareNeed
from arena_jax.config import RunConfig
from arena_jax.runs.document import Block, Heading, Items, Listing, Paragraph, Table
from arena_jax.runtime.memory import format_bytes
from arena_jax.runtime.target import Target
from arena_jax.training.plan import Need, Variant


def compose(
    config: RunConfig,
    target: Target,
    needs: Sequence[Need],
    variants: Sequence[Variant],
    shares: Sequence[ShareNeed],
    command: str | None,
) -> list[Block]:
    """Put the document together.

    Args:
        config: what was planned.
        target: the GPUs.
        needs: the largest batches, as the run computes its models.
        variants: other ways to compute them; none were tried where there are none.
        shares: of a competition.
        command: that trains what was planned; None where there is no run, only sizes.

    Returns:
        Its blocks.
    """
    count, training = target.mesh.size, config.training
    title = f"{count} × {target.gpu.title}, {format_bytes(target.budget)} of {format_bytes(target.gpu.memory)} each"
    blocks: list[Block] = [
        Heading(title, 1),
        Paragraph(
            f"{config.preset}: length {config.data.max_length}, {training.dtype}, attention {training.attention},"
            f" remat {training.remat}, shard {training.shard}; bytes are per GPU, read off the compiled step."
        ),
        _needs(needs),
        Items([f"{' + '.join(need.models)}: {need.bound}" for need in needs]),
        *_roofline(needs, target),
    ]
    if shares:
        blocks += _shares(shares, target)
    if variants:
        blocks += _variants(variants)
    if command:
        together = [need for need in needs if len(need.models) == len(config.models)]
        lines = (
            []
            if shares
            else [_trains(command, config, target, n, training.attention, training.remat) for n in together]
        )
        lines += [
            _trains(command, config, target, variant.need, variant.attention, variant.remat)
            for variant in variants
            if variant.need and len(variant.models) == len(config.models)
        ]
        if lines:
            blocks += [Heading("Commands"), Listing("\n".join(dict.fromkeys(lines)))]
    blocks.append(
        Paragraph(
            "Not known here: kernels that a GPU tunes by trying, and memory lost to fragments. Nothing of this has run"
            " on a GPU."
        )
    )
    return blocks


def _sizes(need: Need) -> str:
    sizes = list(need.batch_sizes.values())
    return str(sizes[0]) if len(set(sizes)) == 1 else " + ".join(map(str, sizes))


def _needs(needs: Sequence[Need]) -> Table:
    header = ("models", "batch per GPU", "parameters", "optimizer", "the rest", "in all", "compiled")
    rows = [
        (
            " + ".join(need.models),
            _sizes(need),
            format_bytes(need.parameters),
            format_bytes(need.optimizer),
            format_bytes(need.temporaries),
            format_bytes(need.total),
            f"{need.compilations} × {need.compile_seconds / max(1, need.compilations):.0f} s",
        )
        for need in needs
    ]
    return Table(header, rows)


def _roofline(needs: Sequence[Need], target: Target) -> list[Block]:
    header = ("models", "matrix products", "at the peak", "moved", "at the bandwidth", "lower bound of a step")
    rows = [
        (
            " + ".join(need.models),
            f"{need.flops / 1e12:.3g} TFLOP",
            f"{1000 * need.product_seconds:.3g} ms",
            format_bytes(need.moved),
            f"{1000 * need.moving_seconds:.3g} ms",
            f"{1000 * need.least_seconds:.3g} ms",
        )
        for need in needs
    ]
    return [
        Heading("Roofline"),
        Table(header, rows),
        Paragraph(
            f"Per GPU and step of the batch above. Matrix products at {target.gpu.peak('bfloat16') / 1e12:.0f} TFLOP/s"
            f" in bfloat16 or {target.gpu.peak('float32') / 1e12:.0f} in float32; parameters, moments and batch"
            f" read and written once at {target.gpu.bandwidth / 1e12:.2f} TB/s. No step is faster, and most are slower."
        ),
    ]


def _shares(shares: Sequence[ShareNeed], target: Target) -> list[Block]:
    header = ("model", "which", "share", "allowed", "batch per GPU", "microbatches", "taken")
    rows = [
        (
            need.model,
            need.kind,
            f"{100 * need.share:.2f} %",
            format_bytes(need.allowed),
            str(need.batch_size) if need.batch_size else "none fits",
            str(need.microbatches) if need.batch_size else "–",
            format_bytes(need.working) if need.batch_size else "–",
        )
        for need in shares
    ]
    resident = shares[0].resident
    return [
        Heading("Shares of the competition"),
        Paragraph(
            f"Always there: {format_bytes(resident)}, parameters, gradients and optimizer states of all models; shares"
            f" divide the other {format_bytes(target.budget - resident)}. “Least” and “most” are where the policy's"
            " floor ends; models that compete take turns."
        ),
        Table(header, rows, numbers=2),
    ]


def _variants(variants: Sequence[Variant]) -> list[Block]:
    header = ("models", "attention", "remat", "attention dropout", "batch per GPU", "at least, per example", "options")
    rows = [
        (
            " + ".join(variant.models),
            variant.attention,
            variant.remat,
            f"{variant.attention_dropout:g}",
            _sizes(variant.need) if variant.need else "–",
            f"{1000 * variant.need.least_seconds / sum(variant.need.batch_sizes.values()):.3g} ms"
            if variant.need
            else "–",
            variant.options if variant.need else variant.reason,
        )
        for variant in variants
    ]
    return [Heading("Variants, by the batch that they allow"), Table(header, rows, numbers=len(header))]


def _trains(command: str, config: RunConfig, target: Target, need: Need, attention: str, remat: str) -> str:
    """The command line with the batch of a need, and how it is computed."""
    gpus = target.mesh.size
    sizes = {name: size * gpus * config.accumulation(name) for name, size in need.batch_sizes.items()}
    words = [command]
    if len(set(sizes.values())) == 1:
        words.append(f"--batch-size {next(iter(sizes.values()))}")
    else:
        words += [f"--model {name}.batch_size={size}" for name, size in sizes.items()]
    words += [f"--attention {attention}", f"--remat {remat}"]
    words += [f"--shard {config.training.shard}"] if config.training.shard != "none" else []
    words += [f"--model {name}.attention_dropout=0" for name in need.models if attention == "cudnn"]
    return " ".join(words)
