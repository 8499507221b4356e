"""Slicer's slice and 3D views without a window: the same displayable managers draw into pictures.

Drawing takes place on the thread that calls; pictures are JPEG (quality 92, for looking at, not for measuring).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from .session import Session, import_slicer

VIEWS = ("Red", "Yellow", "Green")
_QUALITY = 92
_IN_SLICES = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
_IN_3D = ("vtkMRMLSegmentationsDisplayableManager3D", "vtkMRMLMarkupsDisplayableManager")
_DRAG_RANGE = 2.0  # a drag across a view changes window and level by so many of the image's own window
_SMALLEST_WINDOW = 1e-3  # of the image's own
_NEAREST_MM, _FARTHEST_MM = 2.0, 5000.0  # what a view may be zoomed to
_AROUND_OPACITY = 0.13
_AROUND_VOXELS = 60  # along the longest axis: it is an outline for orientation, not a measurement


def draw_off_screen() -> None:
    """Let VTK draw without a display; called before the first view is made. ``VTK_DEFAULT_OPENGL_WINDOW`` overrides."""
    if sys.platform.startswith("linux"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")


class _View:
    """A window off screen, into which the displayable managers draw."""

    def __init__(self) -> None:
        import vtk

        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)  # else translucent surfaces are drawn opaque by Mesa
        self._window.SetAlphaBitPlanes(1)
        self._front = vtk.vtkRenderer()
        self._window.AddRenderer(self._front)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()  # managers ask for one
        self._interactor.SetRenderWindow(self._window)
        grab = self._grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        self._writer = vtk.vtkJPEGWriter()
        self._writer.WriteToMemoryOn()
        self._writer.SetQuality(_QUALITY)
        self._writer.SetInputConnection(grab.GetOutputPort())

    def _manage(self, factory: Any, session: Session, names: tuple[str, ...], node: Any) -> None:
        factory.SetMRMLApplicationLogic(session.application_logic)
        for name in names:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group = import_slicer().vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._front)
        self._group.Initialize(factory, self._front)
        self._group.SetMRMLDisplayableNode(node)

    def picture(self, width: int, height: int) -> bytes:
        """What the view shows now, as JPEG of that size in pixels."""
        self._fit(width, height)
        self._window.Render()
        self._grab.Modified()
        self._writer.Write()
        return bytes(memoryview(self._writer.GetResult()))

    def _fit(self, width: int, height: int) -> None:
        if self._window.GetSize() != (width, height):
            self._window.SetSize(width, height)

    def close(self) -> None:
        """Let go of the scene; call it before the scene is emptied."""
        self._group.SetMRMLDisplayableNode(None)
        self._window.Finalize()


class SliceView(_View):
    """One of Slicer's slice views.

    Parameters
    ----------
    name : of the slice node: "Red", "Yellow" or "Green"; the scene has it (views.add_slice_views).
    """

    def __init__(self, session: Session, name: str) -> None:
        super().__init__()
        import vtk

        self._size = (0, 0)
        slicer, back = import_slicer(), vtk.vtkRenderer()
        self._window.SetNumberOfLayers(2)  # in one layer, translucent fills would not let the image through
        self._window.AddRenderer(back)
        self._front.SetLayer(1)
        for renderer in (back, self._front):
            renderer.GetActiveCamera().ParallelProjectionOn()
        logic = self._logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(session.application_logic)
        session.application_logic.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(session.scene)
        self.node = session.scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        logic.SetSliceNode(self.node)
        mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(logic.GetImageDataConnection())
        actor.SetMapper(mapper)
        back.AddViewProp(actor)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._manage(factory, session, _IN_SLICES, self.node)

    @property
    def orientation(self) -> str:
        """ "Axial", "Sagittal" or "Coronal": the plane of the patient that the slice is nearest to."""
        matrix = self.node.GetSliceToRAS()
        normal = [abs(matrix.GetElement(row, 2)) for row in range(3)]
        return ("Sagittal", "Coronal", "Axial")[normal.index(max(normal))]

    @property
    def edges(self) -> tuple[str, str, str, str]:
        """What of the patient the left, right, upper and lower edge look to: R or L, A or P, S or I."""
        matrix = self.node.GetSliceToRAS()
        right, up = ([matrix.GetElement(row, column) for row in range(3)] for column in (0, 1))
        return _letter(right, -1), _letter(right, 1), _letter(up, 1), _letter(up, -1)

    @property
    def offset_mm(self) -> float:
        """Where the slice lies, along its normal."""
        return self.node.GetSliceOffset()

    @property
    def range_mm(self) -> tuple[float, float, float]:
        """Lowest and highest offset, and the distance of two slices of the image behind."""
        bounds = [0.0] * 6
        self._logic.GetLowestVolumeSliceBounds(bounds)
        step = abs(self._logic.GetLowestVolumeSliceSpacing()[2]) or 1.0
        return bounds[4] + step / 2, bounds[5] - step / 2, step

    def move_to(self, offset_mm: float) -> None:
        """Put the slice at an offset, within the image."""
        low, high, _ = self.range_mm
        self.node.SetSliceOffset(min(max(offset_mm, low), max(low, high)))

    def step(self, count: int) -> None:
        """Go on by so many slices."""
        self.move_to(self.offset_mm + count * self.range_mm[2])

    def ras_at(self, x: float, y: float) -> tuple[float, float, float]:
        """The point (RAS mm) at a place of the picture: shares of its width and height from the top left corner."""
        width, height, _ = self.node.GetDimensions()
        return tuple(self.node.GetXYToRAS().MultiplyPoint((x * width, (1 - y) * height, 0.0, 1.0))[:3])

    def place_of(self, ras: tuple[float, float, float]) -> tuple[float, float]:
        """The other way: where a point lies in the picture, seen along the slice's normal."""
        import vtk

        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), to_xy)
        x, y = to_xy.MultiplyPoint((*ras, 1.0))[:2]
        width, height, _ = self.node.GetDimensions()
        return x / width, 1 - y / height

    def show_whole(self) -> None:
        """See the whole of the image behind, in the slice where the view is."""
        offset = self.offset_mm
        self._logic.FitSliceToBackground(*self._size)
        self.node.SetSliceOffset(offset)

    def zoom(self, factor: float) -> None:
        """See so many times more of the slice, within reason."""
        x, y, z = self.node.GetFieldOfView()
        if min(x, y) * factor >= _NEAREST_MM and max(x, y) * factor <= _FARTHEST_MM:
            self.node.SetFieldOfView(x * factor, y * factor, z)

    def picture(self, width: int, height: int) -> bytes:
        """See _View."""
        self._fit(width, height)
        self.node.Modified()  # a segmentation that has just come is not drawn before the slice changes
        return super().picture(width, height)

    def _fit(self, width: int, height: int) -> None:
        if (width, height) != self._size:
            before, self._size = self._size, (width, height)
            super()._fit(width, height)
            self.node.SetDimensions(width, height, 1)
            if before == (0, 0):
                self.show_whole()
            else:
                x, y, z = self.node.GetFieldOfView()
                self.node.SetFieldOfView(x * width / before[0], y * height / before[1], z)


