"""What is fuzzed: each target keeps valid files, damages one of them, and reads the folder as a command does."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from fuzz_mutations import (
    STRANGE,
    damaged_bytes,
    damaged_document,
    damaged_json,
    damaged_png,
    damaged_safetensors,
    damaged_text,
    either,
)
from masks import random_map
from PIL import Image
from run_folder import CHANGED, train_line, val_line, write_run
from safetensors.torch import save_file
from test_data_tools import source
from test_formats_tools_damage import JSONS, OTHERS, read_everything, tool_set
from tiny import build_tiny

from ldmseg.annotate.classes import read_classes
from ldmseg.annotate.operations import Paint
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import Project
from ldmseg.config import load_config
from ldmseg.data.check import check_dataset
from ldmseg.data.latent_cache import CachedData, EncoderIdentity, Manifest, Shard, Transform, read_manifest, shard_damage
from ldmseg.errors import InputError
from ldmseg.formats.captions import read_captions
from ldmseg.formats.image import read_image, read_size
from ldmseg.formats.label_png import load_map, read_label_png, save_map, write_label_png
from ldmseg.formats.painting import doubts, read_painting
from ldmseg.metrics.score import score_files
from ldmseg.models.efficientnet import EfficientNetLite0, load_efficientnet
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.official.reading import open_official
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.runs.report import read_run, write_report


class Target(ABC):
    """
    Attributes:
        folder: its own; everything that it reads and writes is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @abstractmethod
    def damage(self, rng: random.Random) -> None:
        """Write the next input; what an earlier one changed is whole again."""

    @abstractmethod
    def read(self) -> None:
        """
        Raises:
            InputError: as the readers do; of several calls each is made.
        """


class File(Target):
    """One file that is read in some ways."""

    name = "input"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / self.name

    def damage(self, rng: random.Random) -> None:
        self.path.write_bytes(self.damaged(rng))

    @abstractmethod
    def damaged(self, rng: random.Random) -> bytes: ...

    def read(self) -> None:
        every(self.readers())

    @abstractmethod
    def readers(self) -> list[Callable[[], Any]]: ...


def every(readers: list[Callable[[], Any]]) -> None:
    """Call each, also after one was refused.

    Raises:
        InputError: the last refusal.
    """
    refusal = None
    for reader in readers:
        try:
            reader()
        except InputError as error:
            check_refusal(error)
            refusal = error
    if refusal is not None:
        raise refusal


def check_refusal(error: InputError) -> None:
    """
    Raises:
        AssertionError: it is not one line that a person can read.
    """
    text = str(error)
    assert text and text.isprintable() and len(text) < 1200, f"refused with {text[:2000]!r}"


