/* value: see value.h. */
#include "core/base/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/base.h"

#define CPU_LIMIT 1024u
#define WORD_MAX  32u

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    { "ms", NSEC_PER_MSEC },
    { "s", NSEC_PER_SEC },
    { "m", 60 * NSEC_PER_SEC },
    { "h", 3600 * NSEC_PER_SEC },
};

static const struct unit sizes[] = {
    { "", 1 },    { "B", 1 },     { "K", KIB },        { "KiB", KIB },
    { "M", MIB }, { "MiB", MIB }, { "G", 1024 * MIB }, { "GiB", 1024 * MIB },
};

/* Reads digits; *text stands behind them afterwards. */
static bool value_take_number(const char **text, uint64_t *out)
{
    const char *start = *text;
    uint64_t value = 0;

    for (; **text >= '0' && **text <= '9'; (*text)++) {
        uint64_t digit = (uint64_t)(**text - '0');

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return *text != start;
}

bool value_parse_number(const char *text, uint64_t *out)
{
    uint64_t value;

    if (!value_take_number(&text, &value) || *text != '\0')
        return false;
    *out = value;
    return true;
}

static bool value_parse_unit(const char *text, const struct unit *units, size_t count,
                             uint64_t *out)
{
    uint64_t value;

    if (!value_take_number(&text, &value))
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(text, units[i].name) == 0) {
            if (__builtin_mul_overflow(value, units[i].factor, &value))
                return false;
            *out = value;
            return true;
        }
    return false;
}

bool value_parse_duration(const char *text, uint64_t *ns)
{
    if (strcmp(text, "0") == 0) {
        *ns = 0;
        return true;
    }
    return value_parse_unit(text, durations, ARRAY_SIZE(durations), ns);
}

bool value_parse_size(const char *text, uint64_t *bytes)
{
    return value_parse_unit(text, sizes, ARRAY_SIZE(sizes), bytes);
}

/* One "3" or "0-3"; *text stands behind it afterwards. */
static bool value_take_range(const char **text, uint64_t *first, uint64_t *last)
{
    if (!value_take_number(text, first))
        return false;
    *last = *first;
    if (**text == '-') {
        (*text)++;
        if (!value_take_number(text, last))
            return false;
    }
    return *first <= *last && *last < CPU_LIMIT;
}

static bool value_has_cpu(const int *cpus, unsigned count, int cpu)
{
    for (unsigned i = 0; i < count; i++)
        if (cpus[i] == cpu)
            return true;
    return false;
}

/* Without *out, only checks: that is how a wrong list leaves the caller's untouched. */
static bool value_read_cpus(const char *text, int *cpus, unsigned max, unsigned *count)
{
    uint64_t first, last;

    *count = 0;
    for (;;) {
        if (!value_take_range(&text, &first, &last))
            return false;
        for (uint64_t cpu = first; cpu <= last; cpu++) {
            if (*count == max || value_has_cpu(cpus, *count, (int)cpu))
                return false;
            cpus[(*count)++] = (int)cpu;
        }
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
}

bool value_parse_cpus(const char *text, int *cpus, unsigned max, unsigned *count)
{
    int found[CPU_LIMIT];
    unsigned found_count;

    if (!value_read_cpus(text, found, min_u32(max, CPU_LIMIT), &found_count))
        return false;
    memcpy(cpus, found, found_count * sizeof(*cpus));
    *count = found_count;
    return true;
}

#define HEX    "0123456789abcdefABCDEF"
#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

const char *value_pin_digest(const char *text)
{
    static const char *const prefixes[] = { "sha256://", "sha256//", "sha256:" };

    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (strncasecmp(text, prefixes[i], strlen(prefixes[i])) == 0)
            return text + strlen(prefixes[i]);
    return NULL;
}

bool value_is_pin(const char *text)
{
    text = value_pin_digest(text);
    if (text == NULL)
        return false;
    if (strlen(text) == 64)
        return strspn(text, HEX) == 64;
    return strlen(text) == 44 && strspn(text, BASE64) == 43 && text[43] == '=';
}

const char *value_format_duration(uint64_t ns, char text[VALUE_TEXT_MAX])
{
    const struct unit *unit = &durations[0];

    for (size_t i = 1; i < ARRAY_SIZE(durations); i++)
        if (ns >= durations[i].factor && ns % durations[i].factor == 0)
            unit = &durations[i];
    if (ns == 0)
        snprintf(text, VALUE_TEXT_MAX, "0");
    else
        snprintf(text, VALUE_TEXT_MAX, "%" PRIu64 "%s", ns / unit->factor, unit->name);
    return text;
}

const char *value_format_size(uint64_t bytes, char text[VALUE_TEXT_MAX])
{
    static const char *const names[] = { "", "KiB", "MiB", "GiB" };
    unsigned step = 0;

    while (step + 1 < ARRAY_SIZE(names) && bytes >= KIB && bytes % KIB == 0) {
        bytes /= KIB;
        step++;
    }
    snprintf(text, VALUE_TEXT_MAX, "%" PRIu64 "%s", bytes, names[step]);
    return text;
}

static unsigned value_min_unsigned(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* d[i][j]: distance of the first i characters of a and the first j of b. */
unsigned value_distance(const char *a, const char *b)
{
    unsigned d[WORD_MAX + 1][WORD_MAX + 1];
    size_t na = strnlen(a, WORD_MAX), nb = strnlen(b, WORD_MAX);

    for (unsigned i = 0; i <= na; i++)
        d[i][0] = i;
    for (unsigned j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            unsigned replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

            d[i][j] = value_min_unsigned(replace, value_min_unsigned(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = value_min_unsigned(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[na][nb];
}

bool value_is_near(unsigned distance, const char *word)
{
    return distance <= 1 + strlen(word) / 4;
}
