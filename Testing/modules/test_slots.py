"""No action in a panel keeps the interface waiting for long, in scenes of the usual size.

The figures that count are those of the benchmark ``panel-slots`` on an idle machine: 0.1 s for an action, 0.5 s for the
set-up of a panel. Here processor time is looked at, which a busy machine leaves alone, with much room.
"""

from __future__ import annotations

from pathlib import Path

import host.boot as boot
import pytest

ROOM = 5.0
IDLE: dict[str, set[str]] = {"XTLSegment": set(), "XTLClassify": set(), "XTLTransfer": set()}
"""Connected widgets that cannot be operated in the scene of the benchmark: none."""


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import panel_slots

    monkeypatch.setattr(panel_slots, "SHARES", (0.34, 0.99))  # there and back; the benchmark takes more
    return panel_slots


@pytest.mark.parametrize("module", boot.MODULES)
def test_no_action_blocks_the_interface(module, benchmark, scene, messages, slot_errors, capsys):
    # XTL Transfer has no large scene; its Apply, a training of some seconds, is left to the benchmark itself.
    timed, idle = benchmark.time_module(module, 1, is_quick=module == "XTLTransfer")
    assert slot_errors == []
    assert messages == []
    assert len(timed) > 10
    table = {one.name: max(one.cpu_s) for one in sorted(timed, key=lambda one: -max(one.cpu_s))}
    with capsys.disabled():
        print(f"\n{module}: seconds of the processor; the slowest ten of {len(table)} actions")
        for name, seconds in list(table.items())[:10]:
            print(f"  {seconds:6.3f}  {name}")
    setup = table.pop(benchmark.SETUP)
    assert setup <= ROOM * benchmark.SETUP_S
    assert {name: seconds for name, seconds in table.items() if seconds > ROOM * benchmark.ACTION_S} == {}
    assert idle <= IDLE[module], "connected widgets that nothing has operated: their slots were not timed"
