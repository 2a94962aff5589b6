/* The floor on SQLite: every statement prepared once, all of them in one read transaction. WHERE is the file. */
#include "page.h"
#include "text.h"

#include <sqlite3.h>
#include <stdlib.h>

struct client {
    sqlite3 *database;
    sqlite3_stmt **statements;
    struct text text;
    int count;
};

struct client *client_open(const char *where, char **lines, int count, int index)
{
    struct client *client = calloc(1, sizeof *client);
    (void)index;
    if (sqlite3_open_v2(where, &client->database, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        fail(where, sqlite3_errmsg(client->database));
    client->count = count;
    client->statements = calloc(count, sizeof *client->statements);
    for (int i = 0; i < count; i++)
        if (sqlite3_prepare_v2(client->database, lines[i], -1, &client->statements[i], NULL) != SQLITE_OK)
            fail(lines[i], sqlite3_errmsg(client->database));
    return client;
}

static void write_row(struct text *text, sqlite3_stmt *statement, int query)
{
    int value = sqlite3_column_count(statement) - 1;
    text_name(text, query);
    for (int i = 0; i < value; i++)
        text_label(text, i, sqlite3_column_name(statement, i), (const char *)sqlite3_column_text(statement, i),
                   sqlite3_column_bytes(statement, i));
    text_value(text, (const char *)sqlite3_column_text(statement, value), sqlite3_column_bytes(statement, value));
}

static void run(struct client *client, int query)
{
    sqlite3_stmt *statement = client->statements[query];
    text_head(&client->text, query);
    while (sqlite3_step(statement) == SQLITE_ROW)
        write_row(&client->text, statement, query);
    if (sqlite3_reset(statement) != SQLITE_OK)
        fail("SQLite", sqlite3_errmsg(client->database));
}

size_t client_page(struct client *client)
{
    client->text.length = 0;
    sqlite3_exec(client->database, "BEGIN", NULL, NULL, NULL);
    for (int i = 0; i < client->count; i++)
        run(client, i);
    sqlite3_exec(client->database, "COMMIT", NULL, NULL, NULL);
    return client->text.length;
}
