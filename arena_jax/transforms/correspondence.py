"""Which parameters of different models belong together.

A correspondence is a pure function ``(path, shape) -> key or None`` of one parameter of one layer. Parameters with
equal keys *and* equal shapes form a group; ``None`` keeps a parameter out of every group.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable
from fractions import Fraction

from arena_jax.config.errors import ArenaError, nearest
from arena_jax.config.forms import KINDS
from arena_jax.transforms.trees import Leaf, Name, Path

Correspondence = Callable[[Path, tuple[int, ...]], Hashable]

STACK = "blocks"  # the container whose leaves carry a leading layer axis

# A numbered name that says itself that it is a layer: layer_3, layers_3, TransformerBlock_0, h_11; not LayerNorm_0.
_NUMBERED_LAYER = re.compile(r"^(h|.*(?:block|layer)s?)_?(\d+)$", re.IGNORECASE)

_HEAD = re.compile(r"^((.*_)?head|classifier|pooler|score|cls|qa_outputs|logits)(_\d+)?$")
_PROJECTION = re.compile(r"^([qkvo]|qkv|kv|[qkvo]_?proj|query|key|value|in_proj|out_proj)(_weight|_kernel)?$")
_FEED_FORWARD = {"mlp", "ffn", "ff", "fc", "feed", "feedforward", "intermediate", "dense", "linear", "proj"}
_FEED_FORWARD |= {"up", "down", "gate", "wi", "wo", "expert", "experts"}


class Layer(int):
    """The place of a layer in its stack: an ``int`` from 0 that also knows how many layers there are.

    Attributes:
        of: number of layers in the stack.

    Example:
        >>> Layer(3, of=12), Layer(3, of=12) + 1
        (Layer(3, of=12), 4)
        >>> Layer(3, of=12).depth == Layer(7, of=24).depth
        True
    """

    of: int

    def __new__(cls, index: int, of: int) -> Layer:
        """Make the index an int that carries ``of``."""
        layer = super().__new__(cls, index)
        layer.of = of
        return layer

    @property
    def depth(self) -> Fraction:
        """How much of the stack has run after this layer: ``(index + 1) / of``, exact."""
        return Fraction(self + 1, self.of)

    def __repr__(self) -> str:
        return f"Layer({int(self)}, of={self.of})"


def _number(name: Name) -> tuple[str | None, int] | None:
    """Read a name as the number of a layer: (what stands before it, index), or None."""
    if isinstance(name, int):
        return None, name
    if isinstance(name, str) and name.isdecimal():
        return None, int(name)
    match = _NUMBERED_LAYER.match(name) if isinstance(name, str) else None
    return (match[1], int(match[2])) if match else None


def _layer_position(path: Path) -> int | None:
    """The first number in a path that names a branch, not a leaf: that is the layer."""
    return next((i for i, name in enumerate(path[:-1]) if _number(name) is not None), None)


def _stack_position(leaf: Leaf) -> int | None:
    """Where the stack's name stands in the path of a leaf with a leading layer axis, or None."""
    if not leaf.shape:
        return None
    pairs = zip(leaf.path, leaf.path[1:], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a == STACK and _number(b) is None), None)