class Photos(File):
    """Photos of every format."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pixels = np.random.default_rng(0).integers(0, 256, (19, 26, 4), np.uint8)
        rgb, rgba = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
        exif = Image.Exif()
        exif[0x0112] = 6
        self._pngs = [_saved(picture, "PNG") for picture in (rgb, rgba, rgb.convert("P"), rgb.convert("I;16"), rgb.convert("1"))]
        kinds: tuple[tuple[str, dict[str, Any]], ...] = (
            *(("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"exif": exif})),
            *(("TIFF", {"compression": kind}) for kind in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
            *(("JPEG2000", {}), ("ICO", {}), ("TGA", {}), ("PCX", {}), ("SGI", {}), ("DDS", {})),
        )
        self._others = [_saved(rgb, kind, **options) for kind, options in kinds]

    def damaged(self, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return damaged_png(rng.choice(self._pngs), rng)
        data = rng.choice(self._others + self._pngs)
        if rng.random() < 0.1:
            return data[: rng.randrange(64)] + rng.choice(self._others)[rng.randrange(64) :]
        return damaged_bytes(data, rng)

    def readers(self) -> list[Callable[[], Any]]:
        return [partial(read_image, self.path), partial(read_size, self.path)]


class Labels(File):
    """Label pictures and painted layers."""

    name = "input.png"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pmap = random_map(0, 17, 23)
        save_map(folder / "map.png", pmap)
        write_label_png(folder / "plain.png", pmap)
        gray = Image.fromarray(pmap.ids.astype(np.uint8))
        large = Image.fromarray((pmap.ids * 300).astype(np.uint16))
        layer = Image.merge("LA", (gray, gray.point(lambda value: 255 * (value > 0))))
        kinds = (gray, large, gray.convert("P"), gray.convert("RGB"), gray.convert("RGBA"), layer, layer.convert("RGBA"))
        self._valid = [
            (folder / "map.png").read_bytes(),
            (folder / "plain.png").read_bytes(),
            *(_saved(picture, "PNG") for picture in kinds),
        ]

    def damaged(self, rng: random.Random) -> bytes:
        return either(damaged_png, damaged_png, damaged_bytes)(rng.choice(self._valid), rng)

    def readers(self) -> list[Callable[[], Any]]:
        def painting() -> None:
            doubts(read_painting(self.path, clean=True))

        return [partial(read_label_png, self.path), painting, partial(load_map, self.path)]


class Coco(Target):
    """A COCO panoptic data set: checked, scored against itself, and its maps read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._spec = source(folder / "set", 2)
        self._json = folder / "set" / "panoptic.json"
        self._whole = self._json.read_bytes()
        self._pngs = sorted((folder / "set" / "panoptic").glob("*.png"))
        self._pictures = [path.read_bytes() for path in self._pngs]
        shutil.copytree(folder / "set", folder / "truth")

    def damage(self, rng: random.Random) -> None:
        for path, data in zip(self._pngs, self._pictures, strict=True):
            path.write_bytes(data)
        self._json.write_bytes(self._whole)
        if rng.random() < 0.85:
            self._json.write_bytes(damaged_json(json.loads(self._whole), rng))
        else:
            place = rng.randrange(len(self._pngs))
            self._pngs[place].write_bytes(either(damaged_png, damaged_bytes)(self._pictures[place], rng))

    def read(self) -> None:
        truth = self.folder / "truth" / "panoptic.json"
        every([self._check, partial(score_files, truth, self._json), partial(score_files, self._json, truth, class_agnostic=True)])

    def _check(self) -> None:
        for finding in check_dataset(self._spec).findings:
            check_refusal(InputError(finding.message))


