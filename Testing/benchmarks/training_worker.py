"""One side of the training benchmark, in a process of its own.

python training_worker.py SETTINGS.json   (written by training_step.py)

After its first step the process prints one JSON line about what it trains. For every line ``go`` on stdin it
makes one step that is not counted and then ``steps`` steps, and prints their figures as a JSON line; it ends
with stdin.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from training_data import CHANNELS
from XTLLib.errors import Cancelled
from XTLLib.networks.layout import to_fast_layout
from XTLLib.networks.spec import NetworkSpec


@dataclass(frozen=True)
class Settings:
    """What both sides do.

    Attributes
    ----------
    side : "ours" or "monai". datalist : path. backbone, window, batch : of the step. device : "cpu", "cuda".
    steps : counted steps of a round. workers : of the peer's DataLoader.
    """

    side: str
    datalist: str
    backbone: str
    window: int
    batch: int
    device: str
    steps: int
    workers: int = 0

    def spec(self) -> NetworkSpec:
        """The network that both sides train."""
        return NetworkSpec(
            "segmentation",
            self.backbone,
            in_channels=len(CHANNELS),
            conversion="inflate",
            spacing_mm=(1.0, 1.0, 1.0),
            patch_shape=(self.window,) * 3,
        )


@dataclass
class Clock:
    """Lets a training run round by round, and notes when its steps end.

    Attributes
    ----------
    facts : told in the first line: parameters and shapes. steps : counted in a round.
    preparation_s : CPU seconds that each batch took to make. waiting_s : wall seconds for which the training
        stood still for each step's batch. ready : step -> when its batch was ready, for batches made ahead.
    """

    steps: int
    device: str
    facts: dict = field(default_factory=dict)
    marks: list[float] = field(default_factory=list)
    preparation_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)
    ready: dict[int, float] = field(default_factory=dict)
    _ended: int = 0

    def step_ended(self) -> None:
        """Called after every step. Raises Cancelled at the end of stdin."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        if self._ended in self.ready:
            self.waiting_s.append(max(0.0, self.ready.pop(self._ended) - (self.marks or [0.0])[-1]))
        self.marks.append(time.perf_counter())
        self._ended += 1
        if self._ended > 1 and len(self.marks) <= self.steps:
            return
        if self._ended > 1:
            seconds = [after - before for before, after in zip(self.marks, self.marks[1:])]
            parts = {name: getattr(self, name)[-self.steps :] for name in ("preparation_s", "waiting_s")}
            _tell({"step_s": seconds, **parts, "peak_mib": _peak_mib(self.device)})
        else:
            _tell(self.facts)
        if sys.stdin.readline().strip() != "go":
            raise Cancelled("benchmark")
        self.marks = []


def train_ours(settings: Settings, clock: Clock) -> None:
    """XTL's own stage: its engine, its data, its network, as ``xtl train`` runs them."""
    from XTLLib.data.datalist import Datalist
    from XTLLib.networks.backbones import build_backbone
    from XTLLib.progress import Progress
    from XTLLib.training.engine import Engine
    from XTLLib.training.stages import prepare_stage
    from XTLLib.transfer.chain import chain_from_dict

    chain = chain_from_dict(
        {
            "name": "benchmark",
            "backbone": settings.backbone,
            "stages": [
                {"kind": "initialisation", "weights": "random"},
                {
                    "kind": "target",
                    "task": "segmentation",
                    "datalist": settings.datalist,
                    "channels": list(CHANNELS),
                    "window": [settings.window] * 3,
                    "training": {"steps": 100_000, "batch_size": settings.batch, "validation": 0},
                },
            ],
        }
    )
    stage = chain.target
    datalist = Datalist.load(settings.datalist)
    backbone = build_backbone(settings.backbone)
    prepared = prepare_stage(chain, stage, datalist, backbone, is_learned=False, seed=0, progress=Progress())
    if prepared.spec.to_dict() != settings.spec().to_dict():
        raise RuntimeError(f"the stage's network is {prepared.spec}, not the one both sides are to train")
    _note_network(clock, prepared.network)
    _time_batches(prepared.task, clock)
    with tempfile.TemporaryDirectory() as folder, suppress(Cancelled):
        Engine(
            prepared.network,
            prepared.task,
            stage.training,
            seed=0,
            folder=Path(folder),
            key="benchmark",
            device=torch.device(settings.device),
            progress=Progress(lambda _: clock.step_ended()),
            title="benchmark",
        ).run(False)


