#include "server/address.h"

#include <criterion/criterion.h>

Test(address, lease_urls_begin_with_what_is_configured_or_where_it_listens)
{
    static const struct {
        char *url, *certificate;
        const char *listening, *wanted;
    } rows[] = {
        {NULL, NULL, "127.0.0.1:8080", "http://127.0.0.1:8080"},
        {NULL, NULL, "10.0.0.5:80", "http://10.0.0.5:80"},
        {NULL, NULL, "0.0.0.0:8080", "http://127.0.0.1:8080"},
        {NULL, NULL, "[::]:8080", "http://[::1]:8080"},
        {NULL, NULL, "[::1]:8080", "http://[::1]:8080"},
        {NULL, "/cert.pem", "0.0.0.0:443", "https://127.0.0.1:443"},
        {NULL, NULL, "unix:/run/errand.sock", ""},
        {"https://errand.example.org", NULL, "unix:/run/errand.sock", "https://errand.example.org"},
        {"http://errand:81/at", "/cert.pem", "127.0.0.1:8080", "http://errand:81/at"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config config = {.url = rows[i].url, .tls_certificate = rows[i].certificate};
        struct buf out = {0};
        address_add(&out, &config, rows[i].listening);
        cr_expect_str_eq(buf_cstr(&out), rows[i].wanted, "row %zu", i);
        buf_release(&out);
    }
}
