#include "store/status.h"

#include <criterion/criterion.h>

Test(status, names_and_numbers_belong_together)
{
    for (int k = 0; status_at(k); k++) {
        enum status parsed = 0;
        cr_expect(status_parse(span_of(status_name(status_at(k))), &parsed), "%s", status_name(status_at(k)));
        cr_expect_eq(parsed, status_at(k));
    }
    cr_expect_null(status_name((enum status)0));
}

Test(status, what_is_no_name_is_refused)
{
    static const char *const rows[] = {"", "Queued", "queued ", "final", "succeede"};
    enum status parsed;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_not(status_parse(span_of(rows[i]), &parsed), "%s", rows[i]);
}

Test(status, only_a_retry_leads_out_of_a_final_one)
{
    for (int i = 0; status_at(i); i++)
        for (int k = 0; status_at(k); k++) {
            enum status from = status_at(i), to = status_at(k);
            if (!status_is_final(from))
                continue;
            bool retry = from != STATUS_SUCCEEDED && (to == STATUS_QUEUED || to == STATUS_HELD);
            cr_expect_eq(status_may_become(from, to), retry, "%s to %s", status_name(from), status_name(to));
        }
}

Test(status, nothing_runs_that_was_not_queued)
{
    static const struct {
        enum status from, to;
        bool may;
    } rows[] = {
        {STATUS_SCHEDULED, STATUS_RUNNING, false},   {STATUS_QUEUED, STATUS_RUNNING, true},
        {STATUS_SCHEDULED, STATUS_SUCCEEDED, false}, {STATUS_QUEUED, STATUS_SUCCEEDED, true},
        {STATUS_RUNNING, STATUS_QUEUED, true},       {STATUS_RUNNING, STATUS_SCHEDULED, true},
        {STATUS_RUNNING, STATUS_RUNNING, false},     {STATUS_SCHEDULED, STATUS_FAILED, true},
        {STATUS_QUEUED, STATUS_WAITING, false},      {STATUS_RUNNING, STATUS_WAITING, true},
        {STATUS_WAITING, STATUS_RUNNING, true},      {STATUS_WAITING, STATUS_QUEUED, true},
        {(enum status)0, STATUS_QUEUED, false},      {STATUS_HELD, STATUS_QUEUED, true},
        {STATUS_HELD, STATUS_RUNNING, false},        {STATUS_QUEUED, STATUS_HELD, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(status_may_become(rows[i].from, rows[i].to), rows[i].may, "row %zu", i);
}

Test(status, the_final_ones_are_final)
{
    cr_expect(status_is_final(STATUS_SUCCEEDED) && status_is_final(STATUS_FAILED) &&
              status_is_final(STATUS_CANCELLED));
    cr_expect_not(status_is_final(STATUS_SCHEDULED) || status_is_final(STATUS_QUEUED) ||
                  status_is_final(STATUS_RUNNING));
}
