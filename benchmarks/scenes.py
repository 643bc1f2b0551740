"""How many scenes a core generates: whole ones (photo, map, depth), and ids alone.

    python benchmarks/scenes.py

CPU time of one process and one thread, the best of five blocks, because other programs on the machine only ever slow a block down.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from _results import write_result

from ldmseg.data.scenes import generate_ids, generate_scene


def best_rate(draw: Callable[[int], object], count: int, blocks: int = 5) -> float:
    """Scenes per CPU second in the fastest block; the first scene is drawn before, to fill the texture bank."""
    draw(0)
    rates = []
    for block in range(blocks):
        started = time.process_time()
        for seed in range(block * count, (block + 1) * count):
            draw(seed)
        rates.append(count / (time.process_time() - started))
    return round(max(rates), 1)


def main() -> None:
    figures = {
        "pixels": 128,
        "segments": [4, 12],
        "scenes_per_core_second": best_rate(lambda seed: generate_scene(seed, 128, segments=(4, 12)), 100),
        "ids_per_core_second": best_rate(lambda seed: generate_ids(seed, 128, segments=(4, 12)), 300),
    }
    print(figures)
    write_result("scenes", figures, "python benchmarks/scenes.py")


if __name__ == "__main__":
    main()
