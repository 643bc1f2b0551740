"""Train the same small denoiser with random and with spatial ids, at equal budget, and compare PQ over sampling steps.

    python benchmarks/id_policies.py --runs RUNS

The preset `id-policies`: 64 px scenes, the bundled mask autoencoder, the same seed, the same scenes in the same order. It resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _results import write_result

from ldmseg import LDMSegPipeline, load_config, load_dataset
from ldmseg.evaluate import evaluate
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage

STEPS = (1, 2, 4, 8, 20, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--steps", type=int, default=1200, help="optimisation steps of each")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"training_steps": arguments.steps}
    for policy in ("random", "spatial"):
        config = load_config("id-policies", [f"id_policy={policy}", f"optim.steps={arguments.steps}"])
        pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, arguments.runs / policy))
        pipe.set_progress_bar_config(disable=True)
        data = load_dataset("scenes:128:val", size=config.data.size, segments=config.data.scene_segments)
        by_steps = {str(n): round(100 * evaluate(pipe, data, num_inference_steps=n, batch_size=32).quality.all.pq, 2) for n in STEPS}
        figures[policy] = {"pq_by_sampling_steps": by_steps, "samples_seen": arguments.steps * config.optim.batch_size}
        print(policy, by_steps, flush=True)
    write_result("id_policies", figures, f"python benchmarks/id_policies.py --runs RUNS --steps {arguments.steps}")


if __name__ == "__main__":
    main()
