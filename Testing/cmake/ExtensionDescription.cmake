# include(${Slicer_EXTENSION_CPACK}): the description that lies in an extension's package, and that the Extensions
# Manager shows.
set(description "{}")
string(JSON description SET "${description}" "name" "\"${EXTENSION_NAME}\"")
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS KEYWORDS DEPENDS)
  if(NOT EXTENSION_${name})
    message(FATAL_ERROR "EXTENSION_${name} is empty")
  endif()
  string(TOLOWER "${name}" key)
  string(JSON description SET "${description}" "${key}" "\"${EXTENSION_${name}}\"")
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.json" "${description}\n")
install(
  FILES "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.json"
  DESTINATION "${Slicer_INSTALL_SHARE_DIR}"
  COMPONENT RuntimeLibraries
  )