def train_monai(settings: Settings, clock: Clock) -> None:
    """The plain MONAI pipeline: CacheDataset, dictionary transforms, DataLoader, SupervisedTrainer."""
    import monai.transforms as mt
    from ignite.engine import Events
    from monai.data import CacheDataset, DataLoader, load_decathlon_datalist
    from monai.engines import SupervisedTrainer
    from monai.losses import DiceCELoss
    from torch.utils.data import RandomSampler
    from XTLLib.networks.build import build_network

    both, size = ("image", "label"), (settings.window,) * 3
    # The same random changes, as often and as strong as XTL's (training/windows.py, training/augment.py).
    transforms = [
        mt.LoadImaged(both),
        mt.EnsureChannelFirstd(both),
        mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        mt.CropForegroundd(both, source_key="image", select_fn=lambda image: image != 0, allow_smaller=True),
        mt.EnsureTyped(both),
        mt.FgBgToIndicesd("label", image_key="image"),  # cached too
        mt.RandCropByPosNegLabeld(
            both, "label", size, fg_indices_key="label_fg_indices", bg_indices_key="label_bg_indices"
        ),
        mt.SelectItemsd(both),
        mt.RandFlipd(both, prob=0.5, spatial_axis=1),
        mt.RandFlipd(both, prob=0.5, spatial_axis=2),
        mt.RandAffined(
            both,
            prob=0.3,
            rotate_range=(0.21, 0.21, 0.21),
            scale_range=(0.15, 0.15, 0.15),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        mt.RandScaleIntensityd("image", factors=0.2, prob=0.5),
        mt.RandShiftIntensityd("image", offsets=0.2, prob=0.5),
        mt.RandAdjustContrastd("image", gamma=(0.7, 1.4), prob=0.5),
        mt.RandGaussianNoised("image", std=0.15, prob=0.5),
    ]
    items = load_decathlon_datalist(settings.datalist, data_list_key="training")
    dataset = CacheDataset(items, mt.Compose(transforms), progress=False)
    # Drawn with replacement: an epoch of two cases would end after a step.
    order = RandomSampler(dataset, replacement=True, num_samples=1_000_000)
    loader = DataLoader(dataset, batch_size=settings.batch, sampler=order, num_workers=settings.workers)
    torch.manual_seed(0)
    network = build_network(settings.spec()).to(settings.device)
    _note_network(clock, network)
    half = {"amp": True, "amp_kwargs": {"dtype": torch.bfloat16}} if settings.device == "cuda" else {}
    trainer = SupervisedTrainer(
        torch.device(settings.device),
        max_epochs=1_000_000,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
        loss_function=DiceCELoss(sigmoid=True),
        **half,
    )
    began = [0.0, 0.0]

    @trainer.on(Events.GET_BATCH_STARTED)
    def _(_) -> None:
        began[:] = time.thread_time(), time.perf_counter()

    @trainer.on(Events.GET_BATCH_COMPLETED)
    def _(_) -> None:
        clock.preparation_s.append(time.thread_time() - began[0])
        clock.waiting_s.append(time.perf_counter() - began[1])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: clock.step_ended())
    with suppress(Cancelled):
        trainer.run()


def _time_batches(task, clock: Clock) -> None:
    """Note what the task's batches cost, and when they are ready."""
    make: Callable = task.batch

    def batch(step: int):
        began = time.thread_time()
        inputs, targets = make(step)
        inputs = to_fast_layout(inputs)  # the engine does it at this place; done already it costs nothing there
        clock.preparation_s.append(time.thread_time() - began)
        clock.ready[step] = time.perf_counter()
        return inputs, targets

    task.batch = batch


def _note_network(clock: Clock, network: torch.nn.Module) -> None:
    """Number of parameters at once, the input's shape at the first forward pass."""
    clock.facts["parameters"] = sum(p.numel() for p in network.parameters())

    def note(_, inputs) -> None:
        clock.facts |= {"input": list(inputs[0].shape), "dtype": str(inputs[0].dtype).removeprefix("torch.")}
        hook.remove()

    hook = network.register_forward_pre_hook(note)


def _peak_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _tell(message: dict) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    for chatty in ("ignite", "monai", "pydicom"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    clock = Clock(settings.steps, settings.device)
    (train_ours if settings.side == "ours" else train_monai)(settings, clock)


if __name__ == "__main__":
    main()
