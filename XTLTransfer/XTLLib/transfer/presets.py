"""Ready-made recipes for a stage's training, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Romero et al. 2020, Med Phys 47(12):6246, as their public code describes it: three layer groups at
# (a^2, a, 1) times the rate with a = 1/3, one cycle up to 1e-3, the groups freed at 10 % and 20 % of the
# iterations, Adam without weight decay or clipping, batches of 16, MixUp with Beta(0.4, 0.4), the weights of the
# lowest validation loss kept. Their code has defects that are not repeated here: momentum cycling reaches Adam's
# betas, frozen groups keep their BatchNorm statistics, and what was unfrozen is evaluated with its own weights.
# Deviations: a rating is that of the patch as it is, not the mean of four augmented ones; MixUp draws one share a
# batch and not one an example; validations are those of the task and not one an epoch.
_ROMERO_2020: Mapping[str, Any] = MappingProxyType(
    {
        "optimiser": "adam",
        "weight_decay": 0.0,
        "clip_norm": None,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "one-cycle",
        "layer_groups": "three",
        "discriminative": 1 / 3,
        "unfreeze": (0.1, 0.2),
        "mixup": 0.4,
        "class_balance": "none",
        "keep": "loss",
    }
)

# The same paper's "regular" policy: one rate for all layers, a tenth of it whenever the validation loss rises by
# more than 0.001, the end below 1e-6. Deviations: as above; Adam's moments are kept from epoch to epoch.
_REGULAR: Mapping[str, Any] = MappingProxyType(
    {
        "optimiser": "adam",
        "weight_decay": 0.0,
        "clip_norm": None,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "plateau",
        "layer_groups": "three",
        "discriminative": 1.0,
        "keep": "loss",
    }
)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"romero2020": _ROMERO_2020, "regular": _REGULAR})
