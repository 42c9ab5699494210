/* Native tasks: C functions that the server's threads run. The header is all
 * they need.
 *
 *     cc -shared -fPIC -Iworkers/sdk -o tasks.so examples/tasks.c
 *
 * Their arguments come as JSON text. These tasks have `params` in errand.yaml,
 * so the text is an object with every name in it, its types checked already,
 * and a few lines suffice to read its numbers. A task that takes more than
 * numbers will bring a JSON library. */
#include <errand_task.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

errand_task_fn noop, echo, add, sleep_task, primes, flaky, mandelbrot, fib, order, newton;

/* The number after "name": in an object that holds numbers only. */
static const char *find_number(struct errand_call *call, const char *name)
{
    char key[64];
    snprintf(key, sizeof(key), "\"%s\"", name);
    const char *at = strstr(errand_args(call, NULL), key);
    if (!at)
        return "0";
    at += strlen(key);
    return at + strspn(at, ": \t\r\n");
}

static double number(struct errand_call *call, const char *name)
{
    return strtod(find_number(call, name), NULL);
}

static long long integer(struct errand_call *call, const char *name)
{
    return strtoll(find_number(call, name), NULL, 10);
}

static void give(struct errand_call *call, const char *json)
{
    errand_result(call, json, strlen(json));
}

void noop(struct errand_call *call)
{
    (void)call;
}

void echo(struct errand_call *call)
{
    size_t length;
    const char *args = errand_args(call, &length);
    errand_result(call, args, length);
}

void add(struct errand_call *call)
{
    long long sum;
    errno = 0; /* an integer may have any number of digits */
    if (__builtin_add_overflow(integer(call, "x"), integer(call, "y"), &sum) || errno == ERANGE) {
        errand_fail_for_good(call, "overflow", "the numbers or their sum do not fit into 64 bits");
        return;
    }
    char text[32];
    snprintf(text, sizeof(text), "%lld", sum);
    give(call, text);
}

/* One step towards the square root of `of`. As a loop (next: output) its result is its next
 * arguments, until it says stop. */
void newton(struct errand_call *call)
{
    double of = number(call, "of"), guess = number(call, "guess");
    double next = (guess + of / guess) / 2;
    if (!isfinite(next)) {
        errand_fail_for_good(call, "diverged", "the guess must not be zero");
        return;
    }
    char text[128];
    bool close = fabs(next - guess) <= 1e-15 * fabs(next);
    snprintf(text, sizeof(text), "{\"of\":%.17g,\"guess\":%.17g%s}", of, next, close ? ",\"stop\":true" : "");
    give(call, text);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* False if it is to stop. */
static bool doze(struct errand_call *call)
{
    const double step = 0.01;
    double until = now() + number(call, "seconds");
    for (double left; (left = until - now()) > 0;) {
        if (errand_cancelled(call))
            return false;
        nanosleep(&(struct timespec){0, (long)((left < step ? left : step) * 1e9)}, NULL);
    }
    return true;
}

void sleep_task(struct errand_call *call)
{
    if (doze(call))
        give(call, "\"awake\""); /* else without a result: it counts as cancelled, or as a timeout */
}

/* Fails until the third attempt. */
void flaky(struct errand_call *call)
{
    errand_log(call, "attempt %d of %s\n", errand_attempt(call), errand_id(call));
    if (errand_attempt(call) < 3)
        errand_fail(call, "unlucky", "this succeeds at the third attempt");
    else
        give(call, "\"third time lucky\"");
}

/* --- primes: a sieve in segments, so that its memory does not grow with n ----- */

enum { SEGMENT = 1 << 16, LARGEST_ROOT = 100000 };

static int small_primes(int32_t *primes_found, int32_t up_to)
{
    static const int32_t first = 2;
    char *composite = calloc((size_t)up_to + 1, 1);
    int count = 0;
    for (int32_t p = first; composite && p <= up_to; p++) {
        if (composite[p])
            continue;
        primes_found[count++] = p;
        for (int64_t m = (int64_t)p * p; m <= up_to; m += p)
            composite[m] = 1;
    }
    free(composite);
    return count;
}

static int count_segment(int64_t low, int64_t high, const int32_t *small, int small_count)
{
    char composite[SEGMENT] = {0};
    int count = 0;
    for (int i = 0; i < small_count; i++) {
        int64_t p = small[i], m = (low + p - 1) / p * p;
        for (m = m < p * p ? p * p : m; m <= high; m += p)
            composite[m - low] = 1;
    }
    for (int64_t m = low; m <= high; m++)
        count += !composite[m - low];
    return count;
}

void primes(struct errand_call *call)
{
    int64_t n = integer(call, "n"), count = 0;
    if (n > (int64_t)LARGEST_ROOT * LARGEST_ROOT) {
        errand_fail_for_good(call, "too_large", "n is at most 10^10");
        return;
    }
    int32_t *small = malloc(LARGEST_ROOT * sizeof(*small));
    if (!small) {
        errand_fail(call, "no_memory", "there is no memory for the sieve");
        return;
    }
    int32_t root = 1;
    while ((int64_t)root * root < n)
        root++;
    int small_count = small_primes(small, root);
    int percent = 0;
    bool cancelled = false;
    for (int64_t low = 2; low <= n && !(cancelled = errand_cancelled(call)); low += SEGMENT) {
        int64_t high = low + SEGMENT - 1 < n ? low + SEGMENT - 1 : n;
        count += count_segment(low, high, small, small_count);
        if (high * 100 / n > percent) {
            char note[64];
            percent = (int)(high * 100 / n);
            snprintf(note, sizeof(note), "%" PRId64 " primes up to %" PRId64, count, high);
            errand_progress(call, percent / 100.0, note);
        }
    }
    free(small);
    if (cancelled)
        return;
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, count);
    give(call, text);
}

