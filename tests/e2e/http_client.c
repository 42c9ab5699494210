/* A small HTTP/1.1 client over a plain socket: it sends what it is told, also
 * what no library would send. */
#include "tests/e2e/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORDED_MAX = 256 * 1024, LONGEST_WAIT_MS = 75000 };

/* ---- the record ---- */

static void add_text(cJSON *line, const char *name, const char *value)
{
    if (value)
        cJSON_AddStringToObject(line, name, value);
}

static void record(const char *method, const char *path, const char *headers, const char *body, size_t length,
                   struct reply *reply)
{
    const char *file = getenv("ERRAND_RECORD");
    if (!file || !*file || reply->length > RECORDED_MAX)
        return;
    cJSON *line = cJSON_CreateObject();
    add_text(line, "method", method);
    add_text(line, "path", path);
    cJSON_AddNumberToObject(line, "status", reply->status);
    add_text(line, "type", header(reply, "Content-Type"));
    cJSON_AddStringToObject(line, "body", reply->body);
    if (body && length <= RECORDED_MAX && memchr(body, 0, length) == NULL) {
        struct reply sent = {.head = format("x\r\n%s", headers ? headers : "")};
        add_text(line, "request_type", header(&sent, "Content-Type"));
        add_text(line, "request_body", strndup(body, length));
    }
    char *text = format("%s\n", cJSON_PrintUnformatted(line));
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "cannot write %s", file);
    close(fd);
    cJSON_Delete(line);
    free(text);
}

/* ---- the connection ---- */

struct client *client_open(struct server *server)
{
    struct client *client = calloc(1, sizeof(*client));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server->port)};
    inet_pton(AF_INET, server->host, &address.sin_addr);
    client->server = server;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(client->fd >= 0, "socket: %s", strerror(errno));
    REQUIRE(connect(client->fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect to port %d: %s",
            server->port, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return client;
}

void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->held);
    client->held = NULL;
    client->held_length = client->held_cap = 0;
}

bool client_hears(struct client *client, int milliseconds)
{
    struct pollfd p = {client->fd, POLLIN, 0};
    return client->held_length > 0 || poll(&p, 1, milliseconds) > 0;
}

/* A server that has refused a request may close before it has read it all: its
 * answer is still to be read then. */