class Tools(Target):
    """Exports of annotation tools."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files: list[tuple[Any, Path, bytes]] = []
        for tool, name in (*JSONS.items(), ("label-studio", "export.json"), *OTHERS):
            place = folder / f"{tool}-{len(self._files)}"
            spec, _ = tool_set(place, tool)
            path = place / "out" / name
            self._files.append((spec, path, path.read_bytes()))
        self._spec, self._path, self._whole = self._files[0]

    def damage(self, rng: random.Random) -> None:
        self._path.write_bytes(self._whole)
        self._spec, self._path, self._whole = rng.choice(self._files)
        if self._path.suffix == ".json":
            self._path.write_bytes(damaged_json(json.loads(self._whole), rng))
        elif rng.random() < 0.1:
            self._path.write_text(rng.choice(ENTITIES) + "<annotations><image name='&a;'/></annotations>")
        else:
            self._path.write_bytes(_damaged_lines(self._whole, rng))

    def read(self) -> None:
        read_everything(self._spec)


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY % a SYSTEM "http://127.0.0.1:1/a.dtd">%a;]>',
    "<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'>" + "".join(f"<!ENTITY {n} '{'&' + chr(ord(n) + 1) + ';' * 1}'>" for n in "a") + "]>",
    "<!DOCTYPE a [<!ENTITY k 'kkkkkkkkkk'>" + "".join(f"<!ENTITY {chr(i)} '{f'&{chr(i + 1)};' * 10}'>" for i in range(97, 107)) + "]>",
)
"""Documents that would read a file, open an address, or expand to ten gigabytes."""


class Configs(File):
    """Configurations of training."""

    name = "input.yaml"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        presets = Path(load_config.__code__.co_filename).parents[1] / "presets"
        self._texts = [path.read_text() for path in sorted(presets.glob("*.yaml"))]
        self._documents = [yaml.safe_load(text) for text in self._texts]
        self._documents += [load_config("scenes-diffusion").model_dump(mode="json"), load_config("photos-128").model_dump(mode="json")]

    def damaged(self, rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.05:
            return rng.choice(YAML_BOMBS).encode()
        if kind < 0.5:
            return _damaged_lines(rng.choice(self._texts).encode(), rng)
        text = "- x"
        with suppress(RecursionError, ValueError, yaml.YAMLError):  # what YAML does not write
            text = yaml.safe_dump(damaged_document(rng.choice(self._documents), rng, NO_FILES), allow_unicode=True)
        return text.encode("utf-8", "surrogatepass")

    def readers(self) -> list[Callable[[], Any]]:
        return [partial(load_config, self.path)]


NO_FILES = tuple(value for value in STRANGE if not (isinstance(value, str) and "passwd" in value))
"""A configuration may name the file that it extends, wherever that is; a damaged one must not name one that exists."""

YAML_BOMBS = (
    "a: &a [x, x]\n" + "".join(f"{chr(i)}: &{chr(i)} [*{chr(i - 1)}, *{chr(i - 1)}]\n" for i in range(98, 122)),
    "stage: !!python/object/apply:os.system ['touch ran']\n",
    "stage: !!python/name:os.system\n",
    "[" * 50_000,
    "a: " * 10_000,
    "- " * 20_000 + "x",
    "x: |\n" + " y\n" * 200_000,
    "{" + ", ".join(f"a{i}: 1" for i in range(60_000)) + "}",
    "a: " + "'" * 300_000,
    "? " * 30_000,
    "extends: ../outside/nothing.yaml\n",
    "extends: input.yaml\n",
)


class Captions(File):
    """Captions, and classes of the annotator."""

    name = "captions.json"
    plain: ClassVar[Any] = {"a.jpg": "a dog", "b.jpg": ["a cat", "two cats"]}
    coco: ClassVar[Any] = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}

    def damaged(self, rng: random.Random) -> bytes:
        self._classes = _damaged_lines(b"sky, stuff\n\n# animals\ncat\ndog, thing\n", rng)
        return damaged_json(rng.choice((self.plain, self.coco)), rng)

    def readers(self) -> list[Callable[[], Any]]:
        classes = self.folder / "classes.txt"
        classes.write_bytes(self._classes)
        return [lambda: read_captions([self.path]).of("a.jpg"), partial(read_classes, classes)]


class Runs(Target):
    """Run folders, of which a report is made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        lines: list[dict[str, float] | str] = [train_line(20, 1.0), train_line(40, 2.0), val_line(40, 0.2), train_line(60, 4.0)]
        self._run = write_run(folder / "run", "diffusion", lines, sheets=(40,))
        (self._run / "starts.jsonl").write_text(
            '{"step": 0, "time": "2026-01-01T00:00:00+00:00", "networks": [{"name": "a", "parameters": 3}]}\n'
        )
        (self._run / "division.json").write_text('{"processes": 2, "batch_size": 4, "accumulate": 1, "weights": "whole"}')
        self._files = {path: path.read_bytes() for path in sorted(self._run.rglob("*")) if path.is_file()}
        assert CHANGED  # what `write_run` changes is in the report

    def damage(self, rng: random.Random) -> None:
        for path, data in self._files.items():
            path.write_bytes(data)
        path = rng.choice([path for path in self._files for _ in range(8 if path.suffix == ".jsonl" else 1)])
        if path.suffix == ".png":
            path.write_bytes(either(damaged_png, damaged_bytes)(self._files[path], rng))
        elif path.suffix == ".jsonl" and rng.random() < 0.6:
            lines = [json.loads(line) for line in self._files[path].splitlines()]
            place = rng.randrange(len(lines))
            data = [json.dumps(line).encode() for line in lines]
            data[place] = damaged_json(lines[place], rng)
            path.write_bytes(b"\n".join(data) + b"\n")
        else:
            path.write_bytes(either(_damaged_lines, damaged_bytes)(self._files[path], rng))

    def read(self) -> None:
        write_report(read_run(self._run), self.folder / "report.html")


