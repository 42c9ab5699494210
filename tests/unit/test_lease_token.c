#include "workers/lease_token.h"

#include "base/id.h"

#include <criterion/criterion.h>

Test(lease_token, it_comes_back_as_it_was)
{
    static const int64_t leases[] = {1, -1, INT64_MAX, INT64_MIN, INT64_C(0x0123456789abcdef)};
    for (size_t i = 0; i < sizeof leases / sizeof *leases; i++) {
        struct turn turn = {.id = INT64_C(907199254740993001), .lease = leases[i]};
        struct buf text = {0};
        int64_t id = 0, lease = 0;
        lease_token_add(&text, &turn);
        cr_expect_eq(text.len, LEASE_TOKEN_LEN);
        cr_expect(lease_token_parse(buf_span(&text), &id, &lease), "%s", buf_cstr(&text));
        cr_expect_eq(id, turn.id);
        cr_expect_eq(lease, turn.lease);
        buf_release(&text);
    }
}

Test(lease_token, it_is_an_id_a_dash_and_sixteen_digits)
{
    struct turn turn = {.lease = 0xfe};
    struct buf text = {0};
    cr_assert(id_parse(SPAN("0BYZ2H9QW4G00"), &turn.id));
    lease_token_add(&text, &turn);
    cr_expect_str_eq(buf_cstr(&text), "0BYZ2H9QW4G00-00000000000000fe");
    buf_release(&text);
}

/* Two texts of one token would be two names of one turn. */
Test(lease_token, what_was_never_given_is_refused)
{
    static const char *const rows[] = {
        "",
        "-",
        "0BYZ2H9QW4G00",
        "0BYZ2H9QW4G00-",
        "0BYZ2H9QW4G00-00000000000000f",
        "0BYZ2H9QW4G00-00000000000000fe0",
        "0BYZ2H9QW4G0000000000000000000",
        "0BYZ2H9QW4G00_00000000000000fe",
        "0BYZ2H9QW4G00-00000000000000FE" /* upper case */,
        "0BYZ2H9QW4G00-00000000000000fg",
        "0BYZ2H9QW4G00-0000000000000000" /* no lease is 0 */,
        "0byz2h9qw4g00-00000000000000fe" /* lower case */,
        "OBYZ2H9QW4G00-00000000000000fe" /* an O for the 0 */,
        "UBYZ2H9QW4G00-00000000000000fe" /* no id */,
        "0BYZ2H9QW4G00- 000000000000001",
        "0BYZ2H9QW4G00-0x00000000000001",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id, lease;
        cr_expect_not(lease_token_parse(span_of(rows[i]), &id, &lease), "%s", rows[i]);
    }
    int64_t id, lease;
    cr_expect_not(lease_token_parse((struct span){NULL, 0}, &id, &lease));
    cr_expect_not(lease_token_parse((struct span){"0BYZ2H9QW4G00-\0"
                                                  "00000000000001",
                                                  30},
                                    &id, &lease));
}
