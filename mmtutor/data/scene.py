"""What a labelled street scene holds: the camera's calibration, and boxes in three dimensions.

Taught in chapter 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mmtutor.checks import Array, as_numpy, finite, require

_SHAPES = {"projection": (3, 4), "rectification": (3, 3), "lidar_to_camera": (3, 4)}


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """z · [u, v, 1] = projection @ [rectification @ lidar_to_camera @ [x, y, z, 1]; 1]: from the
    lidar to a pixel.

    projection: (3, 4), camera coordinates in metres → pixels; rectification: (3, 3), turns the
    camera's axes onto the rectified ones; lidar_to_camera: (3, 4), rotation and shift in metres.
    Lidar: x forward, y left, z up; camera: x right, y down, z forward. All become float64.
    Raises ValueError for a wrong shape, numbers that are not finite, and a rotation that is none
    (within 1e-3). Geiger, Lenz and Urtasun, Are we ready for autonomous driving? CVPR 2012.
    """

    projection: np.ndarray
    rectification: np.ndarray
    lidar_to_camera: np.ndarray

    def __post_init__(self) -> None:
        """Refuse matrices that were cut wrongly or swapped."""
        for name, shape in _SHAPES.items():
            matrix = finite(name, getattr(self, name), 2)
            require(matrix.shape == shape, f"{name} must be of shape {shape}, got {matrix.shape}")
            turn = matrix[:, :3]
            require(
                name == "projection"
                or (np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0),
                f"the first three columns of {name} are no rotation: {turn.tolist()}",
            )
            object.__setattr__(self, name, matrix)


@dataclass(frozen=True, eq=False)
class Box:
    """A box that stands upright in rectified camera coordinates: the way KITTI labels an object.

    bottom: (3,) centre of its bottom face, metres; size: height, width, length in metres, all above
    0; rotation_y: radians about the camera's y axis, which points down; at 0 the length lies along
    x.
    Raises ValueError for other shapes and sizes.
    """

    bottom: np.ndarray
    size: tuple[float, float, float]
    rotation_y: float

    def __post_init__(self) -> None:
        """Refuse what is no box, such as the placeholders of a DontCare row."""
        object.__setattr__(self, "bottom", vector("bottom", self.bottom))
        require(
            (vector("size", self.size) > 0).all() and np.isfinite(self.rotation_y),
            f"a box needs three sizes above 0 m and a finite rotation, got {self.size},"
            f" {self.rotation_y}",
        )

    def corners(self) -> np.ndarray:
        """Return the corners (8, 3): four at the bottom, counter-clockwise seen from above, then
        those above them."""
        height, width, length = self.size
        x, z = np.array([1, 1, -1, -1]) * length / 2, np.array([-1, 1, 1, -1]) * width / 2
        # y points down
        own = np.stack([np.tile(x, 2), np.repeat([0.0, -height], 4), np.tile(z, 2)], 1)
        return own @ self._turn().T + self.bottom

    def contains(self, points: Array) -> np.ndarray:
        """Return which points (N, 3), in rectified camera coordinates, lie in the box or on its
        faces: (N,) bool."""
        height, width, length = self.size
        x, y, z = ((points_3d(points) - self.bottom) @ self._turn()).T
        return (abs(x) <= length / 2) & (-height <= y) & (y <= 0) & (abs(z) <= width / 2)

    def _turn(self) -> np.ndarray:
        return Rotation.from_euler("y", self.rotation_y).as_matrix()


def points_3d(points: Array) -> np.ndarray:
    """Return points (N, 3) as float64; ValueError for another shape, NaN or infinity."""
    array = as_numpy(points, copy=False).astype(np.float64, copy=False)
    require(
        array.ndim == 2 and array.shape[1] == 3 and np.isfinite(array).all(),
        f"points must be finite numbers (N, 3), x, y, z in metres, got shape {array.shape}",
    )
    return array


def vector(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return three finite numbers as (3,) float64; else ValueError naming them."""
    vector = finite(name, values, 1)
    require(len(vector) == 3, f"{name} must hold three numbers, got {len(vector)}")
    return vector
