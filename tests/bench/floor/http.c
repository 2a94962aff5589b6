/* Not a floor: the client that requests pages of an exporter, so that all are timed by the same loop. WHERE is
 * "PORT ENCODING"; client number i requests line i of the paths. */
#define _GNU_SOURCE /* memmem */
#include "page.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 18 };

struct client {
    int socket;
    char request[1024];
    char answer[ROOM];
};

struct client *client_open(const char *where, char **lines, int count, int index)
{
    struct client *client = calloc(1, sizeof *client);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    unsigned int port;
    char encoding[32];
    int yes = 1;
    if (sscanf(where, "%u %31s", &port, encoding) != 2)
        fail(where, "is not PORT ENCODING");
    address.sin_port = htons(port);
    client->socket = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(client->socket, (struct sockaddr *)&address, sizeof address))
        fail(where, "does not accept connections");
    snprintf(client->request, sizeof client->request, "GET %s HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: %s\r\n\r\n",
             lines[index % count], encoding);
    return client;
}

static size_t receive(struct client *client, size_t from)
{
    ssize_t count = recv(client->socket, client->answer + from, ROOM - 1 - from, 0);
    if (count <= 0)
        fail("the exporter", "closed the connection");
    return (size_t)count;
}

/* What stands behind the last chunk of a body in chunks. No exposition contains it. */
static const char LAST[] = "\r\n0\r\n\r\n";
enum { TAIL = sizeof LAST - 1 };

/* Reads the head: the length of the body, or 0 where it comes in chunks. The body's first bytes are moved to the
 * start of the answer, *extra of them. */
static size_t head(struct client *client, size_t *extra)
{
    size_t length = 0;
    char *end = NULL, *field;
    while (!end) {
        length += receive(client, length);
        end = memmem(client->answer, length, "\r\n\r\n", 4);
    }
    *end = 0;
    if (strncmp(client->answer, "HTTP/1.1 200", 12))
        fail("the exporter answered", client->answer);
    *extra = length - (size_t)(end + 4 - client->answer);
    field = strcasestr(client->answer, "\r\nContent-Length:");
    if (!field && !strcasestr(client->answer, "\r\nTransfer-Encoding: chunked"))
        fail("the exporter's head has neither Content-Length nor chunks", client->answer);
    length = field ? strtoul(field + 17, NULL, 10) : 0;
    memmove(client->answer, end + 4, *extra);
    return length;
}

/* Reads chunks to the last one; the first `got` bytes are there. */
static size_t chunks(struct client *client, size_t got)
{
    size_t kept = got, total = got;
    while (kept < TAIL || memcmp(client->answer + kept - TAIL, LAST, TAIL)) {
        size_t tail = kept < TAIL ? kept : TAIL;
        memmove(client->answer, client->answer + kept - tail, tail);
        got = receive(client, tail);
        kept = tail + got;
        total += got;
    }
    return total;
}

size_t client_page(struct client *client)
{
    size_t got, length, request = strlen(client->request);
    if (send(client->socket, client->request, request, MSG_NOSIGNAL) != (ssize_t)request)
        fail("the exporter", "takes no request");
    length = head(client, &got);
    if (!length)
        return chunks(client, got);
    while (got < length)
        got += receive(client, 0);
    return length;
}
