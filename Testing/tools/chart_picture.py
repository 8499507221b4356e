"""A chart node drawn as Slicer's plot view draws it: with VTK's charts, off screen."""

from __future__ import annotations

from typing import Any

_LINE, _TITLE, _LABELS = 4.0, 34, 26  # pixels
_LEGEND = 28


def chart_picture(chart: Any, width: int, height: int) -> Any:
    """A vtkMRMLPlotChartNode as a PIL image.

    Rows in which a curve has no value are left out of it: a curve is drawn from value to value.
    """
    import numpy as np
    import vtk
    from PIL import Image
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    view = vtk.vtkContextView()
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetSize(width, height)
    window.SetMultiSamples(8)
    drawn = vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    drawn.SetTitle(chart.GetTitle() or "")
    drawn.GetTitleProperties().SetFontSize(_TITLE)
    drawn.SetShowLegend(True)
    drawn.GetLegend().SetLabelSize(_LEGEND)
    for axis, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        drawn.GetAxis(axis).SetTitle(title or "")
        drawn.GetAxis(axis).GetTitleProperties().SetFontSize(_LABELS)
        drawn.GetAxis(axis).GetLabelProperties().SetFontSize(_LABELS)
    kept = []
    for number in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(number)
        rows = series.GetTableNode().GetTable()
        names = (series.GetXColumnName(), series.GetYColumnName())
        values = np.stack([vtk_to_numpy(rows.GetColumnByName(name)).astype(float) for name in names])
        values = values[:, np.isfinite(values).all(axis=0)]
        table = vtk.vtkTable()
        for name, column in zip(("x", series.GetName()), values):
            array = numpy_to_vtk(column, deep=True)
            array.SetName(name)
            table.AddColumn(array)
        line = drawn.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(table, 0, 1)
        line.SetColorF(*series.GetColor())
        line.SetWidth(_LINE)
        kept.append(table)
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    columns, lines, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(lines, columns, -1)[::-1, :, :3]
    return Image.fromarray(np.ascontiguousarray(pixels))
