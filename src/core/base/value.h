/*
 * value: texts of the command line into numbers, pure.
 *
 * All parsers take the whole text or nothing: no leading blanks, no sign, no trailing characters,
 * no overflow. False leaves the output untouched; the caller names the flag and the cure.
 */
#ifndef CULVERT_CORE_BASE_VALUE_H
#define CULVERT_CORE_BASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits. */
bool value_parse_number(const char *text, uint64_t *out);

/* A whole number with a unit, "250ms", "10s", "2m", "1h", to nanoseconds; "0" needs no unit. */
bool value_parse_duration(const char *text, uint64_t *ns);

/* Bytes: "65536", "64K", "64KiB", "16M", "1GiB"; units are powers of 1024, case does not matter. */
bool value_parse_size(const char *text, uint64_t *bytes);

/* "0-3,6": cores in the order given, ranges upward, no core twice, numbers below 1024
 * (CPU_SETSIZE). At most `max` of them. */
bool value_parse_cpus(const char *text, int *cpus, unsigned max, unsigned *count);

/* What stands behind the word that a key's pin begins with, in any case: "sha256:", "sha256//" (as
 * curl writes it) or both. NULL: it begins with none of them. */
const char *value_pin_digest(const char *text);

/* The form of a key's pin: that word and 64 hex digits or 44 characters of base64. tls_pin_parse()
 * reads it. */
bool value_is_pin(const char *text);

/* The longest of the next two, "18446744073709551615ms", and the NUL. */
#define VALUE_TEXT_MAX 32u

/* The shortest exact form that the parsers above read back. Both return `text`. */
const char *value_format_duration(uint64_t ns, char text[VALUE_TEXT_MAX]);
const char *value_format_size(uint64_t bytes, char text[VALUE_TEXT_MAX]);

/* Edit distance (insert, delete, replace, swap of neighbours: optimal string alignment), for "did
 * you mean". Words longer than 32 characters are compared by their first 32. */
unsigned value_distance(const char *a, const char *b);

/* True if `distance` is close enough for a word of this length that a suggestion helps. */
bool value_is_near(unsigned distance, const char *word);

#endif
