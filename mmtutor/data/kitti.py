"""KITTI: three frames with a picture, lidar points, calibration and labelled boxes. To look at, not
to learn from. Taught in chapter 7.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmtutor.checks import one_of
from mmtutor.data.dataset import Dataset
from mmtutor.data.scene import Box, CameraCalibration
from mmtutor.files.store import fetched

FRAMES = ("000000", "000001", "000002")


@dataclass(frozen=True)
class LabelledBox:
    """An object as KITTI labels it.

    kind: such as "Car"; rectangle: left, top, right, bottom in pixels; box: the same in rectified
    camera coordinates;
    truncated: share outside the picture, 0 to 1; occluded: 0 visible, 1 partly, 2 largely, 3
    unknown; alpha: angle of observation, radians.
    """

    kind: str
    rectangle: tuple[float, float, float, float]
    box: Box
    truncated: float
    occluded: int
    alpha: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment: what camera and lidar saw.

    image: path of the PNG; size: width, height in pixels; points: (N, 3) float32 metres, x forward,
    y left, z up;
    reflectance: (N,) float32, 0 to 1; calibration: for the left colour camera; objects: without
    DontCare.
    """

    name: str
    image: Path
    size: tuple[int, int]
    points: np.ndarray
    reflectance: np.ndarray
    calibration: CameraCalibration
    objects: list[LabelledBox]
    card: dict[str, Any]


def load(frame: str = "000001", accept_licence: bool = False) -> Frame:
    """Return one of `FRAMES`. Size and calibration differ between frames.

    Raises ValueError for an unknown frame, and what `store.fetch` raises. Figures made from a frame
    must name KITTI, stay non-commercial and carry its licence. Geiger, Lenz and Urtasun, CVPR 2012.
    """
    one_of("frame", frame, FRAMES)
    data, folder = fetched("kitti", accept_licence)
    scan = np.fromfile(folder / "velodyne" / f"{frame}.bin", "<f4").reshape(-1, 4)
    image = folder / "image_2" / f"{frame}.png"
    lines = (folder / "label_2" / f"{frame}.txt").read_text(encoding="ascii").splitlines()
    with Image.open(image) as picture:
        return Frame(
            name=frame,
            image=image,
            size=picture.size,
            points=scan[:, :3].copy(),
            reflectance=scan[:, 3].copy(),
            calibration=_calibration(folder / "calib" / f"{frame}.txt"),
            objects=[
                _labelled(line)
                for line in lines
                if line.strip() and not line.startswith("DontCare")
            ],
            card=data.facts(),
        )


def dataset(accept_licence: bool = False) -> Dataset:
    """Return all `FRAMES` as one data set, each a group of its own.

    modalities: image (list of Path), lidar (list of (N_i, 3) float32 metres), calibration (list);
    targets: objects, a list of labelled boxes for each frame. Raises as `load`.
    """
    frames = [load(name, accept_licence) for name in FRAMES]
    return Dataset(
        name="kitti",
        modalities={
            "image": [frame.image for frame in frames],
            "lidar": [frame.points for frame in frames],
            "calibration": [frame.calibration for frame in frames],
        },
        groups=np.arange(len(frames)),
        group_names=FRAMES,
        targets={"objects": [frame.objects for frame in frames]},
        card=frames[0].card,
    )


def _calibration(path: Path) -> CameraCalibration:
    """Return the matrices of the left colour camera, number 2 of four."""
    rows = (
        line.split(":") for line in path.read_text(encoding="ascii").splitlines() if line.strip()
    )
    numbers = {name: np.array(values.split(), dtype=np.float64) for name, values in rows}
    return CameraCalibration(
        projection=numbers["P2"].reshape(3, 4),
        rectification=numbers["R0_rect"].reshape(3, 3),
        lidar_to_camera=numbers["Tr_velo_to_cam"].reshape(3, 4),
    )


def _labelled(line: str) -> LabelledBox:
    kind, *numbers = line.split()
    truncated, occluded, alpha, left, top, right, bottom, height, width, length, x, y, z, turn = (
        map(float, numbers)
    )
    return LabelledBox(
        kind=kind,
        rectangle=(left, top, right, bottom),
        box=Box(np.array([x, y, z]), (height, width, length), turn),
        truncated=truncated,
        occluded=int(occluded),
        alpha=alpha,
    )
