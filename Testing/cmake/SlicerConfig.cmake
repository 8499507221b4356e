# A stand-in for the package that Slicer's build tree offers to extensions, for tests: cmake configures and installs
# the extension without Slicer. What it does follows what Slicer's own macros do with an extension of scripted
# modules; it is stricter where theirs overwrite or skip in silence. Never installed.

set(Slicer_VERSION_MAJOR 5)
set(Slicer_VERSION_MINOR 12)
set(Slicer_VERSION "${Slicer_VERSION_MAJOR}.${Slicer_VERSION_MINOR}")

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/ExtensionConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionDescription.cmake")

# On Linux and Windows an extension's package unpacks into a folder of the extension's own, where Slicer looks for
# scripted modules in this one.
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-${Slicer_VERSION}/qt-scripted-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_INSTALL_SHARE_DIR "share/Slicer-${Slicer_VERSION}")
