"""Which tensor of a weights file belongs where in a backbone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import InputError

COUNTER = "num_batches_tracked"
_OLD_DENSENET = re.compile(r"(denselayer\d{1,3}\.(?:norm|relu|conv))\.([12])\.")
_DEEPEST_PREFIX = 6  # parts of a name that may stand before the backbone's own


@dataclass(frozen=True)
class KeyMatch:
    """What a file has for a backbone. BatchNorm's batch counters, which nothing needs, do not count.

    Attributes
    ----------
    tensors : the backbone's key -> tensor of the right shape.
    needed : number of the backbone's tensors.
    missing : the backbone's keys that the file lacks.
    mismatched : keys whose tensor in the file has another shape or type, with both shapes.
    unexpected : names in the file that the backbone has no place for.
    deeper : those of them that would be further layers of the backbone: the file is of a larger network.
    prefix : beginning of the file's names that was taken away.
    grey : the first convolution had one input channel and was spread over RGB.
    """

    tensors: dict[str, Tensor]
    needed: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    deeper: tuple[str, ...]
    prefix: str
    grey: bool

    @property
    def matched(self) -> int:
        return sum(not key.endswith(COUNTER) for key in self.tensors)

    @property
    def share(self) -> float:
        """Fraction of the backbone's tensors that the file holds."""
        return self.matched / self.needed

    @property
    def is_complete(self) -> bool:
        return self.matched == self.needed and not self.deeper

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> KeyMatch:
        """The same with more tensors, which the file need not hold."""
        missing = tuple(key for key in self.missing if key not in tensors)
        return replace(self, tensors={**self.tensors, **tensors}, missing=missing)


def match_keys(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    first_convolution: str,
    keys: Mapping[str, str] | None = None,
) -> KeyMatch:
    """Find a backbone's tensors in a file.

    Parameters
    ----------
    state : the file's tensors.
    own : the backbone's state dict; only shapes and types are looked at.
    first_convolution : key of the kernels that meet the image. Kernels for one input channel (O, 1, ...)
        are accepted there: repeated for RGB and divided by 3, so that a grey image in all three channels
        gives the same response.
    keys : beginning of a name in the file -> what takes its place; the longest that fits a name is used.
        None: the beginning that most tensors share and the backbone lacks ("module.", "backbone.",
        "encoder.") is found and taken away.

    Raises
    ------
    InputError : an entry of ``keys`` fits no name, or two names become one.
    """
    modern = {name: _OLD_DENSENET.sub(r"\1\2.", name) for name in state}
    if keys:
        prefix, targets = "", _mapped(modern, keys)
    else:
        prefix = _shared_prefix(modern, state, own, first_convolution)
        targets = {name: key[len(prefix) :] if key.startswith(prefix) else None for name, key in modern.items()}
    return _match(state, own, targets, first_convolution, prefix)


def _match(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    targets: Mapping[str, str | None],
    first_convolution: str,
    prefix: str,
) -> KeyMatch:
    roots = {key.partition(".")[0] for key in own}
    tensors: dict[str, Tensor] = {}
    mismatched, unexpected, deeper, taken = [], [], [], {}
    grey = False
    for name, key in targets.items():
        if key is None or key not in own:
            unexpected.append(name)
            if key is not None and key.partition(".")[0] in roots:
                deeper.append(name)
            continue
        if key in taken:
            raise InputError(
                f"the names {taken[key]!r} and {name!r} of the weights file both become {key!r}",
                "Give a key map in which they differ",
            )
        taken[key] = name
        value = state[name]
        if _is_grey(value, own[key], key, first_convolution):
            value, grey = _spread(value, own[key]), True
        if _fits(value, own[key]):
            tensors[key] = value
        else:
            mismatched.append(f"{key} {_shape(value)} instead of {_shape(own[key])}")
    needed = [key for key in own if not key.endswith(COUNTER)]
    missing = tuple(key for key in needed if key not in taken)
    left_out = tuple(mismatched), tuple(unexpected), tuple(deeper)
    return KeyMatch(tensors, len(needed), missing, *left_out, prefix, grey)


def _mapped(modern: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    used: set[str] = set()
    targets = {}
    longest_first = sorted(keys, key=len, reverse=True)
    for name, key in modern.items():
        # The user sees the file's own names; those of an old DenseNet may be written either way.
        for beginning in longest_first:
            text = key if key.startswith(beginning) else name
            if text.startswith(beginning):
                used.add(beginning)
                key = keys[beginning] + text[len(beginning) :]
                break
        targets[name] = _OLD_DENSENET.sub(r"\1\2.", key)
    if idle := [beginning for beginning in keys if beginning not in used]:
        raise InputError(
            f"no name in the weights file begins with {idle[0]!r} as the key map says",
            f"The names there begin with {beginnings(modern)}",
        )
    return targets


def beginnings(names: Iterable[str], count: int = 8) -> str:
    """The different beginnings of names up to the first part in which they differ, in order, for a message."""
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(part) > common + 1 for part in parts) and len({part[common] for part in parts}) == 1:
        common += 1
    found = list(dict.fromkeys(".".join(part[: common + 1]) + "." for part in parts))
    return ", ".join(map(repr, found[:count])) + (", ..." if len(found) > count else "")


def _shared_prefix(
    modern: Mapping[str, str], state: Mapping[str, Tensor], own: Mapping[str, Tensor], first_convolution: str
) -> str:
    votes: Counter[str] = Counter({"": 0})
    for name, key in modern.items():
        parts = key.split(".", _DEEPEST_PREFIX)
        for depth in range(len(parts)):
            tail = ".".join(parts[depth:])
            if tail in own and not tail.endswith(COUNTER):
                value, place = state[name], own[tail]
                if _fits(value, place) or _is_grey(value, place, tail, first_convolution):
                    votes[key[: len(key) - len(tail)]] += 1
    # of equals the first: "" before all others, then the order of the file
    return max(votes, key=votes.__getitem__)


def _fits(value: Tensor, place: Tensor) -> bool:
    return value.shape == place.shape and value.is_floating_point() == place.is_floating_point()


def _is_grey(value: Tensor, place: Tensor, key: str, first_convolution: str) -> bool:
    return (
        key == first_convolution
        and value.ndim == place.ndim
        and value.shape[1] == 1 < place.shape[1]
        and value.shape[0] == place.shape[0]
        and value.shape[2:] == place.shape[2:]
    )


def _spread(value: Tensor, place: Tensor) -> Tensor:
    channels = place.shape[1]
    return value.expand(place.shape).clone() / channels


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"
