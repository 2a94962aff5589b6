/* A relay that adds a delay each way: PROGRAM LISTEN_PORT TARGET_PORT MICROSECONDS. What is read is written that much
 * later; what comes meanwhile waits behind it and no longer. */
#define _GNU_SOURCE /* ppoll */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNKS = 64, ROOM = 1 << 16 };

struct chunk {
    double due;
    size_t length;
    char bytes[ROOM];
};

/* One direction of a connection: a ring of chunks on their way. */
struct way {
    int from, to, ended;
    unsigned first, count;
    struct chunk chunks[CHUNKS];
};

static double delay;
static struct sockaddr_in target = {.sin_family = AF_INET, .sin_addr = {0}};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void read_chunk(struct way *way)
{
    struct chunk *chunk = &way->chunks[(way->first + way->count) % CHUNKS];
    ssize_t length = recv(way->from, chunk->bytes, ROOM, 0);
    if (length <= 0) {
        way->ended = 1;
        return;
    }
    chunk->length = (size_t)length;
    chunk->due = now() + delay;
    way->count++;
}

static void write_due(struct way *way)
{
    while (way->count && way->chunks[way->first].due <= now()) {
        struct chunk *chunk = &way->chunks[way->first];
        for (size_t sent = 0; sent < chunk->length;) {
            ssize_t length = send(way->to, chunk->bytes + sent, chunk->length - sent, MSG_NOSIGNAL);
            if (length <= 0) {
                way->ended = 1;
                return;
            }
            sent += (size_t)length;
        }
        way->first = (way->first + 1) % CHUNKS;
        way->count--;
    }
}

static double earliest(struct way *ways)
{
    double due = now() + 1e6;
    for (int i = 0; i < 2; i++)
        if (ways[i].count && ways[i].chunks[ways[i].first].due < due)
            due = ways[i].chunks[ways[i].first].due;
    return due;
}

static void turn(struct way *ways)
{
    struct pollfd files[2];
    for (int i = 0; i < 2; i++)
        files[i] = (struct pollfd){.fd = ways[i].from, .events = ways[i].count < CHUNKS ? POLLIN : 0};
    double wait = earliest(ways) - now();
    if (wait < 0)
        wait = 0;
    struct timespec time = {.tv_sec = wait / 1e6, .tv_nsec = (long)(wait * 1e3) % 1000000000};
    ppoll(files, 2, &time, NULL);
    for (int i = 0; i < 2; i++) {
        if (files[i].revents)
            read_chunk(&ways[i]);
        write_due(&ways[i]);
    }
}

static void *relay(void *argument)
{
    struct way *ways = argument;
    prctl(PR_SET_TIMERSLACK, 1);
    while (!ways[0].ended && !ways[1].ended)
        turn(ways);
    close(ways[0].from);
    close(ways[1].from);
    free(ways);
    return NULL;
}

static void accept_one(int listener)
{
    pthread_t thread;
    int yes = 1, near = accept(listener, NULL, NULL), far = socket(AF_INET, SOCK_STREAM, 0);
    struct way *ways = calloc(2, sizeof *ways);
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (near < 0 || connect(far, (struct sockaddr *)&target, sizeof target))
        exit(1);
    ways[0].from = ways[1].to = near;
    ways[1].from = ways[0].to = far;
    pthread_create(&thread, NULL, relay, ways);
    pthread_detach(thread);
}

int main(int count, char **words)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (count != 4)
        return 2;
    address.sin_port = htons((unsigned short)atoi(words[1]));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target.sin_port = htons((unsigned short)atoi(words[2]));
    delay = atof(words[3]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16))
        return 1;
    for (;;)
        accept_one(listener);
}
