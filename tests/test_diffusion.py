from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ldmseg.diffusion.sampler import image_noise, resampled, sample
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.training.losses.denoising import denoising_loss, draw_timesteps, loss_weight

RELEASE_WEIGHTS = {
    "max_clamp_snr_5": ("clamped-snr", 5.0),
    "max_clamp_snr_2": ("clamped-snr", 2.0),
    "fixed": ("fixed", 5.0),
    "linear": ("linear", 5.0),
    "none": ("none", 5.0),
}


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def test_schedule_equals_the_release(shared: Path) -> None:
    expected = json.loads((shared / "reference" / "schedule.json").read_text())
    schedule = NoiseSchedule()
    for t, alpha in expected["alphas_cumprod"].items():
        assert float(schedule.alpha_bar(int(t))) == pytest.approx(alpha, abs=1e-6)
    for steps, timesteps in expected["timesteps"].items():
        assert schedule.trailing_timesteps(int(steps)) == timesteps
    assert expected["weights"].keys() == RELEASE_WEIGHTS.keys()
    for name, values in expected["weights"].items():
        kind, clamp = RELEASE_WEIGHTS[name]
        for t, value in values.items():
            assert float(loss_weight(schedule, torch.tensor([int(t)]), kind, clamp)) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 10])
def test_trajectories_equal_the_release(shared: Path, steps: int) -> None:
    expected = load_file(shared / "reference" / "ddim_trajectories.safetensors")
    schedule = NoiseSchedule()
    outputs = iter(expected[f"eps_{steps}"])
    end = sample(lambda x, t, e: next(outputs), expected[f"start_{steps}"], schedule.trailing_timesteps(steps), schedule)
    assert torch.allclose(end, expected[f"end_{steps}"], atol=1e-4)


def test_timesteps_for_every_count() -> None:
    schedule = NoiseSchedule()
    for steps in range(1, 1001):
        timesteps = schedule.trailing_timesteps(steps)
        assert len(timesteps) == len(set(timesteps)) == steps
        assert timesteps[0] == 999
        assert timesteps == sorted(timesteps, reverse=True)
        assert timesteps[-1] >= 0
    assert schedule.trailing_timesteps(3) == [999, 666, 332]
    for wrong in (0, 1001):
        with pytest.raises(InputError, match=r"num_inference_steps: expected 1\.\.1000"):
            schedule.trailing_timesteps(wrong)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 3, 6, 7, 30])
def test_a_perfect_network_arrives(prediction: str, steps: int) -> None:
    """With the true answer at each step every step count ends at the clean latents, dividing 1000 or not."""
    schedule = NoiseSchedule(prediction_type=prediction)
    clean, noise = torch.randn(2, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0))

    def perfect(x_t: torch.Tensor, t: torch.Tensor, estimate: torch.Tensor | None) -> torch.Tensor:
        alpha = schedule.alpha_bar(t)
        return schedule.training_target(clean, (x_t - alpha.sqrt() * clean) / (1 - alpha).sqrt(), t)

    start = schedule.noised(clean, noise, torch.tensor([999, 999]))
    for sampler in ("ddim", "ddpm", "renoise"):
        end = sample(perfect, start, schedule.trailing_timesteps(steps), schedule, sampler=sampler, generators=generators(2))
        assert torch.allclose(end, clean, atol=1e-3)


@pytest.mark.parametrize("steps", [5, 7])
def test_ddim_keeps_the_noise_level(steps: int) -> None:
    """After a step x has the next timestep's level: clean part and noise part as `noised` would make them."""
    schedule = NoiseSchedule()
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = schedule.trailing_timesteps(steps)
    x = schedule.noised(clean, noise, torch.tensor([timesteps[0]]))
    for now, following in pairwise(timesteps):
        x = schedule.advance(x, clean, now, following)
        assert torch.allclose(x, schedule.noised(clean, noise, torch.tensor([following])), atol=1e-4)


def test_ancestral_noise_has_the_right_variance() -> None:
    schedule = NoiseSchedule()
    clean = torch.zeros(1, 4, 64, 64)
    noise = image_noise(clean, generators(1))
    x = schedule.noised(clean, noise, torch.tensor([799]))
    fresh = image_noise(clean, generators(1, seed=9))
    after = schedule.advance(x, clean, 799, 399, fresh, eta=1.0)
    assert float(after.var()) == pytest.approx(float(1 - schedule.alpha_bar(399)), rel=0.03)
    assert not torch.allclose(after, schedule.advance(x, clean, 799, 399))


