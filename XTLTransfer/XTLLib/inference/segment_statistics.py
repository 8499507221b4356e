"""The measures of Slicer's module Segment Statistics, under its names and in its units, for the labels of a map.

Slicer measures a segment by ITK's label shape statistics in RAS; SimpleITK gives the same statistics here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.volume import Volume
from ..metrics.components import bounding_box
from .table import Column, write_table

Vector = tuple[float, float, float]
PLUGIN = "LabelmapSegmentStatisticsPlugin"  # Slicer's own: a measure's full key is PLUGIN.key


@dataclass(frozen=True)
class SegmentStatistics:
    """The shape of one label; every attribute but the first two is a key of Slicer's label map plugin.

    Attributes
    ----------
    segment : name of the segment. label_value : its value in the map.
    voxel_count, volume_mm3, volume_cm3 : the voxels, and their volume.
    centroid_ras : mean of the voxel centres, mm.
    feret_diameter_mm : largest distance between the centres of two border voxels; not
        ``Lesion.longest_diameter_mm``, which counts the voxels' corners in.
    surface_area_mm2 : estimated from the number of times that lines cross the border.
    roundness : area of the sphere of this volume over the surface's; 1 for a sphere, slightly above for few voxels.
    flatness : square root of second smallest over smallest principal moment. elongation : of largest over
        second. Both 1 for a sphere; 0 where a moment is 0: lesions that are one voxel thin.
    principal_moments : variances of the voxel centres along the axes, ascending, mm².
    principal_axis_x, _y, _z : directions of these axes in RAS, unit vectors.
    obb_origin_ras, obb_diameter_mm, obb_direction_ras_x, _y, _z : oriented bounding box: a corner (mm), its
        sizes and directions.
    """

    segment: str
    label_value: int
    voxel_count: int
    volume_mm3: float
    volume_cm3: float
    centroid_ras: Vector
    feret_diameter_mm: float
    surface_area_mm2: float
    roundness: float
    flatness: float
    elongation: float
    principal_moments: Vector
    principal_axis_x: Vector
    principal_axis_y: Vector
    principal_axis_z: Vector
    obb_origin_ras: Vector
    obb_diameter_mm: Vector
    obb_direction_ras_x: Vector
    obb_direction_ras_y: Vector
    obb_direction_ras_z: Vector


@dataclass(frozen=True)
class Measure:
    """How Slicer presents a key: the column of its table, the unit, the names of a vector's parts."""

    key: str
    name: str
    unit: str = ""
    components: tuple[str, ...] = ()


_RAS, _XYZ = ("r", "a", "s"), ("x", "y", "z")
MEASURES: tuple[Measure, ...] = (
    Measure("voxel_count", "Voxel count"),
    Measure("volume_mm3", "Volume mm3", "mm3"),
    Measure("volume_cm3", "Volume cm3", "cm3"),
    Measure("centroid_ras", "Centroid", "", _RAS),
    Measure("feret_diameter_mm", "Feret diameter mm", "mm"),
    Measure("surface_area_mm2", "Surface mm2", "mm2"),
    Measure("roundness", "Roundness"),
    Measure("flatness", "Flatness"),
    Measure("elongation", "Elongation"),
    Measure("principal_moments", "Principal moments", "", _XYZ),
    Measure("principal_axis_x", "Principal X axis", "", _RAS),
    Measure("principal_axis_y", "Principal Y axis", "", _RAS),
    Measure("principal_axis_z", "Principal Z axis", "", _RAS),
    Measure("obb_origin_ras", "OBB origin", "", _RAS),
    Measure("obb_diameter_mm", "OBB diameter", "mm", _XYZ),
    Measure("obb_direction_ras_x", "OBB X direction", "", _RAS),
    Measure("obb_direction_ras_y", "OBB Y direction", "", _RAS),
    Measure("obb_direction_ras_z", "OBB Z direction", "", _RAS),
)


def statistics_of(label: Volume, names: Mapping[int, str] | None = None) -> tuple[SegmentStatistics, ...]:
    """The statistics of every label of a map, by label value; none for an empty one.

    Parameters
    ----------
    label : whole numbers or bool on any grid; 0 is background. ``label.array > 0`` measures all as one segment.
    names : label value -> name of its segment; "segment 3" by default.
    """
    import SimpleITK

    box = bounding_box(label.array > 0)
    if box is None:
        return ()
    grid = label.grid.crop(box)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(label.array[box], dtype=np.uint32))
    # The image's geometry is written down in RAS, as Slicer hands it to ITK: nothing has to be turned back.
    image.SetOrigin(grid.ijk_to_ras[:3, 3].tolist())
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((grid.ijk_to_ras[:3, :3] / np.array(grid.spacing_mm)).ravel().tolist())
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.ComputeFeretDiameterOn()
    shapes.ComputePerimeterOn()
    shapes.ComputeOrientedBoundingBoxOn()
    shapes.Execute(image)
    names = names or {}
    return tuple(_of(shapes, value, names.get(value, f"segment {value}")) for value in shapes.GetLabels())


def statistics_columns() -> tuple[Column, ...]:
    """The columns of statistics.tsv: the segment's name, then Slicer's keys; vectors as one column a component."""
    columns = [
        Column("segment", "", "name of the segment", lambda row: row.segment),
        Column("label_value", "", "its value in the label map", lambda row: row.label_value),
    ]
    for measure in MEASURES:
        if not measure.components:
            columns.append(Column(measure.key, "", f"{measure.name} of Segment Statistics", _value(measure.key)))
        for place, component in enumerate(measure.components):
            about = f"{measure.name}, component {component}, of Segment Statistics"
            columns.append(Column(f"{measure.key}_{component}", "", about, _value(measure.key, place)))
    return tuple(columns)


def write_statistics(
    label: Volume, out: str | os.PathLike, names: Mapping[int, str] | None = None
) -> tuple[Path, Path]:
    """Write ``statistics.tsv`` and ``statistics.json`` into the folder ``out``; returns both paths."""
    about = {"measures_of": f"3D Slicer, {PLUGIN}", "coordinates": "RAS, mm"}
    return write_table(statistics_columns(), statistics_of(label, names), about, Path(out) / "statistics")


def _value(key: str, component: int | None = None) -> Callable[[SegmentStatistics], float]:
    if component is None:
        return lambda row: getattr(row, key)
    return lambda row: getattr(row, key)[component]


def _of(shapes, value: int, name: str) -> SegmentStatistics:
    axes = np.reshape(shapes.GetPrincipalAxes(value), (3, 3))
    directions = np.reshape(shapes.GetOrientedBoundingBoxDirection(value), (3, 3))
    volume = float(shapes.GetPhysicalSize(value))
    return SegmentStatistics(
        name,
        int(value),
        int(shapes.GetNumberOfPixels(value)),
        volume,
        volume / 1000.0,
        _vector(shapes.GetCentroid(value)),
        float(shapes.GetFeretDiameter(value)),
        float(shapes.GetPerimeter(value)),
        float(shapes.GetRoundness(value)),
        float(shapes.GetFlatness(value)),
        float(shapes.GetElongation(value)),
        _vector(shapes.GetPrincipalMoments(value)),
        *map(_vector, axes),
        _vector(shapes.GetOrientedBoundingBoxOrigin(value)),
        _vector(shapes.GetOrientedBoundingBoxSize(value)),
        *map(_vector, directions),
    )


def _vector(values) -> Vector:
    return tuple(float(value) for value in values)