/* --- mandelbrot: one tile, a byte a pixel, in base64 ------------------------------ */

enum { SIDE_MAX = 16384, TILE_PIXELS_MAX = 1 << 20 };

struct tile {
    long long width, height, left, top, tile_width, tile_height, max_iterations;
    double centre_x, centre_y, span;
};

static bool read_tile(struct errand_call *call, struct tile *tile)
{
    *tile = (struct tile){
        .width = integer(call, "width"),
        .height = integer(call, "height"),
        .left = integer(call, "left"),
        .top = integer(call, "top"),
        .tile_width = integer(call, "tile_width"),
        .tile_height = integer(call, "tile_height"),
        .max_iterations = integer(call, "max_iterations"),
        .centre_x = number(call, "centre_x"),
        .centre_y = number(call, "centre_y"),
        .span = number(call, "span"),
    };
    return tile->width > 0 && tile->width <= SIDE_MAX && tile->height > 0 && tile->height <= SIDE_MAX &&
           tile->tile_width > 0 && tile->tile_width <= SIDE_MAX && tile->tile_height > 0 &&
           tile->tile_height <= SIDE_MAX && tile->tile_width * tile->tile_height <= TILE_PIXELS_MAX &&
           tile->left >= 0 && tile->left <= SIDE_MAX && tile->top >= 0 && tile->top <= SIDE_MAX &&
           tile->max_iterations > 0 && tile->max_iterations <= 1000000 && isfinite(tile->centre_x) &&
           isfinite(tile->centre_y) && isfinite(tile->span) && tile->span > 0;
}

/* log2() for x > 0, so that this module needs no library: the exponent, and
 * atanh's series for the rest. */
static double logarithm(double x)
{
    int exponent;
    double m = frexp(x, &exponent), t = (m - 1) / (m + 1), tt = t * t, sum = 0;
    for (int i = 19; i > 0; i -= 2)
        sum = sum * tt + 1.0 / i;
    return exponent + 2 * t * sum / 0.6931471805599453;
}

/* How fast the point leaves, as a colour of 1 to 255 on a circle; 0 if it
 * stays. Smooth between whole numbers of iterations; once around is a factor of
 * 16 in time. */
static unsigned char shade(double cx, double cy, long long max_iterations)
{
    double x = 0, y = 0, xx = 0, yy = 0;
    long long i = 0;
    for (; i < max_iterations && xx + yy < 256; i++) {
        y = 2 * x * y + cy;
        x = xx - yy + cx;
        xx = x * x;
        yy = y * y;
    }
    if (i == max_iterations)
        return 0;
    double smooth = (double)i + 4 - logarithm(logarithm(xx + yy));
    return (unsigned char)(1 + (int)(logarithm(smooth) * 255 / 4) % 255);
}

static size_t base64(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *p = out;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16;
        if (i + 1 < n)
            v |= (unsigned)bytes[i + 1] << 8;
        if (i + 2 < n)
            v |= bytes[i + 2];
        *p++ = digits[v >> 18];
        *p++ = digits[v >> 12 & 63];
        *p++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *p++ = i + 2 < n ? digits[v & 63] : '=';
    }
    return (size_t)(p - out);
}

