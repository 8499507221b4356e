"""What the tests of the scene share: one MRML session a file, emptied after every test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def session():
    from XTLLib.scene.session import open_session

    session = open_session()
    yield session
    session.close()


@pytest.fixture
def scene(session):
    yield session.scene
    session.scene.Clear(False)