def test_an_image_does_not_depend_on_its_batch() -> None:
    schedule = NoiseSchedule(prediction_type="sample")

    def run(seeds: list[int]) -> torch.Tensor:
        each = [torch.Generator().manual_seed(s) for s in seeds]
        noise = image_noise(torch.zeros(len(seeds), 4, 3, 3), each)
        return sample(lambda x, t, e: x.tanh(), noise, [999, 500, 100], schedule, sampler="ddpm", generators=each)

    assert torch.equal(run([1, 2, 3])[1], run([2])[0])


def test_project_holds_what_is_known_and_the_estimate_is_passed_on() -> None:
    schedule = NoiseSchedule(prediction_type="sample")
    known = torch.zeros(1, 4, 4, 4)
    seen = []

    def denoise(x: torch.Tensor, t: torch.Tensor, estimate: torch.Tensor | None) -> torch.Tensor:
        seen.append(estimate)
        return torch.ones_like(x)

    end = sample(
        denoise,
        torch.randn(1, 4, 4, 4),
        [999, 499],
        schedule,
        project=lambda clean: torch.cat([known[..., :2], clean[..., 2:]], -1),
    )
    assert (end[..., :2] == 0).all()
    assert (end[..., 2:] == 1).all()
    assert seen[0] is None
    assert torch.equal(seen[1], end)


def test_samplers_are_checked() -> None:
    schedule = NoiseSchedule()
    with pytest.raises(InputError, match="sampler: expected one of"):
        sample(lambda x, t, e: x, torch.zeros(1, 4, 2, 2), [999], schedule, sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="generators: the ddpm sampler needs one per image"):
        sample(lambda x, t, e: x, torch.zeros(1, 4, 2, 2), [999], schedule, sampler="ddpm")