/* False if it was cancelled. */
static bool render(struct errand_call *call, const struct tile *tile, unsigned char *pixels)
{
    double scale = tile->span / (double)tile->width;
    for (long long row = 0; row < tile->tile_height; row++) {
        if (errand_cancelled(call))
            return false;
        double cy = tile->centre_y - ((double)(tile->top + row) - (double)tile->height / 2) * scale;
        for (long long column = 0; column < tile->tile_width; column++) {
            double cx = tile->centre_x + ((double)(tile->left + column) - (double)tile->width / 2) * scale;
            *pixels++ = shade(cx, cy, tile->max_iterations);
        }
    }
    return true;
}

void mandelbrot(struct errand_call *call)
{
    struct tile tile;
    if (!read_tile(call, &tile)) {
        errand_fail_for_good(call, "bad_tile",
                             "a side is 1 to 16384 pixels, a tile at most 2^20 pixels, the span "
                             "positive, max_iterations 1 to 1000000");
        return;
    }
    size_t n = (size_t)(tile.tile_width * tile.tile_height);
    unsigned char *pixels = malloc(n);
    char *json = malloc(n / 3 * 4 + 256);
    if (!pixels || !json) {
        errand_fail(call, "no_memory", "there is no memory for the tile");
    } else if (render(call, &tile, pixels)) {
        int head = sprintf(json, "{\"left\":%lld,\"top\":%lld,\"width\":%lld,\"height\":%lld,\"pixels\":\"",
                           tile.left, tile.top, tile.tile_width, tile.tile_height);
        size_t length = (size_t)head + base64(pixels, n, json + head);
        json[length++] = '"';
        json[length++] = '}';
        errand_result(call, json, length);
    }
    free(pixels);
    free(json);
}

/* --- fib: each call an invocation of its own ------------------------------------ */

/* Submits both calls, waits for them without a slot, and adds their results. As
 * steps they are found again if this one runs a second time. */
void fib(struct errand_call *call)
{
    int64_t n, sum = 0;
    char ids[2][ERRAND_ID_BYTES], text[96];
    const char *waited[2] = {ids[0], ids[1]}, *status, *value;
    if (errand_arg_int64(call, "n", &n) != 0 || n < 0 || n > 30) {
        errand_fail_for_good(call, "invalid_args", "n is a whole number from 0 to 30");
        return;
    }
    for (int i = 0; i < 2 && n > 1; i++) {
        int length = sprintf(text, "{\"task\":\"fib\",\"args\":{\"n\":%d},\"step\":\"%s\"}", (int)n - 1 - i,
                             i ? "right" : "left");
        if (errand_submit(call, text, (size_t)length, ids[i]) != 0) {
            errand_fail(call, "not_submitted", errand_why(call));
            return;
        }
    }
    if (n > 1 && errand_wait(call, waited, 2, 0, -1) != 0) {
        if (!errand_cancelled(call))
            errand_fail(call, "not_waited", errand_why(call));
        return;
    }
    for (int i = 0; i < 2 && n > 1; i++) {
        if (errand_look(call, ids[i], &status, &value, NULL) != 0 || strcmp(status, "succeeded") != 0) {
            errand_fail(call, "child_failed", ids[i]);
            return;
        }
        sum += atoll(value);
    }
    int length = sprintf(text, "%lld", (long long)(n > 1 ? sum : n));
    errand_result(call, text, (size_t)length);
}

/* --- order: steps that are done once, whatever happens between them ------------- */

/* A step that was recorded is not done again, however often the body runs: after a
 * crash it goes over what is done, and on from there. */
void order(struct errand_call *call)
{
    static const char *const steps[] = {"charge", "pack", "ship"};
    for (int i = 0; i < 3; i++) {
        const char *receipt;
        char text[64];
        int found = errand_step_get(call, steps[i], &receipt, NULL);
        if (found == ERRAND_NONE) {
            errand_log(call, "attempt %d: %s\n", errand_attempt(call), steps[i]);
            if (!doze(call)) /* the work */
                return;
            int length = sprintf(text, "\"%s %lld\"", steps[i], integer(call, "number"));
            found = errand_step(call, steps[i], text, (size_t)length, &receipt, NULL);
        }
        if (found == ERRAND_REFUSED) {
            errand_fail(call, "not_recorded", errand_why(call));
            return;
        }
        errand_progress(call, (i + 1) / 3.0, receipt);
    }
    give(call, "\"shipped\"");
}