class Weights(Target):
    """Weights in safetensors: of a mask autoencoder and of a backbone; and caches with their manifests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        build_tiny().mask_autoencoder.save_pretrained(folder / "mask")
        small = {name: tensor.flatten()[:1].clone() for name, tensor in EfficientNetLite0().state_dict().items()}
        save_file(dict(list(small.items())[:6]), folder / "lite0.safetensors")
        shard = folder / "cache" / "latents-00000.safetensors"
        shard.parent.mkdir()
        save_file({"latents": torch.zeros(2, 1, 4, 4, 4), "thumbnails": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}, shard)
        encoder = EncoderIdentity(class_name="A", config_sha256="0" * 64, weights_sha256="0" * 64, latent_channels=4, downscale=8)
        manifest = Manifest(
            encoder=encoder,
            transform=Transform(size=32, flip=False),
            data=CachedData(spec="labels:x", names=("a", "b")),
            dtype="fp32",
            items_per_shard=2,
            shards=(Shard(first=0, items=2, file=shard.name, sha256="0" * 64),),
        )
        (folder / "cache" / "manifest.json").write_text(manifest.model_dump_json())
        files = (folder / "mask/diffusion_pytorch_model.safetensors", folder / "mask/config.json", folder / "lite0.safetensors", shard)
        self._files = {path: path.read_bytes() for path in (*files, folder / "cache/manifest.json")}

    def damage(self, rng: random.Random) -> None:
        for path, data in self._files.items():
            path.write_bytes(data)
        path = rng.choice(list(self._files))
        data = self._files[path]
        path.write_bytes(damaged_json(json.loads(data), rng) if path.suffix == ".json" else damaged_safetensors(data, rng))

    def read(self) -> None:
        def cache() -> None:
            manifest = read_manifest(self.folder / "cache")
            for shard in manifest.shards[:4]:
                shard_damage(self.folder / "cache", shard)

        every([partial(load_mask_autoencoder, self.folder / "mask"), partial(load_efficientnet, self.folder / "lite0.safetensors"), cache])


class Pipelines(Target):
    """Folders of models, with code beside the weights that must never run."""

    CODE = "open('ran', 'w').close()\nclass Evil: ...\n"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._model = folder / "model"
        build_tiny().save_pretrained(self._model)
        for place in (folder, self._model, self._model / "unet"):
            (place / "evil.py").write_text(self.CODE)
        self._jsons = {path: path.read_bytes() for path in sorted(self._model.rglob("*.json")) if path.name != "manifest.json"}
        self._manifest = (self._model / "manifest.json").read_bytes()

    def damage(self, rng: random.Random) -> None:
        for path, data in self._jsons.items():
            path.write_bytes(data)
        manifest = self._model / "manifest.json"
        manifest.unlink(missing_ok=True)
        if rng.random() < 0.15:
            manifest.write_bytes(damaged_json(json.loads(self._manifest), rng))
            return
        index = self._model / "model_index.json"
        path = index if rng.random() < 0.6 else rng.choice(list(self._jsons))
        path.write_bytes(damaged_json(json.loads(self._jsons[path]), rng) if rng.random() < 0.5 else self._hostile(path, rng))

    def _hostile(self, path: Path, rng: random.Random) -> bytes:
        document = json.loads(self._jsons[path])
        names = ("evil", "os", "subprocess", "antigravity", "ldmseg.cli", "builtins", "torch.hub", "../evil", "unet/evil", "diffusers")
        named = [
            rng.choice(names),
            rng.choice(("Evil", "system", "Popen", "exec", "main", "LDMSegPipeline", "UNet2DConditionModel", "__doc__")),
        ]
        document[rng.choice(("_class_name", "unet", "mask_autoencoder", "scheduler", "evil", "auto_map", "custom_pipeline"))] = named
        return json.dumps(document).encode()

    def read(self) -> None:
        LDMSegPipeline.from_pretrained(self._model)


class Projects(Target):
    """Projects of the annotator."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "photos").mkdir()
        Image.new("RGB", (24, 16)).save(folder / "photos" / "a.png")
        self._photos = find_photos([folder / "photos"])
        self._folder = folder / "project"
        project = Project(self._folder, self._photos)
        session = project.session(self._photos[0].key)
        for number in range(3):
            mask = np.zeros((16, 24), dtype=bool)
            mask[4 * number :] = True
            session.act(Paint(number + 1, mask), session.revision)
        project.save_all()
        self._files = {path: path.read_bytes() for path in sorted(self._folder.rglob("*")) if path.suffix in (".json", ".journal", ".png")}

    def damage(self, rng: random.Random) -> None:
        for path, data in self._files.items():
            path.write_bytes(data)
        path = rng.choice([path for path in self._files for _ in range(1 if path.suffix == ".png" else 4)])
        data = self._files[path]
        path.write_bytes(damaged_json(json.loads(data), rng) if path.suffix == ".json" else damaged_bytes(data, rng))

    def read(self) -> None:
        project = Project(self._folder, self._photos)
        project.recover()
        project.session(self._photos[0].key).snapshot()


