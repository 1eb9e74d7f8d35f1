"""Into one space: lidar points and labelled boxes in the picture, and what a wrong calibration does
to them.

Taught in chapter 7.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from mmtutor.checks import Array, finite, require
from mmtutor.data.scene import Box, CameraCalibration, points_3d, vector

__all__ = [
    "Box",
    "CameraCalibration",
    "ego_motion",
    "in_image",
    "in_rectangle",
    "perturb",
    "project",
    "to_camera",
    "to_image",
]


def to_camera(points: Array, calibration: CameraCalibration) -> np.ndarray:
    """rectification @ lidar_to_camera @ [x, y, z, 1]: lidar points (N, 3) → rectified camera
    coordinates (N, 3)."""
    turn, shift = calibration.lidar_to_camera[:, :3], calibration.lidar_to_camera[:, 3]
    return (points_3d(points) @ turn.T + shift) @ calibration.rectification.T


def to_image(points: Array, calibration: CameraCalibration) -> tuple[np.ndarray, np.ndarray]:
    """[u, v] = p[:2] / p[2] with p = projection @ [x, y, z, 1], for points in rectified camera
    coordinates.

    points: (N, 3) → uv (N, 2) pixels, u to the right, v down, and depth (N,) = p[2] metres in front
    of the camera. A point with depth ≤ 0 is behind the camera; divided, it would show up in the
    picture upside down, so its uv is NaN.
    """
    p = points_3d(points) @ calibration.projection[:, :3].T + calibration.projection[:, 3]
    depth = p[:, 2]
    front = depth > 0
    uv = np.full((len(p), 2), np.nan)
    uv[front] = p[front, :2] / depth[front, None]
    return uv, depth


def project(points: Array, calibration: CameraCalibration) -> tuple[np.ndarray, np.ndarray]:
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
    require(
        left <= right and top <= bottom,
        f"a rectangle is left, top, right, bottom in pixels, got {rectangle}",
    )
    u, v = np.asarray(uv, dtype=np.float64).reshape(-1, 2).T
    return (left <= u) & (u < right) & (top <= v) & (v < bottom)


def in_image(uv: Array, size: tuple[int, int]) -> np.ndarray:
    """Return which uv (N, 2) lie in a picture of size (width, height), 0 ≤ u < width, 0 ≤ v <
    height: (N,) bool."""
    return in_rectangle(uv, (0, 0, *size))


def perturb(
    calibration: CameraCalibration,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    shift_m: Sequence[float] = (0.0, 0.0, 0.0),
) -> CameraCalibration:
    """lidar_to_camera @ [R t; 0 1]: the calibration of somebody who believes the lidar is mounted
    askew by R and t.

    R = R_z(yaw) R_y(pitch) R_x(roll) in the lidar's axes (x forward, y left, z up): points move to
    the left of the picture with yaw > 0, down with pitch > 0, clockwise with roll > 0; shift_m: t,
    metres forward, left, up.
    """
    turn = Rotation.from_euler("ZYX", [yaw_deg, pitch_deg, roll_deg], degrees=True).as_matrix()
    rigid = np.vstack([np.column_stack([turn, vector("shift_m", shift_m)]), [0, 0, 0, 1]])
    return replace(calibration, lidar_to_camera=calibration.lidar_to_camera @ rigid)


def ego_motion(points: Array, velocity: Sequence[float], delay: float) -> np.ndarray:
    """x - velocity · delay: where points that stand still are `delay` seconds later, seen from the
    moving car.

    points: (N, 3) lidar; velocity: (3,) of the car in m/s, forward, left, up; delay: seconds from
    the scan to the picture, negative if the picture came first → (N, 3). The car is taken to drive
    straight on.
    """
    require(np.isfinite(delay), f"delay must be a finite number of seconds, got {delay!r}")
    return points_3d(points) - vector("velocity", velocity) * delay
