from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from sd_folder import make_sd_folder

from ldmseg.errors import InputError
from ldmseg.models.pretrained import find_pretrained, load_strictly


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd_folder(tmp_path_factory.mktemp("stable-diffusion"))


def hub_of(folder: Path, monkeypatch: pytest.MonkeyPatch, absent: type[Exception] = EntryNotFoundError) -> list[str | None]:
    """Stand in for the Hub with a folder; the subfolders asked for are noted."""
    asked: list[str | None] = []

    def download(repo: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        asked.append(subfolder)
        path = folder / (subfolder or "") / filename
        if not path.is_file():
            raise absent("no such file")
        return str(path)

    monkeypatch.setattr("diffusers.configuration_utils.hf_hub_download", download)
    return asked


def test_the_first_subfolder_that_exists_is_taken(sd_folder: Path) -> None:
    assert find_pretrained(sd_folder, ("image_encoder", "vae")).class_name == "AutoencoderKL"
    assert find_pretrained(str(sd_folder), ("unet",)).subfolder == "unet"
    alone = find_pretrained(sd_folder / "unet", ("unet",))
    assert (alone.subfolder, str(alone)) == ("", str(sd_folder / "unet"))


def test_the_hub_is_searched_in_the_same_order(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_of(sd_folder, monkeypatch)
    found = find_pretrained("owner/name", ("image_encoder", "vae"))
    assert (found.root, found.subfolder, found.class_name, str(found)) == ("owner/name", "vae", "AutoencoderKL", "owner/name/vae")
    assert asked == ["image_encoder", "vae"]


def test_a_networks_own_repository(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_of(sd_folder / "vae", monkeypatch)
    assert str(find_pretrained("owner/name", ("vae",))) == "owner/name"
    assert len(asked) == 2


def test_without_a_network_the_hub_is_asked_once(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_of(sd_folder / "nothing", monkeypatch, LocalEntryNotFoundError)
    with pytest.raises(
        InputError, match=r"^source: expected a readable config\.json in owner/name/image_encoder, got no answer from the Hub"
    ):
        find_pretrained("owner/name", ("image_encoder", "vae"))
    assert asked == ["image_encoder"]


def test_a_folder_without_weights(sd_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((sd_folder / "unet" / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"^source: expected weights of UNet2DConditionModel in .*got OSError") as caught:
        load_strictly(UNet2DConditionModel, find_pretrained(tmp_path, ("unet",)))
    assert "\n" not in str(caught.value)
