# Target culvert_version keeps ${PROJECT_BINARY_DIR}/generated/culvert_version.h up to date at every
# build; the file is rewritten only when its text changes. It is also made now, so that it always
# exists.
set(version_command
    ${CMAKE_COMMAND} -DVERSION=${PROJECT_VERSION} -DSOURCE_DIR=${PROJECT_SOURCE_DIR}
    -DOUTPUT=${PROJECT_BINARY_DIR}/generated/culvert_version.h
    -P ${PROJECT_SOURCE_DIR}/cmake/WriteVersion.cmake)
execute_process(COMMAND ${version_command} COMMAND_ERROR_IS_FATAL ANY)
add_custom_target(culvert_version
    COMMAND ${version_command}
    BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/culvert_version.h
    COMMENT "Version header" VERBATIM)
