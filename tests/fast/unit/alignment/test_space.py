"""Space: projection against explicit matrices, what lies behind the camera, boxes, and calibrations
gone wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtutor.alignment.space import (
    Box,
    CameraCalibration,
    ego_motion,
    in_image,
    in_rectangle,
    perturb,
    project,
    to_camera,
    to_image,
)
from mmtutor.data.scene import points_3d

# A lidar in the place of the camera: x forward, y left, z up → x right, y down, z forward.
AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
FOCAL, CENTRE = 700.0, (600.0, 180.0)


def simple() -> CameraCalibration:
    pinhole = np.array([[FOCAL, 0, CENTRE[0], 0], [0, FOCAL, CENTRE[1], 0], [0, 0, 1, 0]])
    return CameraCalibration(pinhole, np.eye(3), np.column_stack([AXES, np.zeros(3)]))


def turned(axis: str, angle: float) -> np.ndarray:
    """The rotation about one axis, written out."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array(
        {
            "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
    )


def some(seed: int) -> CameraCalibration:
    """A camera with a baseline, a rectification and a lidar elsewhere."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(-0.1, 0.1, 6)
    pinhole = np.array(
        [[FOCAL, 0, 610, rng.normal()], [0, FOCAL, 170, rng.normal()], [0, 0, 1, 0.003]]
    )
    rectification = turned("x", small[0]) @ turned("y", small[1]) @ turned("z", small[2])
    mount = AXES @ turned("z", small[3]) @ turned("y", small[4]) @ turned("x", small[5])
    return CameraCalibration(pinhole, rectification, np.column_stack([mount, rng.normal(size=3)]))


def homogeneous(matrix: np.ndarray) -> np.ndarray:
    """Padded to 4 x 4."""
    out = np.eye(4)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_projection_is_the_product_of_homogeneous_matrices(seed):
    calibration = some(seed)
    points = np.random.default_rng(seed).uniform([-40, -20, -3], [60, 20, 3], (20, 3))
    uv, depth = project(points, calibration)
    chain = (
        calibration.projection
        @ homogeneous(calibration.rectification)
        @ homogeneous(calibration.lidar_to_camera)
    )
    for point, pixel, z in zip(points, uv, depth, strict=True):
        p = chain @ [*point, 1]
        assert z == pytest.approx(p[2])
        if p[2] > 0:
            np.testing.assert_allclose(pixel, [p[0] / p[2], p[1] / p[2]], rtol=1e-9, atol=1e-6)
        else:
            assert np.isnan(pixel).all()


def test_projection_by_hand():
    uv, depth = project(np.array([[10.0, 0, 0], [10, 1, 0], [10, 0, -1], [20, -2, 1]]), simple())
    np.testing.assert_allclose(uv, [[600, 180], [530, 180], [600, 250], [670, 145]])
    np.testing.assert_allclose(depth, [10, 10, 10, 20])


def test_points_behind_the_camera_are_in_no_picture():
    """Divided by their negative depth, the first two would lie in its middle; the third would
    divide by 0."""
    points = np.array([[-10.0, 0, 0], [-10, 1, 0.5], [0, 1, 1], [10, 0, 0]])
    uv, depth = project(points, simple())
    assert np.isnan(uv[:3]).all() and depth.tolist() == [-10, -10, 0, 10]
    assert in_image(uv, (1242, 375)).tolist() == [False, False, False, True]


def test_tensors_and_nothing_at_all_project_too():
    uv, _ = project(torch.tensor([[10.0, 0, 0]]), simple())
    assert uv.dtype == np.float64 and uv.tolist() == [[600.0, 180.0]]
    assert project(np.zeros((0, 3)), simple())[0].shape == (0, 2)


def test_rectangles_hold_their_left_and_top_but_not_their_right_and_bottom():
    uv = np.array(
        [
            [0.0, 0],
            [9.99, 4.99],
            [10, 3],
            [3, 5],
            [-0.01, 3],
            [3, -0.01],
            [math.nan, 3],
            [3, math.nan],
        ]
    )
    assert in_image(uv, (10, 5)).tolist() == [True, True] + [False] * 6
    assert (
        in_rectangle(uv + np.array([100, 50]), (100, 50, 110, 55)).tolist()
        == [True, True] + [False] * 6
    )


@pytest.mark.parametrize("rectangle", [(5, 0, 4, 9), (0, 9, 5, 8), (0, 0, math.nan, 1)])
def test_rectangles_inside_out_are_refused(rectangle):
    with pytest.raises(ValueError, match="rectangle"):
        in_rectangle(np.zeros((1, 2)), rectangle)


@pytest.mark.parametrize(
    ("error", "moves"),
    [
        ({"yaw_deg": 1.0}, (-FOCAL * math.tan(math.radians(1)), 0)),
        ({"pitch_deg": 1.0}, (0, FOCAL * math.tan(math.radians(1)))),
        ({"roll_deg": 1.0}, (0, 0)),
        ({"shift_m": (0, 1, 0)}, (-FOCAL / 20, 0)),
        ({"shift_m": (0, 0, 1)}, (0, -FOCAL / 20)),
        ({"shift_m": (5, 0, 0)}, (0, 0)),
    ],
)
def test_a_wrong_calibration_moves_the_point_ahead_as_geometry_says(error, moves):
    ahead = np.array([[20.0, 0, 0]])
    right, _ = project(ahead, simple())
    wrong, _ = project(ahead, perturb(simple(), **error))
    np.testing.assert_allclose((wrong - right)[0], moves, atol=1e-9)


def test_roll_turns_the_picture_clockwise_about_its_middle():
    left = np.array([[20.0, 2, 0]])
    wrong, depth = project(left, perturb(simple(), roll_deg=90))
    np.testing.assert_allclose(wrong, [[600, 180 - 70]], atol=1e-9)  # what was left is above
    assert depth[0] == pytest.approx(20)


def test_forward_shift_is_depth():
    _, depth = project(np.array([[20.0, 1, 1]]), perturb(simple(), shift_m=(5, 0, 0)))
    assert depth[0] == pytest.approx(25)


def test_perturb_turns_in_the_documented_order_and_then_shifts():
    points = np.random.default_rng(0).uniform(5, 30, (9, 3))
    calibration = some(3)
    wrong = perturb(calibration, yaw_deg=20, pitch_deg=-10, roll_deg=35, shift_m=(1, 2, 3))
    turn = (
        turned("z", math.radians(20))
        @ turned("y", math.radians(-10))
        @ turned("x", math.radians(35))
    )
    moved = np.array([turn @ p + [1, 2, 3] for p in points])
    np.testing.assert_allclose(to_camera(points, wrong), to_camera(moved, calibration), atol=1e-12)
    np.testing.assert_array_equal(perturb(calibration).lidar_to_camera, calibration.lidar_to_camera)


def test_what_stands_still_comes_nearer_while_the_car_drives_on():
    later = ego_motion(np.array([[20.0, 1, 2]]), (15, 0, 0), 0.1)
    np.testing.assert_allclose(later, [[18.5, 1, 2]])
    np.testing.assert_allclose(ego_motion(later, (15, 0, 0), -0.1), [[20, 1, 2]])
    with pytest.raises(ValueError, match="delay"):
        ego_motion(later, (15, 0, 0), math.nan)
    with pytest.raises(ValueError, match="velocity must hold three numbers, got 2"):
        ego_motion(later, (15, 0), 0.1)


def test_corners_by_hand():
    """Height 2, width 1, length 4; y points down, so the top has the smaller y."""
    box = Box(np.array([10.0, 1.0, 30.0]), (2.0, 1.0, 4.0), 0.0)
    corners = {tuple(c) for c in box.corners().round(9).tolist()}
    assert corners == {(x, y, z) for x in (8, 12) for y in (-1, 1) for z in (29.5, 30.5)}
    assert (box.corners()[:4, 1] == 1).all() and (
        box.corners()[4:, [0, 2]] == box.corners()[:4, [0, 2]]
    ).all()
    across = {tuple(c) for c in Box(box.bottom, box.size, math.pi / 2).corners().round(9).tolist()}
    assert across == {(x, y, z) for x in (9.5, 10.5) for y in (-1, 1) for z in (28, 32)}


def test_a_box_holds_its_own_corners():
    box = Box(np.array([10.0, 1.0, 30.0]), (2.0, 1.0, 4.0), 0.0)
    assert box.contains(box.corners()).all()
    assert not box.contains(box.bottom + 1.001 * (box.corners() - box.bottom)).any()


def test_corners_run_counter_clockwise_seen_from_above():
    x, _, z = Box(np.zeros(3), (1.0, 1.0, 3.0), 0.4).corners()[:4].T
    # x right, z up on paper: seen from above
    area = 0.5 * np.sum(x * np.roll(z, -1) - np.roll(x, -1) * z)
    assert area == pytest.approx(3.0)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-7, 7), st.floats(0.3, 5), st.floats(0.3, 5), st.floats(0.3, 5), st.integers(0, 9999)
)
def test_a_box_holds_what_its_corners_enclose(angle, height, width, length, seed):
    """Points mixed from the corners lie inside; mirrored outwards through a face, outside."""
    box = Box(np.array([3.0, 1.5, 20.0]), (height, width, length), angle)
    corners = box.corners()
    inside = np.random.default_rng(seed).dirichlet(np.ones(8), 50) @ corners
    assert box.contains(inside).all()
    middle = corners.mean(0)
    assert box.contains(middle + 0.999 * (corners - middle)).all()
    assert not box.contains(middle + 1.001 * (corners - middle)).any()
    for face in (
        [0, 1, 4, 5],
        [1, 2, 5, 6],
        [2, 3, 6, 7],
        [3, 0, 7, 4],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ):
        out = corners[face].mean(0) - middle
        assert (
            not box.contains(middle[None] + 1.01 * out).any()
            and box.contains(middle[None] + 0.99 * out).all()
        )


@pytest.mark.parametrize(
    ("bottom", "size", "turn", "words"),
    [
        ([0, 0, 9], (-1, -1, -1), 0.0, "three sizes above 0"),
        ([0, 0, 9], (1, 1, 0), 0.0, "three sizes above 0"),
        ([0, 0, 9], (1, 1, 1), math.nan, "finite rotation"),
        ([0, 9], (1, 1, 1), 0.0, "bottom must hold three numbers, got 2"),
        ([0, 0, 9], (1, 1), 0.0, "size must hold three numbers, got 2"),
        ([0, math.nan, 9], (1, 1, 1), 0.0, "bottom holds 1 values that are NaN"),
    ],
)
def test_boxes_that_are_none_are_refused(bottom, size, turn, words):
    with pytest.raises(ValueError, match=words):
        Box(np.array(bottom, dtype=float), size, turn)


@pytest.mark.parametrize(
    ("field", "matrix", "words"),
    [
        ("projection", np.eye(3), r"projection must be of shape \(3, 4\), got \(3, 3\)"),
        ("rectification", np.eye(4), r"rectification must be of shape \(3, 3\)"),
        ("lidar_to_camera", np.eye(4), r"lidar_to_camera must be of shape \(3, 4\)"),
        ("rectification", 2 * np.eye(3), "rectification are no rotation"),
        ("rectification", np.diag([1.0, 1, -1]), "rectification are no rotation"),
        ("lidar_to_camera", np.zeros((3, 4)), "lidar_to_camera are no rotation"),
        ("projection", np.full((3, 4), math.nan), "projection holds 12 values"),
    ],
)
def test_matrices_that_cannot_be_are_refused(field, matrix, words):
    good = simple()
    parts = {
        name: getattr(good, name) for name in ("projection", "rectification", "lidar_to_camera")
    }
    with pytest.raises(ValueError, match=words):
        CameraCalibration(**{**parts, field: matrix})


def test_matrices_become_float64():
    calibration = CameraCalibration(
        *(m.astype(np.float32) for m in (simple().projection, np.eye(3), some(0).lidar_to_camera))
    )
    assert calibration.projection.dtype == calibration.lidar_to_camera.dtype == np.float64


def test_points_may_be_a_tensor_that_learns():
    points = torch.tensor([[1.0, 2, 3]], requires_grad=True)
    assert points_3d(points).dtype == np.float64 and points_3d(points).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 4)), np.array([[0, math.nan, 1]])])
def test_points_that_are_none_are_refused(points):
    for use in (
        lambda: project(points, simple()),
        lambda: to_image(points, simple()),
        lambda: Box(np.zeros(3), (1, 1, 1), 0.0).contains(points),
        lambda: ego_motion(points, (1, 0, 0), 1.0),
    ):
        with pytest.raises(ValueError, match=r"points must be finite numbers \(N, 3\)"):
            use()
