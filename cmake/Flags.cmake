# Compiler and linker flags, all carried by the interface target culvert_options.
#
#   Release  -O2 -g, hardened, link-time optimisation where both the compiler and its linker can do
#            it.
#   Debug    -Og -g3 and CULVERT_DEBUG (extra checks, such as no allocation after start).
#   None     what the environment says, and nothing else: for packagers.
#   CULVERT_SANITIZE=LIST adds -fsanitize=LIST at -O1, every report fatal.
#
# NDEBUG is never defined: the project's own checks stay on.
#
# Whoever packages has the last word. CFLAGS and LDFLAGS of the environment are CMake's own
# business, CPPFLAGS is added here. CMAKE_C_FLAGS_<TYPE> is ours only while it is CMake's default.
# What hardens is left out when the flags that were given, or the compiler by itself, say something
# about the same thing.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckIPOSupported)
include(CheckPIESupported)
set(CMAKE_REQUIRED_QUIET ON)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)

# culvert_default_flags(<TYPE> <flags>): in place of CMake's default for this build type.
macro(culvert_default_flags type flags)
    string(STRIP "${CMAKE_C_FLAGS_${type}_INIT}" culvert_cmakes)
    if("${CMAKE_C_FLAGS_${type}}" STREQUAL "${culvert_cmakes}")
        set(CMAKE_C_FLAGS_${type} "${flags}")
    endif()
endmacro()
culvert_default_flags(RELEASE "-O2 -g")
culvert_default_flags(RELWITHDEBINFO "-O2 -g")
culvert_default_flags(MINSIZEREL "-Os -g")
culvert_default_flags(DEBUG "-Og -g3")

# Like CMAKE_C_FLAGS of CFLAGS: read when a build folder is new.
set(CULVERT_CPPFLAGS "$ENV{CPPFLAGS}" CACHE STRING "Flags of the preprocessor, from CPPFLAGS of the environment")
string(APPEND CMAKE_C_FLAGS " ${CULVERT_CPPFLAGS}")
string(STRIP "${CMAKE_C_FLAGS}" CMAKE_C_FLAGS)
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

# culvert_harden(<what> <flag>): adds the flag unless <what>, a regular expression, stands in the
# flags given.
string(TOUPPER "${CMAKE_BUILD_TYPE}" culvert_type)
set(culvert_given "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${culvert_type}}")
function(culvert_harden what flag)
    if(NOT culvert_given MATCHES "${what}")
        culvert_try_flag(${flag})
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
    culvert_harden(stack-protector -fstack-protector-strong)
    culvert_harden(stack-clash -fstack-clash-protection)
    culvert_harden(cf-protection -fcf-protection)
    # It needs optimisation. Some compilers define it by themselves, maybe to more than 2.
    set(CMAKE_REQUIRED_FLAGS "-O2")
    check_c_source_compiles("#ifdef _FORTIFY_SOURCE\n#error defined\n#endif\nint main(void) { return 0; }"
        CULVERT_UNFORTIFIED)
    unset(CMAKE_REQUIRED_FLAGS)
    if(CULVERT_UNFORTIFIED AND culvert_type STREQUAL "RELEASE")
        target_compile_definitions(culvert_options INTERFACE _FORTIFY_SOURCE=2)
    endif()
    target_link_options(culvert_options INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
    if(CULVERT_LTO AND CMAKE_BUILD_TYPE STREQUAL "Release")
        check_ipo_supported(RESULT lto_works OUTPUT lto_why LANGUAGES C)
        if(lto_works)
            set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
            # Both kinds of code in an object: the linker optimises the program and the benchmark's,
            # and takes for the many test programs what is compiled already.
            culvert_try_flag(-ffat-lto-objects)
        else()
            message(STATUS "Link-time optimisation does not work here, left off")
        endif()
    endif()
endif()
