/* Addresses as text: what is written, what is read, and what a wrong endpoint is told. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "core/io/addr.h"
#include "core/base/base.h"

static const struct {
    const char *host;
    uint16_t port;
    const char *text;
} formatted[] = {
    { "192.0.2.1", 80, "192.0.2.1:80" },
    { "0.0.0.0", 0, "0.0.0.0:0" },
    { "2001:db8::1", 443, "[2001:db8::1]:443" },
    { "::1", 65535, "[::1]:65535" },
    { "::ffff:192.0.2.7", 8080, "192.0.2.7:8080" },
    { "fe80::1%1", 22, "[fe80::1%lo]:22" },
    { "fe80::1%lo", 22, "[fe80::1%lo]:22" },
    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%999999999", 65535,
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%999999999]:65535" },
};

START_TEST(an_address_is_written)
{
    char text[ADDR_TEXT_MAX];
    union sock_addr addr;

    ck_assert(addr_from_host(formatted[_i].host, formatted[_i].port, &addr));
    ck_assert_str_eq(addr_format(&addr.sa, text, sizeof(text)), formatted[_i].text);
}
END_TEST

START_TEST(a_host_is_written_without_port)
{
    char text[ADDR_TEXT_MAX];
    union sock_addr addr;

    ck_assert(addr_from_host("::1", 80, &addr));
    ck_assert_str_eq(addr_format_host(&addr.sa, text, sizeof(text)), "::1");
    ck_assert(addr_from_host("::ffff:10.0.0.1", 80, &addr));
    ck_assert_str_eq(addr_format_host(&addr.sa, text, sizeof(text)), "10.0.0.1");
}
END_TEST

START_TEST(another_family_is_unknown)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct frame_addr frame = { .family = 4 };
    char text[ADDR_TEXT_MAX];

    ck_assert_str_eq(addr_format((struct sockaddr *)&un, text, sizeof(text)), "unknown");
    addr_to_frame((struct sockaddr *)&un, &frame);
    ck_assert_uint_eq(frame.family, 0);
}
END_TEST

START_TEST(a_short_buffer_is_never_overrun)
{
    char text[8] = "xxxxxxx";
    union sock_addr addr;

    ck_assert(addr_from_host("192.0.2.111", 12345, &addr));
    addr_format(&addr.sa, text, 5);
    ck_assert_str_eq(text, "192.");
    ck_assert_mem_eq(text + 5, "xx", 3);
}
END_TEST

static const char *const not_numeric[] = {
    "",
    "localhost",
    "127.1",
    "192.0.2.256",
    "1.2.3.4 ",
    "0x7f000001",
    "[::1]",
    "::g",
    "1:2:3:4:5:6:7",
    "fe80::1%",
    "fe80::1%no-such-0",
    "1.2.3.4:80",
    "::1%%1",
    "fe80::1%0",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
};

START_TEST(a_name_is_not_numeric)
{
    union sock_addr addr = { .bytes = { 1, 2, 3 } }, before = addr;

    ck_assert(!addr_from_host(not_numeric[_i], 80, &addr));
    ck_assert_mem_eq(&addr, &before, sizeof(addr));
}
END_TEST

static const struct {
    const char *text;
    enum addr_use use;
    const char *host;
    uint16_t port;
} endpoints[] = {
    { "localhost:3000", ADDR_ORIGIN, "localhost", 3000 },
    { "example.com:9000", ADDR_SERVER, "example.com", 9000 },
    { "192.0.2.1:1", ADDR_SERVER, "192.0.2.1", 1 },
    { "[::1]:65535", ADDR_SERVER, "::1", 65535 },
    { "[fe80::1%1]:22", ADDR_ORIGIN, "fe80::1%1", 22 },
    { ":9000", ADDR_LISTEN, "", 9000 },
    { "9000", ADDR_LISTEN, "", 9000 },
    { ":0", ADDR_LISTEN, "", 0 },
    { "[::]:9000", ADDR_LISTEN, "::", 9000 },
    { "3000", ADDR_ORIGIN, "127.0.0.1", 3000 },
    { ":3000", ADDR_ORIGIN, "127.0.0.1", 3000 },
    { "example.com", ADDR_SERVER, "example.com", 9000 },
    { "192.0.2.1", ADDR_SERVER, "192.0.2.1", 9000 },
    { "[::1]", ADDR_SERVER, "::1", 9000 },
    { "127.1:80", ADDR_ORIGIN, "127.1", 80 }, /* an old form is the resolver's */
    { "[fe80::1%no-such-0]:80", ADDR_SERVER, "fe80::1%no-such-0", 80 }, /* it may come */
    { "[fe80::1%no-such-0]:80", ADDR_ORIGIN, "fe80::1%no-such-0", 80 },
    { "[fe80::1%no-such-0]:80", ADDR_LISTEN, "fe80::1%no-such-0", 80 },
    { "b\303\274cher.example:80", ADDR_ORIGIN, "b\303\274cher.example", 80 },
    { "my_box-2.lan:080", ADDR_ORIGIN, "my_box-2.lan", 80 },
};