def parameters_of(leaves: tuple[Leaf, ...]) -> list[tuple[bool, list[Path], tuple[int, ...]]]:
    """Spell out every leaf as the parameters it holds, with their layers in the paths.

    A leaf under ``blocks`` followed by a name is stacked: it holds one parameter per layer on its leading axis. A
    number in the path (``0``, ``"0"``, ``layer_0``, ``Block_0``) that names a branch is a layer of an unstacked list.

    Args:
        leaves: all leaves of all models.

    Returns:
        For each leaf: whether it is stacked, the path of each parameter in it, and the shape of one parameter.

    Example:
        >>> parameters_of((Leaf("a", ("blocks", "up", "kernel"), (2, 4, 8), "float32"),))
        [(True, [('blocks', Layer(0, of=2), 'up', 'kernel'), ('blocks', Layer(1, of=2), 'up', 'kernel')], (4, 8))]
        >>> parameters_of((Leaf("a", ("blocks", 0, "up", "kernel"), (4, 8), "float32"),))
        [(False, [('blocks', Layer(0, of=1), 'up', 'kernel')], (4, 8))]
    """
    numbers: dict[tuple, set[int]] = {}
    for leaf in leaves:
        at = _layer_position(leaf.path)
        if at is not None and _stack_position(leaf) is None:
            before, index = _number(leaf.path[at])  # type: ignore[misc]
            numbers.setdefault((leaf.model, leaf.path[:at], before), set()).add(index)

    spelled = []
    for leaf in leaves:
        stack, at = _stack_position(leaf), _layer_position(leaf.path)
        if stack is not None:
            count = leaf.shape[0]
            start, end = leaf.path[: stack + 1], leaf.path[stack + 1 :]
            paths = [(*start, Layer(i, of=count), *end) for i in range(count)]
            spelled.append((True, paths, leaf.shape[1:]))
        elif at is not None:
            before, index = _number(leaf.path[at])  # type: ignore[misc]
            order = sorted(numbers[leaf.model, leaf.path[:at], before])
            layer = Layer(order.index(index), of=len(order))
            start = leaf.path[:at] if before is None else (*leaf.path[:at], before)
            spelled.append((False, [(*start, layer, *leaf.path[at + 1 :])], leaf.shape))
        else:
            spelled.append((False, [leaf.path], leaf.shape))
    return spelled