void client_send(struct client *client, const char *bytes, size_t length)
{
    int64_t deadline = now_ms() + LONGEST_WAIT_MS;
    while (length > 0) {
        struct pollfd p = {client->fd, POLLOUT, 0};
        REQUIRE(now_ms() < deadline, "the server does not read");
        if (poll(&p, 1, 1000) <= 0)
            continue;
        ssize_t sent = send(client->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (sent < 0)
            return;
        bytes += sent;
        length -= (size_t)sent;
    }
}

void client_ask(struct client *client, const char *method, const char *path, const char *headers, const char *body,
                size_t length)
{
    char *head = NULL;
    size_t n;
    FILE *out = open_memstream(&head, &n);
    fprintf(out, "%s %s HTTP/1.1\r\n", method, path);
    if (!headers || !strcasestr(headers, "Host:"))
        fprintf(out, "Host: %s:%d\r\n", client->server->host, client->server->port);
    if (client->server->token && (!headers || !strcasestr(headers, "Authorization:")))
        fprintf(out, "Authorization: Bearer %s\r\n", client->server->token);
    if (headers)
        fputs(headers, out);
    if (body && (!headers || !strcasestr(headers, "Transfer-Encoding:")))
        fprintf(out, "Content-Length: %zu\r\n", length);
    fputs("\r\n", out);
    if (body)
        fwrite(body, 1, length, out);
    fclose(out);
    client_send(client, head, n);
    free(head);
}

/* Waits for more; false at the end of the connection. */
static bool fill(struct client *client)
{
    int64_t deadline = now_ms() + LONGEST_WAIT_MS;
    if (client->held_cap - client->held_length < 65536) {
        client->held_cap = client->held_cap * 2 + 131072;
        client->held = realloc(client->held, client->held_cap);
    }
    for (;;) {
        struct pollfd p = {client->fd, POLLIN, 0};
        REQUIRE(now_ms() < deadline, "the server does not answer");
        if (poll(&p, 1, 1000) <= 0)
            continue;
        ssize_t got =
            recv(client->fd, client->held + client->held_length, client->held_cap - client->held_length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        client->held_length += (size_t)got;
        return true;
    }
}

static void use(struct client *client, size_t n)
{
    memmove(client->held, client->held + n, client->held_length - n);
    client->held_length -= n;
}

/* Up to and with the mark; NULL at the end of the connection. */
static char *read_to(struct client *client, const char *mark)
{
    for (;;) {
        char *at = client->held ? memmem(client->held, client->held_length, mark, strlen(mark)) : NULL;
        if (at) {
            size_t n = (size_t)(at - client->held) + strlen(mark);
            char *text = strndup(client->held, n);
            use(client, n);
            return text;
        }
        if (!fill(client))
            return NULL;
    }
}

static char *read_bytes(struct client *client, size_t n)
{
    while (client->held_length < n)
        if (!fill(client))
            return NULL;
    char *text = malloc(n + 1);
    memcpy(text, client->held, n);
    text[n] = '\0';
    use(client, n);
    return text;
}

struct reply *client_receive_head(struct client *client)
{
    struct reply *reply = calloc(1, sizeof(*reply));
    for (;;) {
        reply->head = read_to(client, "\r\n\r\n");
        if (!reply->head)
            return NULL;
        REQUIRE(sscanf(reply->head, "HTTP/1.1 %d", &reply->status) == 1, "no HTTP: %.200s", reply->head);
        if (reply->status != 100)
            break;
    }
    reply->body = strdup("");
    reply->request = "";
    const char *coding = header(reply, "Transfer-Encoding");
    client->chunked = coding && strcasecmp(coding, "chunked") == 0;
    client->until_close = !client->chunked && !header(reply, "Content-Length");
    return reply;
}

static char *read_chunk(struct client *client, size_t *length)
{
    char *line = read_to(client, "\r\n");
    if (!line)
        return NULL;
    *length = strtoul(line, NULL, 16);
    char *bytes = read_bytes(client, *length);
    if (!bytes || !read_to(client, "\r\n"))
        return NULL;
    return bytes;
}

char *client_receive_piece(struct client *client)
{
    size_t length = 0;
    if (client->chunked) {
        char *bytes = read_chunk(client, &length);
        return bytes && length > 0 ? bytes : NULL;
    }
    while (client->held_length == 0)
        if (!fill(client))
            return NULL;
    return read_bytes(client, client->held_length);
}

static bool read_body(struct client *client, struct reply *reply)
{
    char *length = header(reply, "Content-Length");
    if (client->chunked) {
        char *body = NULL;
        FILE *out = open_memstream(&body, &reply->length);
        for (size_t n = 1; n > 0;) {
            char *bytes = read_chunk(client, &n);
            if (!bytes)
                return false;
            fwrite(bytes, 1, n, out);
            free(bytes);
        }
        fclose(out);
        reply->body = body;
        return true;
    }
    if (length) {
        reply->length = strtoul(length, NULL, 10);
        reply->body = read_bytes(client, reply->length);
        return reply->body != NULL;
    }
    while (fill(client))
        ;
    reply->length = client->held_length;
    reply->body = read_bytes(client, client->held_length);
    return true;
}

struct reply *client_receive(struct client *client, bool of_head_request)
{
    struct reply *reply = client_receive_head(client);
    if (!reply)
        return NULL;
    if (of_head_request || reply->status == 204 || reply->status == 304)
        return reply;
    return read_body(client, reply) ? reply : NULL;
}

struct reply *ask_bytes(struct server *server, const char *method, const char *path, const char *headers,
                        const char *body, size_t length)
{
    struct client *client = client_open(server);
    client_ask(client, method, path, headers, body, length);
    struct reply *reply = client_receive(client, strcmp(method, "HEAD") == 0);
    REQUIRE(reply, "%s %s: the connection was closed without an answer", method, path);
    reply->request = format("%s %.300s", method, path);
    client_close(client);
    record(method, path, headers, body, length, reply);
    return reply;
}

struct reply *ask(struct server *server, const char *method, const char *path, const char *headers,
                  const char *body)
{
    return ask_bytes(server, method, path, headers, body, body ? strlen(body) : 0);
}
