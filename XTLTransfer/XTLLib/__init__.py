"""XTLLib: cross-domain transfer learning from mammograms to MRI.

The rooms, in the order in which data walks through them: ``data``, ``metrics``, ``networks``,
``transfer``, ``bundle``, ``inference``, ``training``, ``study``, ``scene``. A room imports only from
rooms before it; ``scene`` and ``cli`` may import any. Only ``scene`` imports ``slicer`` and ``vtk``.
``errors``, ``progress`` and ``files`` are the ground all rooms stand on.

Conventions that hold everywhere
--------------------------------
* A 3D array is indexed ``[k, j, i]`` (slowest axis first), as SimpleITK, MRML and torch have it.
* A point is ``(r, a, s)`` in mm in patient space (RAS, as MRML has it) unless its name says ``lps``.
* An affine ``ijk_to_ras`` maps the homogeneous index ``(i, j, k, 1)`` to ``(r, a, s, 1)``.
* Nothing heavy (torch, MONAI, SimpleITK, scikit-learn, matplotlib) is imported at module load.
"""

__version__ = "0.1.0"