def _words(name: Name) -> list[str]:
    """Split a name into lower-case words without digits: ``SelfAttention_0`` is self, attention."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name))
    return [word for word in re.split(r"[^a-z]+", spaced.lower()) if word]


def kind_of(path: Path) -> str:
    """The kind of a parameter by its names; the first rule that applies decides.

    ========================  ==========================================================================================
    kind                      rule
    ========================  ==========================================================================================
    head                      a module named head, …_head, classifier, pooler, score, cls, qa_outputs or logits
    normalisation             the module or the leaf has a word that ends in "norm", or ln, bn, gn
    bias                      the leaf's last word is bias, or the leaf is named b
    embedding                 a word that contains "embed", or wte, wpe
    attention                 a word that contains "attention" or "attn", or a module q, k, v, o, q_proj, query, …
    feed-forward              a word mlp, ffn, fc, feed, intermediate, dense, linear, up, down, gate, wi, wo, expert
    other: <last two names>   nothing of the above
    ========================  ==========================================================================================

    Args:
        path: names inside one model; layers may be among them.

    Returns:
        The kind.

    Example:
        >>> kind_of(("blocks", Layer(0, of=2), "attention", "query", "kernel"))
        'attention'
        >>> kind_of(("transformer", "h", Layer(0, of=2), "mlp", "c_proj", "kernel"))
        'feed-forward'
        >>> kind_of(("encoder", Layer(0, of=2), "attention", "output", "LayerNorm", "bias"))
        'normalisation'
        >>> kind_of(("conv", "filters"))
        'other: conv/filters'
    """
    names = [name for name in path if not isinstance(name, int)]
    modules = [str(name) for name in names[:-1]]
    leaf = str(names[-1]) if names else ""
    words = {word for name in names for word in _words(name)}
    last_words = [word for name in names[-2:] for word in _words(name)]
    if any(_HEAD.match(name.lower()) for name in modules) or leaf.endswith("head"):
        return "head"
    if any(word.endswith("norm") or word in ("ln", "bn", "gn") for word in last_words):
        return "normalisation"
    if leaf == "b" or (_words(leaf) or [""])[-1].endswith("bias"):
        return "bias"
    if any("embed" in word or word in ("wte", "wpe") for word in words):
        return "embedding"
    if any("attention" in word or "attn" in word for word in words) or any(
        _PROJECTION.match(name.lower()) for name in [*modules, leaf]
    ):
        return "attention"
    if words & _FEED_FORWARD:
        return "feed-forward"
    return "other: " + "/".join(str(name) for name in names[-2:])


def _shape(shape: tuple[int, ...] | None, what: str) -> tuple[int, ...]:
    """The shape, or what to do where somebody takes a correspondence for a schedule and calls it with a count."""
    if shape is None:
        raise ArenaError(
            f"{what} takes the path and the shape of a parameter; with optax.inject_hyperparams, which takes every "
            "function for a schedule, name it in static_args=('correspondence',)"
        )
    return tuple(shape)


def by_kind(path: Path, shape: tuple[int, ...] | None = None) -> Hashable:
    """Group by kind and shape, roles and layers mixed: the paper's ``(type, shape)``.

    The kinds are attention, feed-forward, embedding, normalisation, bias and head; ``kind_of`` states the rule. With
    12 layers of query, key, value and output kernels in three models this pools 144 gradients as one group.

    Args:
        path: names inside one model, with the ``Layer`` in its place.
        shape: the parameter's shape within one layer.

    Returns:
        ``(kind, shape)``.

    Example:
        >>> by_kind(("blocks", Layer(3, of=12), "attention", "query", "kernel"), (64, 64))
        ('attention', (64, 64))
        >>> by_kind(("embeddings", "token", "embedding"), (1000, 64))
        ('embedding', (1000, 64))

    Source: MultiModelOptimizer, section 3.2.
    """
    size = _shape(shape, "by_kind")
    return kind_of(path), size


def _role(path: Path) -> str:
    return "/".join(str(name) for name in path if not isinstance(name, Layer))


def by_role(path: Path, shape: tuple[int, ...] | None = None) -> Hashable:
    """Group by the full name without its layer, so that a query meets queries only, of whatever depth.

    Args:
        path: names inside one model, with the ``Layer`` in its place.
        shape: the parameter's shape within one layer.

    Returns:
        ``(role, shape)``.

    Example:
        >>> by_role(("blocks", Layer(3, of=12), "attention", "query", "kernel"), (64, 64))
        ('blocks/attention/query/kernel', (64, 64))
    """
    size = _shape(shape, "by_role")
    return _role(path), size


def by_layer(path: Path, shape: tuple[int, ...] | None = None) -> Hashable:
    """Group by role at the same relative depth: layer i of n is at ``(i + 1) / n``, an exact fraction.

    The 12 layers of one model thus meet every second one of 24; layers without a partner are left alone.

    Args:
        path: names inside one model, with the ``Layer`` in its place.
        shape: the parameter's shape within one layer.

    Returns:
        ``(role, depth, shape)``; depth is None outside the layers.

    Example:
        >>> by_layer(("blocks", Layer(3, of=12), "attention", "query", "kernel"), (64, 64))
        ('blocks/attention/query/kernel', Fraction(1, 3), (64, 64))
        >>> by_layer(("blocks", Layer(7, of=24), "attention", "query", "kernel"), (64, 64))
        ('blocks/attention/query/kernel', Fraction(1, 3), (64, 64))
    """
    size = _shape(shape, "by_layer")
    depth = next((name.depth for name in path if isinstance(name, Layer)), None)
    return _role(path), depth, size


@functools.cache
def without_kinds(correspondence: Correspondence, kinds: tuple[str, ...]) -> Correspondence:
    """A correspondence that keeps some kinds of parameters out of every group.

    Args:
        correspondence: of the others.
        kinds: what ``kind_of`` calls those that are left out.

    Returns:
        The same object for the same arguments: groups are decided once for each.

    Raises:
        ArenaError: there is no such kind.

    Example:
        >>> apart = without_kinds(by_kind, ("attention",))
        >>> apart(("blocks", "attention", "query", "kernel"), (64, 64))
        >>> apart(("blocks", "mlp", "up", "kernel"), (64, 256))
        ('feed-forward', (64, 256))
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ArenaError(f"unshared names {kind!r}, which is no kind of parameters; {nearest(kind, KINDS)}")

    def others(path: Path, shape: tuple[int, ...]) -> Hashable:
        return None if kind_of(path) in kinds else correspondence(path, shape)

    return others


CORRESPONDENCES: dict[str, Correspondence] = {"by_kind": by_kind, "by_role": by_role, "by_layer": by_layer}