class SurfaceView(_View):
    """A 3D view of the surfaces in the scene, turned by hand."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        slicer = import_slicer()
        node = session.scene.GetFirstNodeByClass("vtkMRMLViewNode")
        if node is None:
            node = session.scene.AddNewNodeByClass("vtkMRMLViewNode", "View1")
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self._manage(factory, session, _IN_3D, node)
        self._around: Any = None
        self._front.SetBackground(0.07, 0.08, 0.10)

    def show_around(self, volume_node: Any) -> None:
        """Show the outside of what a volume shows, translucent, for orientation; None shows nothing."""
        if self._around is not None:
            self._front.RemoveViewProp(self._around)
        self._around = None if volume_node is None else _outside_of(volume_node)
        if self._around is not None:
            self._front.AddViewProp(self._around)
        self.look_at_all()

    def look_at_all(self) -> None:
        """See everything, from the front and a little from above."""
        camera = self._front.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(0.35, 1.0, 0.35)
        camera.SetViewUp(0, 0, 1)
        self._front.ResetCamera()
        camera.Zoom(1.35)

    def turn(self, right: float, up: float) -> None:
        """Turn by so many degrees."""
        camera = self._front.GetActiveCamera()
        camera.Azimuth(-right)
        camera.Elevation(up)
        camera.OrthogonalizeViewUp()

    def zoom(self, factor: float) -> None:
        """See everything so many times smaller, within reason."""
        camera = self._front.GetActiveCamera()
        if _NEAREST_MM <= camera.GetDistance() * factor <= _FARTHEST_MM:
            camera.Dolly(1 / factor)

    def picture(self, width: int, height: int) -> bytes:
        """See _View."""
        self._front.ResetCameraClippingRange()
        return super().picture(width, height)


class Contrast:
    """Window and level of an image, changed by drags as in Slicer: right is wider, up is brighter.

    Parameters
    ----------
    volume_node : vtkMRMLScalarVolumeNode.
    """

    def __init__(self, volume_node: Any) -> None:
        self._display = volume_node.GetDisplayNode()
        self._own = self.window_level

    def drag(self, right: float, up: float) -> None:
        """Shares of a view's width and height by which the pointer went."""
        own, (window, level) = self._own[0], self.window_level
        window = max(window + right * _DRAG_RANGE * own, own * _SMALLEST_WINDOW)
        self._display.SetAutoWindowLevel(False)
        self._display.SetWindowLevel(window, level - up * _DRAG_RANGE * own)

    def reset(self) -> None:
        """As the scene had it."""
        self._display.SetAutoWindowLevel(False)
        self._display.SetWindowLevel(*self._own)

    @property
    def window_level(self) -> tuple[float, float]:
        """In the image's own values."""
        return self._display.GetWindow(), self._display.GetLevel()


