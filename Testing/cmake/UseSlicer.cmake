# What an extension may call after include(${Slicer_USE_FILE}).

if(NOT DEFINED EXTENSION_NAME)
  set(EXTENSION_NAME ${PROJECT_NAME})
endif()

option(BUILD_TESTING "Register the tests of the modules" ON)
if(BUILD_TESTING)
  enable_testing()
endif()

# One script or resource of a module, from the module's folder to the same relative place in the one folder that all
# modules share. Two modules that bring a file of one name would overwrite each other's, on some systems also when the
# names differ in case only.
function(_slicer_place_file file)
  if(IS_ABSOLUTE "${file}" OR "${file}" MATCHES "\\.\\.")
    message(FATAL_ERROR "${file}: a file of a module is named relative to the module's folder")
  endif()
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}" OR IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    message(FATAL_ERROR "${CMAKE_CURRENT_SOURCE_DIR}/${file} is listed, but there is no such file")
  endif()
  string(TOLOWER "${file}" place)
  get_property(owner GLOBAL PROPERTY "_slicer_owner_of_${place}")
  if(owner)
    message(FATAL_ERROR "${file} of ${CMAKE_CURRENT_SOURCE_DIR} overwrites that of ${owner}")
  endif()
  set_property(GLOBAL PROPERTY "_slicer_owner_of_${place}" "${CMAKE_CURRENT_SOURCE_DIR}")
  get_filename_component(folder "${file}" DIRECTORY)
  install(
    FILES "${CMAKE_CURRENT_SOURCE_DIR}/${file}"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}"
    COMPONENT RuntimeLibraries
    )
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know ${MY_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT MY_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs a NAME")
  endif()
  if(MY_WITH_SUBDIR)
    message(FATAL_ERROR "the stand-in knows modules of the shared folder only")
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    _slicer_place_file("${file}")
  endforeach()
  if(BUILD_TESTING AND MY_WITH_GENERIC_TESTS)
    slicer_add_python_unittest(SCRIPT "qSlicer${MY_NAME}ModuleGenericTest.py" TESTNAME_PREFIX "nomainwindow_")
  endif()
  list(LENGTH MY_SCRIPTS scripts)
  list(LENGTH MY_RESOURCES resources)
  message(STATUS "module ${MY_NAME}: ${scripts} scripts, ${resources} resources")
endfunction()

# In Slicer the command starts Slicer and runs the self test of the module; here it only has a name.
function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(NOT MY_SCRIPT)
    message(FATAL_ERROR "slicer_add_python_unittest needs a SCRIPT")
  endif()
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  add_test(NAME "py_${MY_TESTNAME_PREFIX}${name}" COMMAND "${CMAKE_COMMAND}" -E true)
endfunction()