class Checkpoints(File):
    """Checkpoint files, which hold pickles."""

    name = "checkpoint.pt"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._valid = []
        for value in ({"unet": {"a.weight": torch.zeros(2, 2)}, "vae": {}, "p": {"name": "x"}}, {"x": _Runs()}, {"unet": {"a": _Runs()}}):
            stream = io.BytesIO()
            torch.save(value, stream)
            self._valid.append(stream.getvalue())

    def damaged(self, rng: random.Random) -> bytes:
        data = rng.choice(self._valid)
        return data if rng.random() < 0.1 else damaged_bytes(data, rng)

    def readers(self) -> list[Callable[[], Any]]:
        return [partial(open_official, self.path)]


class Tars(File):
    """Tars of photos in WebDataset's layout, as `ldmseg label` lists them."""

    name = "input.tar"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for number, name in enumerate(("a.jpg", "a.partial.png", "folder/b.png", "ж.webp", "c.json", "x" * 150 + ".jpg")):
                member = tarfile.TarInfo(name)
                member.size = 100 * number
                tar.addfile(member, io.BytesIO(bytes(member.size)))
        self._valid = stream.getvalue()

    def damaged(self, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return damaged_bytes(self._valid, rng)
        found = bytearray(self._valid)
        for _ in range(rng.choice((1, 2, 5))):
            place = 512 * rng.randrange(len(found) // 512)
            header = found[place : place + 512]
            match rng.randrange(5):
                case 0:
                    header[:100] = rng.choice((b"../../outside.jpg", b"/etc/passwd", b"\0", b"a" * 100, b"..", b"\xff.jpg")).ljust(
                        100, b"\0"
                    )
                case 1:
                    header[124:136] = rng.choice((b"77777777777\0", b"\x80" + b"\xff" * 11, b"-1\0".ljust(12), b"x" * 12, b"\xff" * 12))
                case 2:
                    header[156:157] = rng.choice((b"1", b"2", b"3", b"5", b"6", b"L", b"K", b"x", b"g", b"S", b"\0", b"~"))
                case 3:
                    header[rng.randrange(512)] = rng.randrange(256)
                case _:
                    header = bytearray(512)
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            found[place : place + 512] = header
        return bytes(found)

    def readers(self) -> list[Callable[[], Any]]:
        from ldmseg.labelling.archive.sources import entries

        return [lambda: list(entries([str(self.path)], "partial.png"))]


class _Runs:
    """Opens a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("/ran", "w"))


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **{key: value for key, value in options.items() if value is not None})
    return stream.getvalue()


def _damaged_lines(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return damaged_bytes(data, rng)
    return damaged_text(data.decode("utf-8", "replace"), rng).encode("utf-8", "surrogatepass")


TARGETS: dict[str, tuple[int, type[Target]]] = {
    "photos": (25, Photos),
    "labels": (14, Labels),
    "coco": (12, Coco),
    "tools": (16, Tools),
    "configs": (10, Configs),
    "captions": (6, Captions),
    "runs": (6, Runs),
    "weights": (4, Weights),
    "pipelines": (2, Pipelines),
    "projects": (3, Projects),
    "checkpoints": (2, Checkpoints),
    **({"tars": (4, Tars)} if find_spec("ldmseg.labelling.archive") else {}),  # where there is `ldmseg label`
}
"""What is fuzzed, and its share of the inputs. A new kind of file is one line."""