def _letter(direction: list[float], sign: int) -> str:
    axis = max(range(3), key=lambda row: abs(direction[row]))
    return "RAS"[axis] if sign * direction[axis] > 0 else "LPI"[axis]


def _outside_of(volume_node: Any) -> Any:
    """An actor: the surface of what is brighter than half the mean, on a coarse copy of the volume, in world mm."""
    import vtk

    from .arrays import vtk_image, vtk_matrix
    from .nodes import volume_from_node

    volume = volume_from_node(volume_node)
    stride = max(1, round(max(volume.array.shape) / _AROUND_VOXELS))
    coarse = np.pad(volume.array[::stride, ::stride, ::stride].astype(np.float32), 1)
    affine = volume.grid.ijk_to_ras @ np.diag([stride, stride, stride, 1.0])
    affine[:3, 3] -= affine[:3, :3].sum(axis=1)  # of the border
    image = vtk_image(np.ascontiguousarray(coarse), False)
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputData(image)
    smooth.SetStandardDeviation(1.0)
    surface = vtk.vtkFlyingEdges3D()
    surface.SetInputConnection(smooth.GetOutputPort())
    surface.SetValue(0, float(coarse.mean()) / 2)
    largest = vtk.vtkPolyDataConnectivityFilter()
    largest.SetInputConnection(surface.GetOutputPort())
    largest.SetExtractionModeToLargestRegion()
    facing = vtk.vtkReverseSense()
    facing.SetInputConnection(largest.GetOutputPort())
    facing.SetReverseCells(bool(np.linalg.det(affine[:3, :3]) < 0))  # a mirrored grid turns the outside in
    facing.ReverseNormalsOff()  # the matrix turns them
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputConnection(facing.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtk.vtkActor()
    actor.SetMapper(mapper)
    actor.SetUserMatrix(vtk_matrix(affine))
    actor.GetProperty().SetColor(0.80, 0.84, 0.90)
    actor.GetProperty().SetOpacity(_AROUND_OPACITY)
    actor.GetProperty().BackfaceCullingOn()
    return actor
