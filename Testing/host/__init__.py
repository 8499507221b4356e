"""A headless Slicer for tests: slicer-core's real MRML and module logics, with a Qt panel over PySide6.

What is real here: the scene, every node, every module logic and ``slicer.util``. What stands in: the
parts of the application that exist only in Slicer (``slicer.app``, the widgets of CTK and qMRML, the
scripted-module base classes, the parameter node wrapper). The stand-ins follow the documented behaviour
of Slicer and are stricter where Slicer only prints a warning. Never installed.
"""
