"""What stands where in a bundle's folder: a MONAI Bundle with ``xtl.json``, ``chain.json``, ``hashes.json`` added."""

from __future__ import annotations

FORMAT = 1  # of configs/xtl.json; a reader refuses a later one

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
CHAIN = "configs/chain.json"
XTL = "configs/xtl.json"
HASHES = "configs/hashes.json"
WEIGHTS = "models/model.pt"
MEMBER = "models/member-{number}.pt"  # of an ensemble, from number 2 on; the first is WEIGHTS
MOST_NETWORKS = 20  # of an ensemble
README = "docs/README.md"
LICENSE = "LICENSE"

REQUIRED = (METADATA, INFERENCE, CHAIN, XTL, WEIGHTS)
WRITTEN = (*REQUIRED, HASHES, README, LICENSE)  # all that XTL writes

TASKS = {
    "segmentation": "Segmentation of multiple-sclerosis lesions in brain MR",
    "classification": "Probability that a prostate finding in multi-parametric MR is clinically significant cancer",
}
