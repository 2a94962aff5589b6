/* Times pages: PROGRAM WHERE FILE CLIENTS. The lines of FILE are statements or paths. For each number that comes on
 * stdin every client makes so many pages, all clients at once; then a line goes out with the bytes of a page, the
 * time from the first page to the last and the time of every page, in microseconds. */
#include "page.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_LINES = 4096, MOST_CLIENTS = 64 };

struct task {
    pthread_t thread;
    struct client *client;
    int pages;
    size_t bytes;
    double *took;
};

void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int read_lines(const char *name, char **lines)
{
    FILE *file = fopen(name, "r");
    size_t room = 0;
    int count = 0;
    if (!file)
        fail(name, "cannot be read");
    while (count < MOST_LINES && getline(&lines[count], &room, file) > 0) {
        lines[count][strcspn(lines[count], "\n")] = 0;
        count++;
        room = 0;
    }
    fclose(file);
    return count;
}

static void *make_pages(void *argument)
{
    struct task *task = argument;
    for (int page = 0; page < task->pages; page++) {
        double begin = now();
        task->bytes = client_page(task->client);
        task->took[page] = now() - begin;
    }
    return NULL;
}

static void run(struct task *tasks, int clients, int pages)
{
    double begin = now(), took;
    for (int i = 0; i < clients; i++) {
        tasks[i].pages = pages;
        tasks[i].took = malloc(sizeof(double) * pages);
        /* One client needs no thread, whose start would count. */
        if (clients == 1)
            make_pages(&tasks[i]);
        else
            pthread_create(&tasks[i].thread, NULL, make_pages, &tasks[i]);
    }
    for (int i = 0; i < clients && clients > 1; i++)
        pthread_join(tasks[i].thread, NULL);
    took = now() - begin;
    printf("%zu %.1f", tasks[0].bytes, took);
    for (int i = 0; i < clients; i++) {
        for (int page = 0; page < pages; page++)
            printf(" %.1f", tasks[i].took[page]);
        free(tasks[i].took);
    }
    printf("\n");
    fflush(stdout);
}

int main(int count, char **words)
{
    static char *lines[MOST_LINES];
    static struct task tasks[MOST_CLIENTS];
    char number[32];
    if (count != 4)
        fail(words[0], "WHERE FILE CLIENTS");
    int queries = read_lines(words[2], lines), clients = atoi(words[3]);
    if (clients < 1 || clients > MOST_CLIENTS)
        fail("CLIENTS", words[3]);
    for (int i = 0; i < clients; i++)
        tasks[i].client = client_open(words[1], lines, queries, i);
    while (fgets(number, sizeof number, stdin))
        run(tasks, clients, atoi(number));
    return 0;
}
