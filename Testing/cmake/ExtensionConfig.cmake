# include(${Slicer_EXTENSION_GENERATE_CONFIG}): what other extensions need to build against this one. Nothing does.
if(NOT EXTENSION_NAME)
  message(FATAL_ERROR "include the file Slicer_USE_FILE before Slicer_EXTENSION_GENERATE_CONFIG")
endif()
