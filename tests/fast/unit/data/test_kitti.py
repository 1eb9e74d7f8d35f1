"""kitti: the numbers that its data card states, and boxes, points and picture that fit together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmtutor.alignment.space import (
    ego_motion,
    in_image,
    in_rectangle,
    perturb,
    project,
    to_camera,
    to_image,
)
from mmtutor.data import kitti, load
from mmtutor.files import store

POINTS = {"000000": 115384, "000001": 120268, "000002": 126891}
SIZES = {"000000": (1224, 370), "000001": (1242, 375), "000002": (1242, 375)}
OBJECTS = {
    "000000": ["Pedestrian"],
    "000001": ["Truck", "Car", "Cyclist"],
    "000002": ["Misc", "Car"],
}


@pytest.fixture(params=kitti.FRAMES)
def frame(request, real):
    real("kitti")
    return kitti.load(request.param)


@pytest.fixture
def richest(real):
    real("kitti")
    return kitti.load()


def overlap(a, b) -> float:
    """Intersection over union of two rectangles."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_counts_are_those_of_the_card(frame):
    assert len(frame.points) == len(frame.reflectance) == POINTS[frame.name]
    assert [thing.kind for thing in frame.objects] == OBJECTS[frame.name]  # DontCare left out
    with Image.open(frame.image) as picture:
        assert picture.size == frame.size == SIZES[frame.name]


def test_ranges_are_those_of_the_card(frame):
    assert frame.points.dtype == frame.reflectance.dtype == np.float32
    assert (
        np.abs(frame.points).max() < 81
        and frame.reflectance.min() >= 0
        and frame.reflectance.max() <= 0.99
    )
    assert np.ptp(frame.points[:, 0]) > 70 and np.ptp(frame.points[:, 2]) < 40


def test_calibration_is_read_row_by_row(frame):
    """A second reading of the file: its numbers, in their order."""
    text = (store.find(store.manifest("kitti")) / "calib" / f"{frame.name}.txt").read_text()
    for key, ours in (
        ("P2: ", frame.calibration.projection),
        ("R0_rect: ", frame.calibration.rectification),
        ("Tr_velo_to_cam: ", frame.calibration.lidar_to_camera),
    ):
        start = text.index(key) + len(key)
        assert [
            float(x) for x in text[start : text.index("\n", start)].split()
        ] == ours.ravel().tolist()


def test_labels_are_read_column_by_column(frame):
    """A second reading, in the order that the card names."""
    lines = (
        (store.find(store.manifest("kitti")) / "label_2" / f"{frame.name}.txt")
        .read_text()
        .split("\n")
    )
    for thing, line in zip(frame.objects, lines, strict=False):  # DontCare rows come last
        ours = [thing.truncated, thing.occluded, thing.alpha, *thing.rectangle]
        ours += [*thing.box.size, *thing.box.bottom, thing.box.rotation_y]
        assert ours == [float(x) for x in line.split()[1:]] and line.startswith(thing.kind)


def test_projected_boxes_are_the_labelled_rectangles(frame):
    """Two labels of one object, made independently of our code: 3-d corners and a rectangle in the
    picture."""
    for thing in frame.objects:
        uv, depth = to_image(thing.box.corners(), frame.calibration)
        inside = uv.clip(0, np.array(frame.size) - 1)
        assert thing.truncated == 0 and (depth > 0).all()
        assert overlap([*inside.min(0), *inside.max(0)], thing.rectangle) > 0.85


def test_points_in_a_box_fall_into_its_rectangle(frame):
    camera = to_camera(frame.points, frame.calibration)
    uv, depth = project(frame.points, frame.calibration)
    for thing in frame.objects:
        held = thing.box.contains(camera)
        assert held.sum() >= 9  # the farthest, 58 m away
        assert in_rectangle(uv[held], thing.rectangle).mean() > 0.99
        assert np.abs(depth[held] - thing.box.bottom[2]).max() < max(thing.box.size)


def test_a_wrong_calibration_loses_the_objects(richest):
    """One degree of yaw is 12.6 pixels: nothing of a cyclist 12 pixels wide is left, half of the
    truck."""
    camera = to_camera(richest.points, richest.calibration)

    def landed(thing, calibration):
        uv, _ = project(richest.points[thing.box.contains(camera)], calibration)
        return in_rectangle(uv, thing.rectangle).mean()

    for thing in richest.objects:
        shares = [
            landed(thing, perturb(richest.calibration, yaw_deg=yaw)) for yaw in (0, 0.5, 1, 2)
        ]
        assert shares[0] == 1 and shares == sorted(shares, reverse=True) and shares[3] <= 0.1
        assert landed(thing, perturb(richest.calibration, yaw_deg=-2)) < 0.2


def test_a_late_scan_loses_what_is_near_first(real):
    real("kitti")
    near = kitti.load("000002")
    misc, car = near.objects
    camera = to_camera(near.points, near.calibration)
    shares = {}
    for thing in (misc, car):
        late = ego_motion(near.points[thing.box.contains(camera)], (15, 0, 0), 0.1)
        shares[thing.kind] = in_rectangle(
            project(late, near.calibration)[0], thing.rectangle
        ).mean()
    assert (
        misc.box.bottom[2] < 10 < 30 < car.box.bottom[2]
        and shares["Misc"] < 0.75 < 0.9 < shares["Car"]
    )


def test_the_camera_sees_a_sixth_of_the_turn(frame):
    uv, depth = project(frame.points, frame.calibration)
    seen = in_image(uv, frame.size)
    assert (depth[seen] > 0).all() and 0.14 < seen.mean() < 0.2
    assert np.isnan(uv[depth <= 0]).all() and (depth <= 0).mean() > 0.4


def test_card_names_the_terms(richest):
    assert "NC" in richest.card["licence"] and richest.card["commercial_use"] is False


def test_unknown_frame_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown frame '000003'; known: 000000, 000001, 000002"):
        kitti.load("000003")


def test_set_that_cannot_be_had_says_how(home):
    with pytest.raises(store.DatasetUnavailable, match="mmtutor data get kitti --accept-licence"):
        kitti.load()


def test_the_frames_are_a_data_set_with_boxes_as_targets(real):
    real("kitti")
    data = load("kitti")
    assert len(data) == 3 and data.labels is None and data.group_names == kitti.FRAMES
    assert [len(points) for points in data.modalities["lidar"]] == list(POINTS.values())
    assert [[o.kind for o in objects] for objects in data.targets["objects"]] == list(
        OBJECTS.values()
    )
    second = data.subset([1])
    frame = kitti.load("000001")
    assert second.modalities["image"] == [frame.image]
    calibration = second.modalities["calibration"][0]
    np.testing.assert_array_equal(calibration.projection, frame.calibration.projection)
    assert repr(data).endswith("modalities image, lidar, calibration; targets objects")