START_TEST(an_endpoint_is_read)
{
    struct config_endpoint endpoint;
    char error[ADDR_ERROR_MAX] = "";

    ck_assert_msg(addr_parse_endpoint(endpoints[_i].text, endpoints[_i].use, &endpoint, error),
                  "%s: %s", endpoints[_i].text, error);
    ck_assert_str_eq(endpoint.host, endpoints[_i].host);
    ck_assert_uint_eq(endpoint.port, endpoints[_i].port);
}
END_TEST

static const struct {
    const char *text;
    enum addr_use use;
    const char *says; /* must stand in the error: the cure */
} wrong_endpoints[] = {
    { "", ADDR_ORIGIN, "localhost:3000" },
    { "", ADDR_SERVER, "example.com:9000" },
    { "localhost", ADDR_ORIGIN, "has no port; write it like localhost:3000" },
    { "9000", ADDR_SERVER, "has no host; write it like example.com:9000" },
    { ":7000", ADDR_SERVER, "has no host; write it like example.com:7000" },
    { "::1:9000", ADDR_SERVER, "in brackets, like [::1]:9000" },
    { "[::1]", ADDR_ORIGIN, "has no port; write it like [::1]:3000" },
    { "[::1]", ADDR_LISTEN, "has no port; write it like [::1]:9000" },
    { "[fe80::1%]:80", ADDR_SERVER, "is not an IPv6 address" },
    { "[fe80::1%a/b]:80", ADDR_SERVER, "is not an IPv6 address" },
    { "[fe80::1%1234567890123456]:80", ADDR_SERVER, "is not an IPv6 address" },
    { "[fe80::1]:9000", ADDR_SERVER, "needs its interface, like [fe80::1%eth0]:9000" },
    { "[febf::1]", ADDR_SERVER, "needs its interface, like [febf::1%eth0]:9000" },
    { "[fe80::1]:7000", ADDR_LISTEN, "needs its interface, like [fe80::1%eth0]:9000" },
    { "[fe80::2]:80", ADDR_ORIGIN, "needs its interface, like [fe80::2%eth0]:3000" },
    { "3000:10080", ADDR_ORIGIN, "like --local 3000 --port 10080" },
    { "127.0.0.1:3000:10080", ADDR_ORIGIN, "like --local 127.0.0.1:3000 --port 10080" },
    { "10080:localhost:3000", ADDR_ORIGIN, "like --local localhost:3000 --port 10080" },
    { "3000:10080", ADDR_SERVER, "has two ports; write a host and one port" },
    { "3000:10080", ADDR_LISTEN, "has two ports; write a host and one port" },
    { "256.0.0.1:80", ADDR_SERVER, "is not an IPv4 address" },
    { "1.2.3.4.5", ADDR_SERVER, "is not an IPv4 address" },
    { "a..b:80", ADDR_SERVER, "is not a host name" },
    { "-a:80", ADDR_SERVER, "is not a host name" },
    { "[::1:9000", ADDR_SERVER, "no matching bracket" },
    { "[::1]9000", ADDR_SERVER, "no matching bracket" },
    { "[localhost]:9000", ADDR_SERVER, "is not an IPv6 address" },
    { "[127.0.0.1]:9000", ADDR_SERVER, "is not an IPv6 address" },
    { "[]:9000", ADDR_LISTEN, "is not an IPv6 address" },
    { "http://localhost:3000", ADDR_ORIGIN,
      "is a URL; write host and port only, like localhost:3000" },
    { "http://localhost/a:1", ADDR_ORIGIN, "host and port only, like localhost:80" },
    { "https://[::1]:3000/", ADDR_ORIGIN, "host and port only, like [::1]:3000" },
    { "https://a.example", ADDR_ORIGIN, "host and port only, like a.example:443" },
    { "https://a.example", ADDR_SERVER, "host and port only, like a.example:9000" },
    { "tcp://", ADDR_SERVER, "host and port only" },
    { "localhost:65536", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:0", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:-1", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:+80", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:80 ", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:", ADDR_ORIGIN, "from 1 to 65535" },
    { "localhost:http", ADDR_ORIGIN, "'http' is not a port" },
    { "000080", ADDR_ORIGIN, "from 1 to 65535" },
    { "99999999999999999999:80", ADDR_LISTEN, "has two ports" },
    { "a b:80", ADDR_ORIGIN, "characters that no host name has" },
    { "user@host:80", ADDR_ORIGIN, "characters that no host name has" },
    { "host/x:80", ADDR_ORIGIN, "characters that no host name has" },
};

START_TEST(a_wrong_endpoint_is_told_the_cure)
{
    struct config_endpoint endpoint = { .host = "untouched", .port = 7 };
    char error[ADDR_ERROR_MAX] = "";
    const char *says = wrong_endpoints[_i].says;
    bool ok =
        addr_parse_endpoint(wrong_endpoints[_i].text, wrong_endpoints[_i].use, &endpoint, error);

    ck_assert_msg(!ok, "'%s' was accepted", wrong_endpoints[_i].text);
    ck_assert_msg(strstr(error, says) != NULL, "'%s' is not in: %s", says, error);
    ck_assert_str_eq(endpoint.host, "untouched");
    ck_assert_uint_eq(endpoint.port, 7);
}
END_TEST

START_TEST(the_longest_host_fits_and_one_more_does_not)
{
    struct config_endpoint endpoint;
    char text[300], error[ADDR_ERROR_MAX];

    memset(text, 'a', sizeof(text));
    memcpy(text + 255, ":80", 4);
    ck_assert(addr_parse_endpoint(text, ADDR_SERVER, &endpoint, error));
    ck_assert_uint_eq(strlen(endpoint.host), 255);
    memset(text, 'a', sizeof(text));
    memcpy(text + 256, ":80", 4);
    ck_assert(!addr_parse_endpoint(text, ADDR_SERVER, &endpoint, error));
    ck_assert_ptr_nonnull(strstr(error, "too long"));
    text[0] = '[';
    memcpy(text + 280, "]:80", 5);
    ck_assert(!addr_parse_endpoint(text, ADDR_SERVER, &endpoint, error));
}
END_TEST

START_TEST(an_endpoint_written_is_read_back)
{
    struct config_endpoint endpoint, again;
    char error[ADDR_ERROR_MAX], text[ADDR_ENDPOINT_TEXT_MAX];

    ck_assert(addr_parse_endpoint(endpoints[_i].text, endpoints[_i].use, &endpoint, error));
    addr_format_endpoint(&endpoint, text, sizeof(text));
    ck_assert(addr_parse_endpoint(text, endpoints[_i].use, &again, error));
    ck_assert_str_eq(again.host, endpoint.host);
    ck_assert_uint_eq(again.port, endpoint.port);
}
END_TEST

/* A zone whose interface is not there is of right form, and no address yet. */
START_TEST(a_zone_may_be_missing)
{
    char text[64];

    ck_assert_str_eq(addr_missing_zone("fe80::1%no-such-0"), "no-such-0");
    ck_assert_str_eq(addr_missing_zone("fe80::1%0"), "0");
    ck_assert_ptr_null(addr_missing_zone("fe80::1%lo"));
    ck_assert_ptr_null(addr_missing_zone("fe80::1"));
    ck_assert_ptr_null(addr_missing_zone("no-such-0"));
    ck_assert(addr_is_numeric("fe80::1%no-such-0") && addr_is_numeric("192.0.2.1"));
    ck_assert(!addr_is_numeric("localhost") && !addr_is_numeric("127.1"));
    ck_assert(!addr_host_is_loopback("fe80::1%no-such-0"));
    ck_assert_str_eq(addr_drop_zone("fe80::1%no-such-0", text, sizeof(text)), "fe80::1");
    ck_assert_str_eq(addr_drop_zone("fe80::1", text, sizeof(text)), "fe80::1");
    ck_assert_str_eq(addr_drop_zone("a%b", text, sizeof(text)), "a%b");
    ck_assert_str_eq(addr_drop_zone("", text, sizeof(text)), "");
}
END_TEST

START_TEST(equal_means_address_zone_port_and_family)
{
    union sock_addr a, b;

    ck_assert(addr_from_host("192.0.2.1", 80, &a) && addr_from_host("192.0.2.1", 80, &b));
    ck_assert(addr_equal(&a, &b));
    ck_assert(addr_from_host("192.0.2.1", 81, &b));
    ck_assert(!addr_equal(&a, &b));
    ck_assert(addr_from_host("192.0.2.2", 80, &b));
    ck_assert(!addr_equal(&a, &b));
    ck_assert(addr_from_host("::ffff:192.0.2.1", 80, &b));
    ck_assert(!addr_equal(&a, &b)); /* another socket family: not interchangeable */
    ck_assert(addr_from_host("fe80::1%1", 80, &a) && addr_from_host("fe80::1%2", 80, &b));
    ck_assert(!addr_equal(&a, &b));
}
END_TEST

START_TEST(an_address_crosses_the_wire)
{
    union sock_addr v4, v6, mapped, back;
    struct frame_addr frame;

    ck_assert(addr_from_host("192.0.2.1", 80, &v4));
    ck_assert(addr_from_host("2001:db8::1", 81, &v6));
    ck_assert(addr_from_host("::ffff:192.0.2.1", 80, &mapped));
    addr_to_frame(&v4.sa, &frame);
    ck_assert_uint_eq(frame.family, 4);
    ck_assert(addr_from_frame(&frame, &back) && addr_equal(&v4, &back));
    addr_to_frame(&v6.sa, &frame);
    ck_assert_uint_eq(frame.family, 6);
    ck_assert(addr_from_frame(&frame, &back) && addr_equal(&v6, &back));
    addr_to_frame(&mapped.sa, &frame);
    ck_assert_uint_eq(frame.family, 4);
    ck_assert(addr_from_frame(&frame, &back) && addr_equal(&v4, &back));
    frame.family = 5;
    ck_assert(!addr_from_frame(&frame, &back));
    frame.family = 0;
    ck_assert(!addr_from_frame(&frame, &back));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("addr");
    TCase *tcase = tcase_create("addr");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_loop_test(tcase, an_address_is_written, 0, ARRAY_SIZE(formatted));
    tcase_add_test(tcase, a_host_is_written_without_port);
    tcase_add_test(tcase, another_family_is_unknown);
    tcase_add_test(tcase, a_short_buffer_is_never_overrun);
    tcase_add_loop_test(tcase, a_name_is_not_numeric, 0, ARRAY_SIZE(not_numeric));
    tcase_add_loop_test(tcase, an_endpoint_is_read, 0, ARRAY_SIZE(endpoints));
    tcase_add_loop_test(tcase, a_wrong_endpoint_is_told_the_cure, 0, ARRAY_SIZE(wrong_endpoints));
    tcase_add_test(tcase, the_longest_host_fits_and_one_more_does_not);
    tcase_add_loop_test(tcase, an_endpoint_written_is_read_back, 0, ARRAY_SIZE(endpoints));
    tcase_add_test(tcase, a_zone_may_be_missing);
    tcase_add_test(tcase, equal_means_address_zone_port_and_family);
    tcase_add_test(tcase, an_address_crosses_the_wire);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