def test_the_papers_decay() -> None:
    weights = loss_weight(NoiseSchedule(), torch.tensor([0, 124, 249, 250, 999]), "decay")
    assert weights.tolist() == pytest.approx([0.004, 0.5, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_loss_is_zero_for_a_perfect_network(prediction: str) -> None:
    schedule = NoiseSchedule(prediction_type=prediction)
    clean, noise = torch.randn(2, 3, 4, 4, 4)
    t = torch.tensor([10, 500, 990])
    target = schedule.training_target(clean, noise, t)
    assert float(denoising_loss(lambda x, t, e, rows=None: target, schedule, clean, noise, t)) == 0
    assert float(denoising_loss(lambda x, t, e, rows=None: target + 1, schedule, clean, noise, t, weight="none")) == pytest.approx(
        1, rel=1e-5
    )


def test_void_cells_take_no_part() -> None:
    schedule = NoiseSchedule(prediction_type="sample")
    clean, noise, t = torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 4), torch.tensor([500])
    cells = torch.ones(1, 1, 4, 4)
    cells[..., :2] = 0
    wrong_in_void = torch.zeros(1, 4, 4, 4)
    wrong_in_void[..., :2] = 5
    assert float(denoising_loss(lambda x, t, e, rows=None: wrong_in_void, schedule, clean, noise, t, cells=cells)) == 0
    assert float(
        denoising_loss(lambda x, t, e, rows=None: wrong_in_void + 1, schedule, clean, noise, t, cells=cells, weight="none")
    ) == pytest.approx(1)


def test_self_conditioning_shows_the_first_estimate() -> None:
    schedule = NoiseSchedule(prediction_type="sample")
    seen = []

    def denoise(x: torch.Tensor, t: torch.Tensor, estimate: torch.Tensor | None, rows: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((len(x), estimate, rows))
        return torch.full_like(x, 0.5, requires_grad=True)

    clean, noise, t = torch.zeros(3, 4, 2, 2), torch.zeros(3, 4, 2, 2), torch.tensor([500, 200, 900])
    denoising_loss(denoise, schedule, clean, noise, t, self_condition=torch.tensor([True, False, True]))
    (first, nothing, rows), (second, estimate, every) = seen
    assert (first, nothing, rows.tolist()) == (2, None, [0, 2])
    assert (second, every) == (3, None)
    assert not estimate.requires_grad
    assert estimate.flatten(1).mean(1).tolist() == [0.5, 0.0, 0.5]


def test_every_batch_makes_the_same_passes() -> None:
    """Also one in which no image wants an estimate: with FSDP a process that leaves a pass out would leave the others waiting."""
    schedule = NoiseSchedule(prediction_type="sample")
    seen = []

    def denoise(x: torch.Tensor, t: torch.Tensor, estimate: torch.Tensor | None, rows: torch.Tensor | None = None) -> torch.Tensor:
        seen.append(estimate)
        return torch.full_like(x, 0.5, requires_grad=True)

    clean, t = torch.zeros(3, 4, 2, 2), torch.tensor([500, 200, 900])
    denoising_loss(denoise, schedule, clean, clean, t, self_condition=torch.tensor([False, False, False]))
    assert len(seen) == 2 and seen[0] is None
    assert (seen[1] == 0).all()


def test_timesteps_are_drawn_over_the_whole_range() -> None:
    schedule = NoiseSchedule()
    uniform = torch.linspace(0, 0.9999, 1001)
    plain, biased = draw_timesteps(uniform, schedule), draw_timesteps(uniform, schedule, bias=2.0)
    assert (int(plain.min()), int(plain.max())) == (0, 999)
    assert float(plain.float().mean()) == pytest.approx(499.5, abs=2)
    assert float(biased.float().mean()) == pytest.approx(666, abs=5)


def test_a_share_of_the_timesteps_is_the_last() -> None:
    schedule = NoiseSchedule()
    uniform = torch.linspace(0, 0.9999, 2001)
    drawn = draw_timesteps(uniform, schedule, bias=1.5, pure_noise_rate=0.25)
    assert float((drawn == 999).float().mean()) == pytest.approx(0.25, abs=0.01)
    rest = drawn[uniform >= 0.25]
    again = draw_timesteps((uniform[uniform >= 0.25] - 0.25) / 0.75, schedule, bias=1.5)
    assert (rest - again).abs().max() <= 1 and int(rest.min()) < 20
    assert (draw_timesteps(uniform, schedule, pure_noise_rate=1.0) == 999).all()


def test_a_handful_of_cells_weighs_less_than_a_whole_image() -> None:
    schedule = NoiseSchedule(prediction_type="sample")
    clean, noise, t = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16), torch.tensor([900])

    def loss(count: int) -> float:
        cells = torch.zeros(1, 1, 16, 16)
        cells.flatten()[:count] = 1
        return float(denoising_loss(lambda x, t, e, rows=None: torch.ones_like(x), schedule, clean, noise, t, cells=cells, weight="none"))

    assert loss(256) == pytest.approx(1) and loss(128) == pytest.approx(1)  # half of the cells count as much as all
    assert loss(2) == pytest.approx(2 / 25.6) and loss(0) == 0


def test_saves_as_a_scheduler(tmp_path: Path) -> None:
    NoiseSchedule(prediction_type="sample", beta_schedule="squaredcos_cap_v2").save_pretrained(tmp_path)
    again = NoiseSchedule.from_pretrained(tmp_path)
    assert again.config.prediction_type == "sample"
    assert torch.equal(again.alphas_cumprod, NoiseSchedule(beta_schedule="squaredcos_cap_v2").alphas_cumprod)
    again.set_timesteps(3)
    assert again.timesteps.tolist() == [999, 666, 332]


@pytest.mark.parametrize(
    ("jump", "times", "expected"),
    [
        (2, 1, [9, 7, 5, 3, 1]),
        (2, 2, [9, 7, 5, 9, 7, 5, 3, 1, 5, 3, 1]),
        (3, 2, [9, 7, 5, 3, 9, 7, 5, 3, 1, 3, 1]),
        (1, 3, [9, 7, 9, 7, 9, 7, 5, 7, 5, 7, 5, 3, 5, 3, 5, 3, 1, 3, 1, 3, 1]),
        (9, 2, [9, 7, 5, 3, 1, 9, 7, 5, 3, 1]),
    ],
)
def test_resampling_goes_each_stretch_several_times(jump: int, times: int, expected: list[int]) -> None:
    assert resampled([9, 7, 5, 3, 1], jump, times) == expected
    assert resampled([9], jump, times) == [9]


def test_a_climb_is_the_forward_process() -> None:
    """Noise added from one timestep to a later one leaves the marginals of the schedule."""
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    clean = torch.full((1, 1, 200, 200), 0.7)
    x = schedule.noised(clean, torch.randn(clean.shape, generator=generator), torch.tensor([200]))
    higher = schedule.noised_again(x, 200, 800, torch.randn(clean.shape, generator=generator))
    alpha = schedule.alphas_cumprod[800]
    assert float(higher.mean()) == pytest.approx(0.7 * float(alpha.sqrt()), abs=0.02)
    assert float(higher.var()) == pytest.approx(1 - float(alpha), abs=0.02)


def test_a_climb_needs_noise() -> None:
    with pytest.raises(InputError, match="resampling needs one per image"):
        sample(lambda x, t, e: x, torch.zeros(1, 1, 2, 2), [9, 5, 9, 5], NoiseSchedule())


@pytest.mark.parametrize("timesteps", [0, 2**31, 2**53, 10**400, "1000", 1000.0, None])
def test_a_schedule_of_a_strange_length_is_refused(timesteps: object) -> None:
    with pytest.raises(InputError, match="num_train_timesteps: expected 1 to 1,000,000, got"):
        NoiseSchedule(num_train_timesteps=timesteps)
