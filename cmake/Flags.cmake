# Compiler and linker flags, all carried by the interface target culvert_options.
#
#   Release  -O2 -g, hardened, link-time optimisation where both the compiler and its linker can do it.
#            NDEBUG is never defined: the project's own checks stay on.
#   Debug    -Og -g3 and CULVERT_DEBUG (extra checks, such as no allocation after start).
#   CULVERT_SANITIZE=LIST adds -fsanitize=LIST at -O1, every report fatal.
include(CheckCCompilerFlag)
include(CheckIPOSupported)
include(CheckPIESupported)
set(CMAKE_REQUIRED_QUIET ON)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-Og -g3")
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
check_pie_supported(LANGUAGES C)

add_library(culvert_options INTERFACE)
target_include_directories(culvert_options INTERFACE
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_BINARY_DIR}/generated)
target_compile_definitions(culvert_options INTERFACE
    _GNU_SOURCE $<$<CONFIG:Debug>:CULVERT_DEBUG=1>)

# culvert_try_flag(<flag>): adds a compile flag if the compiler knows it.
function(culvert_try_flag flag)
    string(MAKE_C_IDENTIFIER "CULVERT_HAS${flag}" name)
    check_c_compiler_flag(${flag} ${name})
    if(${name})
        target_compile_options(culvert_options INTERFACE ${flag})
    endif()
endfunction()

target_compile_options(culvert_options INTERFACE
    -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes
    -Wmissing-declarations -Wold-style-definition -Wvla -Wundef -Wformat=2 -Wwrite-strings
    -Wimplicit-fallthrough -Wredundant-decls -Wnested-externs -Winit-self
    $<$<BOOL:${CULVERT_WERROR}>:-Werror>)
foreach(flag IN ITEMS -Wduplicated-cond -Wlogical-op -Wstringop-overflow=2)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
        culvert_try_flag(${flag})
    endif()
endforeach()

if(CULVERT_SANITIZE)
    set(sanitize -fsanitize=${CULVERT_SANITIZE} -fno-omit-frame-pointer)
    if(CULVERT_SANITIZE MATCHES "undefined")
        list(APPEND sanitize -fno-sanitize-recover=all)
    endif()
    if(CULVERT_FUZZ)
        list(APPEND sanitize -fsanitize=fuzzer-no-link)
    endif()
    target_compile_options(culvert_options INTERFACE -O1 ${sanitize})
    target_link_options(culvert_options INTERFACE ${sanitize})
    target_compile_definitions(culvert_options INTERFACE CULVERT_SANITIZED=1)
else()
    target_compile_options(culvert_options INTERFACE
        -fstack-protector-strong $<$<CONFIG:Release>:-U_FORTIFY_SOURCE>
        $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
    culvert_try_flag(-fstack-clash-protection)
    culvert_try_flag(-fcf-protection)
    target_link_options(culvert_options INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
    if(CULVERT_LTO AND CMAKE_BUILD_TYPE STREQUAL "Release")
        check_ipo_supported(RESULT lto_works OUTPUT lto_why LANGUAGES C)
        if(lto_works)
            set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
        else()
            message(STATUS "Link-time optimisation does not work here, left off")
        endif()
    endif()
endif()
