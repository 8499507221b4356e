"""What stands where in a bundle's folder (MONAI Bundle, with ``configs/xtl.json`` and ``configs/chain.json`` added)."""

from __future__ import annotations

FORMAT = 1  # of configs/xtl.json; a reader refuses a later one

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
CHAIN = "configs/chain.json"
XTL = "configs/xtl.json"
WEIGHTS = "models/model.pt"
README = "docs/README.md"
LICENSE = "LICENSE"

REQUIRED = (METADATA, INFERENCE, CHAIN, XTL, WEIGHTS)

TASKS = {
    "segmentation": "Segmentation of multiple-sclerosis lesions in brain MR",
    "classification": "Probability that a prostate finding in multi-parametric MR is clinically significant cancer",
}
