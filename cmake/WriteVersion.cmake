# cmake -DVERSION=X.Y.Z -DSOURCE_DIR=DIR -DOUTPUT=FILE -P WriteVersion.cmake
# CULVERT_VERSION       the version of the project, "0.1.0"
# CULVERT_VERSION_FULL  the same with what git says: "0.1.0", "0.1.0-12-g1a2b3c4",
#                       "0.1.0+g1a2b3c4-dirty"; without git (a tarball) just the version, also where
#                       the tarball was unpacked inside of somebody else's repository
cmake_minimum_required(VERSION 3.25)
set(full ${VERSION})
set(failed 1)
if(EXISTS ${SOURCE_DIR}/.git) # a directory, or the file of a work tree
    execute_process(
        COMMAND git -C ${SOURCE_DIR} describe --tags --match v[0-9]* --always --dirty --abbrev=7
        OUTPUT_VARIABLE describe OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
endif()
if(failed EQUAL 0)
    if(describe MATCHES "^v[0-9]")
        string(SUBSTRING "${describe}" 1 -1 full)
    elseif(describe)
        set(full "${VERSION}+g${describe}")
    endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/culvert_version.h.in ${OUTPUT} @ONLY)
