"""The face mesh for tests, and meshes that turn like a head or like a photo."""

from dataclasses import replace

import numpy as np
import pytest

from sim.attack import Pose
from tests.vision.conftest import CACHE
from vision.attack.mesh import Mesh, Mesher
from vision.detect import Face, detect
from vision.manifest import ModelEntry, read_manifest
from vision.models import Image, Models
from vision.store import fetch

MANIFEST = read_manifest()
assert MANIFEST.mesh is not None
assert MANIFEST.eye is not None
MESH, EYE = MANIFEST.mesh, MANIFEST.eye


def source(entry: ModelEntry) -> bytes:
    assert entry.container is not None
    return fetch(entry.container, CACHE / "models" / "wheels")


@pytest.fixture(scope="session")
def mesher(models: Models) -> Mesher:
    assert models.mesh is not None
    assert models.eye is not None
    return Mesher(models.mesh, models.eye)


def face_of(models: Models, picture: Image) -> Face:
    """The first face of a picture."""
    return detect(models.detector, picture)[0]


def mesh_of(models: Models, mesher: Mesher, picture: Image) -> Mesh | None:
    """The mesh of the first face of a picture, None without one."""
    faces = detect(models.detector, picture)
    return mesher.find(picture, faces[0].box, faces[0].landmarks) if faces else None


@pytest.fixture(scope="session")
def hopper_mesh(models: Models, mesher: Mesher, hopper: Image) -> Mesh:
    mesh = mesh_of(models, mesher, hopper)
    assert mesh is not None
    return mesh


def turned(mesh: Mesh, pose: Pose, *, flat: bool = False) -> Mesh:
    """The mesh of a head, or of a flat picture of it, turned as `Pose` says and seen from afar."""
    yaw, pitch = np.radians([pose.yaw, pose.pitch])
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    middle = mesh.points[168].astype(np.float64)
    solid = mesh.points - middle
    depth = solid[:, 2].copy()
    if flat:
        solid[:, 2] = 0
    seen = solid @ (about_x @ about_y).T
    if flat:
        seen[:, 2] = depth  # the network guesses the depth of the face that it sees
    return replace(mesh, points=(seen * pose.size + middle).astype(np.float32))
