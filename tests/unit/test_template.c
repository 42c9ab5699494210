#include "workers/tasks/template.h"

#include <criterion/criterion.h>

Test(template, a_template_is_text_names_and_literal_braces)
{
    static const struct {
        const char *element, *pieces; /* T text, N name, B bad */
    } rows[] = {
        {"", ""},
        {"plain", "T(plain)"},
        {"{x}", "N(x)"},
        {"-o{x}.{_y9}", "T(-o)N(x)T(.)N(_y9)"},
        {"{{x}}", "T({)T(x)T(})"},
        {"{{{x}}}", "T({)N(x)T(})"},
        {"{{}}", "T({)T(})"},
        {"{}", "B({)B(})"},
        {"{9}", "B({)T(9)B(})"},
        {"{a b}", "B({)T(a b)B(})"},
        {"{x", "B({)T(x)"},
        {"x}", "T(x)B(})"},
        {"{", "B({)"},
        {"\303\244{x}\303\244", "T(\303\244)N(x)T(\303\244)"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf pieces = {0};
        const char *at = rows[i].element;
        struct span text;
        enum template_piece piece;
        while ((piece = template_next(&at, &text)) != TEMPLATE_END)
            buf_addf(&pieces, "%c(%.*s)",
                     piece == TEMPLATE_TEXT   ? 'T'
                     : piece == TEMPLATE_NAME ? 'N'
                                              : 'B',
                     (int)text.len, text.p);
        cr_expect_str_eq(buf_cstr(&pieces), rows[i].pieces);
        buf_release(&pieces);
    }
}
