#include "base/digest.h"
#include <criterion/criterion.h>

Test(digest, sha256_agrees_with_the_standard)
{
    static const struct row {
        const char *text, *hex;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t hash[SHA256_BYTES], read[SHA256_BYTES];
        struct buf hex = {0};
        sha256(span_of(rows[i].text), hash);
        hex_add(&hex, hash, sizeof hash);
        cr_expect_str_eq(buf_cstr(&hex), rows[i].hex);
        cr_expect(hex_parse(buf_span(&hex), read, sizeof read));
        cr_expect(equal_constant_time(hash, read, sizeof hash));
        buf_release(&hex);
    }
}

Test(digest, hex_is_read_in_either_case_and_exact_length)
{
    static const struct row {
        const char *text;
        bool ok;
    } rows[] = {
        {"00fF", true},  {"ABcd", true},   {"", false},
        {"abc", false},  {"abcde", false}, {"abcg", false},
        {"ab c", false}, {"0x12", false},  {"\x10\x11\x12\x13", false},
        {"@ABC", false}, {"abc ", false},  {" abc", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t bytes[2];
        cr_expect_eq(hex_parse(span_of(rows[i].text), bytes, 2), rows[i].ok, "%s", rows[i].text);
    }
    uint8_t bytes[2];
    cr_expect(hex_parse(SPAN("A0ff"), bytes, 2));
    cr_expect_eq(bytes[0], 0xA0);
    cr_expect_eq(bytes[1], 0xFF);
}

Test(digest, base64_is_read_as_it_is_written_and_no_other)
{
    static const char *const others[] = {"",    "_",   "_-", "_-8=", "/-8", "_+8", "_-9" /* spare bits */,
                                         "_ 8", "_-88"};
    static const uint8_t written[] = {0xFF, 0xEF};
    uint8_t read[2] = {0};
    struct buf text = {0};
    buf_addl(&text, "=");
    base64url_add(&text, written, 2);
    cr_expect_str_eq(buf_cstr(&text), "=_-8");
    cr_expect(base64url_parse(SPAN("_-8"), read, 2));
    cr_expect_arr_eq(read, written, 2);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_not(base64url_parse(span_of(others[i]), read, 2), "%s", others[i]);
    buf_release(&text);
}

Test(digest, random_bytes_fill_everything_and_differ)
{
    uint8_t a[1000] = {0}, b[1000] = {0};
    random_bytes(a, sizeof a);
    random_bytes(b, sizeof b);
    cr_expect_not(equal_constant_time(a, b, sizeof a));
    int zeros = 0;
    for (size_t i = sizeof a - 100; i < sizeof a; i++)
        zeros += a[i] == 0;
    cr_expect(zeros < 50);
    random_bytes(a, 0);
}

Test(digest, constant_time_comparison_sees_every_byte)
{
    uint8_t a[64] = {0}, b[64] = {0};
    cr_expect(equal_constant_time(a, b, sizeof a));
    cr_expect(equal_constant_time(a, b, 0));
    for (size_t i = 0; i < sizeof b; i++) {
        b[i] = 0x80;
        cr_expect_not(equal_constant_time(a, b, sizeof a), "byte %zu", i);
        b[i] = 0;
    }
}

Test(digest, hmac_agrees_with_the_standard)
{
    static const struct {
        const char *key, *data, *digest;
    } rows[] = {
        /* RFC 4231, 4.3 */
        {"Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {"key", "The quick brown fox jumps over the lazy dog",
         "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t digest[SHA256_BYTES];
        struct buf hex = {0};
        struct span data = span_of(rows[i].data);
        struct span pieces[] = {{data.p, 5}, {data.p + 5, 0}, {data.p + 5, data.len - 5}};
        hmac_sha256(span_of(rows[i].key), pieces, 3, digest);
        hex_add(&hex, digest, sizeof digest);
        cr_expect_str_eq(buf_cstr(&hex), rows[i].digest);
        buf_release(&hex);
    }
}

Test(digest, base64_with_padding_comes_back_as_it_was)
{
    static const char *const rows[][2] = {
        {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff", "+/8="}};
    static const char *const others[] = {"Zg", "Zg=", "Z", "Zg==Zg==", "Zm9v!", "-_8="};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf text = {0}, bytes = {0};
        base64_add(&text, (const uint8_t *)rows[i][0], strlen(rows[i][0]));
        cr_expect_str_eq(buf_cstr(&text), rows[i][1]);
        cr_expect(base64_decode(buf_span(&text), &bytes));
        cr_expect_str_eq(buf_cstr(&bytes), rows[i][0]);
        buf_release(&text);
        buf_release(&bytes);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct buf bytes = {0};
        cr_expect_not(base64_decode(span_of(others[i]), &bytes), "%s", others[i]);
        cr_expect_eq(bytes.len, 0);
        buf_release(&bytes);
    }
}
