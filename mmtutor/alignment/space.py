"""Into one space: lidar points and labelled boxes in the picture, and what a wrong calibration does
to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from mmtutor.checks import Array, finite

_SHAPES = {"projection": (3, 4), "rectification": (3, 3), "lidar_to_camera": (3, 4)}


@dataclass(frozen=True, eq=False)
class Calibration:
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
            if matrix.shape != shape:
                raise ValueError(f"{name} must be of shape {shape}, got {matrix.shape}")
            object.__setattr__(self, name, matrix)
        for name in ("rectification", "lidar_to_camera"):
            turn = getattr(self, name)[:, :3]
            if not (np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0):
                raise ValueError(
                    f"the first three columns of {name} are no rotation: {turn.tolist()}"
                )


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
        object.__setattr__(self, "bottom", _vector("bottom", self.bottom))
        if (_vector("size", self.size) <= 0).any() or not np.isfinite(self.rotation_y):
            raise ValueError(
                f"a box needs three sizes above 0 m and a finite rotation, got {self.size},"
                f" {self.rotation_y}"
            )

    def corners(self) -> np.ndarray:
        """Return the corners (8, 3): four at the bottom, counter-clockwise seen from above, then
        those above them."""
        height, width, length = self.size
        x, z = np.array([1, 1, -1, -1]) * length / 2, np.array([-1, 1, 1, -1]) * width / 2
        own = np.stack(
            [np.tile(x, 2), np.repeat([0.0, -height], 4), np.tile(z, 2)], 1
        )  # y points down
        return own @ self._turn().T + self.bottom

    def contains(self, points: Array) -> np.ndarray:
        """Return which points (N, 3), in rectified camera coordinates, lie in the box or on its
        faces: (N,) bool."""
        height, width, length = self.size
        x, y, z = ((_points(points) - self.bottom) @ self._turn()).T
        return (abs(x) <= length / 2) & (-height <= y) & (y <= 0) & (abs(z) <= width / 2)

    def _turn(self) -> np.ndarray:
        return Rotation.from_euler("y", self.rotation_y).as_matrix()


def to_camera(points: Array, calibration: Calibration) -> np.ndarray:
    """rectification @ lidar_to_camera @ [x, y, z, 1]: lidar points (N, 3) → rectified camera
    coordinates (N, 3)."""
    turn, shift = calibration.lidar_to_camera[:, :3], calibration.lidar_to_camera[:, 3]
    return (_points(points) @ turn.T + shift) @ calibration.rectification.T


def to_image(points: Array, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """[u, v] = p[:2] / p[2] with p = projection @ [x, y, z, 1], for points in rectified camera
    coordinates.

    points: (N, 3) → uv (N, 2) pixels, u to the right, v down, and depth (N,) = p[2] metres in front
    of the camera. A point with depth ≤ 0 is behind the camera; divided, it would show up in the
    picture upside down, so its uv is NaN.
    """
    p = _points(points) @ calibration.projection[:, :3].T + calibration.projection[:, 3]
    depth = p[:, 2]
    front = depth > 0
    uv = np.full((len(p), 2), np.nan)
    uv[front] = p[front, :2] / depth[front, None]
    return uv, depth


def project(points: Array, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Lidar points (N, 3) → uv (N, 2) pixels and depth (N,) metres: `to_camera`, then `to_image`
    with its NaN."""
    return to_image(to_camera(points, calibration), calibration)


def in_rectangle(uv: Array, rectangle: Sequence[float]) -> np.ndarray:
    """Return which uv (N, 2) satisfy left ≤ u < right and top ≤ v < bottom: (N,) bool; NaN lies
    nowhere.

    rectangle: left, top, right, bottom in pixels. Raises ValueError where right < left or bottom <
    top.
    """
    left, top, right, bottom = finite("rectangle", rectangle, 1).tolist()
    if right < left or bottom < top:
        raise ValueError(f"a rectangle is left, top, right, bottom in pixels, got {rectangle}")
    u, v = np.asarray(uv, dtype=np.float64).reshape(-1, 2).T
    return (left <= u) & (u < right) & (top <= v) & (v < bottom)


def in_image(uv: Array, size: tuple[int, int]) -> np.ndarray:
    """Return which uv (N, 2) lie in a picture of size (width, height), 0 ≤ u < width, 0 ≤ v <
    height: (N,) bool."""
    return in_rectangle(uv, (0, 0, *size))


def perturb(
    calibration: Calibration,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    shift_m: Sequence[float] = (0.0, 0.0, 0.0),
) -> Calibration:
    """lidar_to_camera @ [R t; 0 1]: the calibration of somebody who believes the lidar is mounted
    askew by R and t.

    R = R_z(yaw) R_y(pitch) R_x(roll) in the lidar's axes (x forward, y left, z up): points move to
    the left of the picture with yaw > 0, down with pitch > 0, clockwise with roll > 0; shift_m: t,
    metres forward, left, up.
    """
    turn = Rotation.from_euler("ZYX", [yaw_deg, pitch_deg, roll_deg], degrees=True).as_matrix()
    rigid = np.vstack([np.column_stack([turn, _vector("shift_m", shift_m)]), [0, 0, 0, 1]])
    return replace(calibration, lidar_to_camera=calibration.lidar_to_camera @ rigid)


def ego_motion(points: Array, velocity: Sequence[float], delay: float) -> np.ndarray:
    """x - velocity · delay: where points that stand still are `delay` seconds later, seen from the
    moving car.

    points: (N, 3) lidar; velocity: (3,) of the car in m/s, forward, left, up; delay: seconds from
    the scan to the picture, negative if the picture came first → (N, 3). The car is taken to drive
    straight on.
    """
    if not np.isfinite(delay):
        raise ValueError(f"delay must be a finite number of seconds, got {delay!r}")
    return _points(points) - _vector("velocity", velocity) * delay


def _points(points: Array) -> np.ndarray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(
            f"points must be finite numbers (N, 3), x, y, z in metres, got shape {array.shape}"
        )
    return array


def _vector(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    vector = finite(name, values, 1)
    if len(vector) != 3:
        raise ValueError(f"{name} must hold three numbers, got {len(vector)}")
    return vector
